//! Resource URIs: a resource of the whole catalog is answered under the URI of its request, also where its
//! server uses its own.

use bytes::Bytes;
use protocol::members::raw;
use protocol::{Members, names};
use serde_json::value::RawValue;

/// Writes the requested URI in the place of the server's own, in a result or error of `resources/read`.
pub fn under(requested: &str, answer: Bytes) -> Bytes {
    let Some((_, own)) = names::split_resource(requested) else { return answer };
    let edited = || -> Option<String> {
        let mut members = Members::from_slice(&answer).ok()?;
        if let Some(contents) = members.get("contents") {
            let contents: Vec<&RawValue> = serde_json::from_str(contents.get()).ok()?;
            let contents: Vec<String> =
                contents.into_iter().map(|one| renamed(one, &own, requested)).collect();
            let contents = raw(format!("[{}]", contents.join(",")));
            members.set("contents", contents);
        } else {
            let data = renamed(members.get("data")?, &own, requested);
            members.set("data", raw(data));
        }
        Some(members.write())
    };
    edited().map_or_else(|| answer.clone(), Bytes::from)
}

/// Replaces an object's `uri`, if it is the server's own.
fn renamed(object: &RawValue, own: &str, requested: &str) -> String {
    let edited = || -> Option<String> {
        let mut members = Members::read(object.get()).ok()?;
        let uri: String = serde_json::from_str(members.get("uri")?.get()).ok()?;
        (uri == own).then(|| {
            members.set_text("uri", requested);
            members.write()
        })
    };
    edited().unwrap_or_else(|| object.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_resource_itself_is_renamed() {
        let under = |requested: &str, answer: &'static str| {
            String::from_utf8(under(requested, Bytes::from_static(answer.as_bytes())).to_vec()).unwrap()
        };
        assert_eq!(
            under("s+a:b", r#"{"contents":[{"uri":"a:b","text": "x"},{"uri":"a:c"}],"x":1.0}"#),
            r#"{"contents":[{"uri":"s+a:b","text":"x"},{"uri":"a:c"}],"x":1.0}"#
        );
        assert_eq!(
            under("s+a:b", r#"{"code":-32602,"data":{"uri":"a:b"}}"#),
            r#"{"code":-32602,"data":{"uri":"s+a:b"}}"#
        );
        assert_eq!(under("s+a:b", r#"{"code":-1,"message":"m"}"#), r#"{"code":-1,"message":"m"}"#);
        assert_eq!(under("a:b", r#"{ "contents": [] }"#), r#"{ "contents": [] }"#);
    }
}
