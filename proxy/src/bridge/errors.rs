//! Error codes of the other era (row 11).

use bytes::Bytes;
use protocol::mcp::code;
use protocol::members::raw;
use protocol::{Code, Members};
use serde_json::json;

use super::client::Client;
use crate::peer::message;
use crate::upstream::UpstreamAnswer;

/// Replaces codes of the modern era by general ones.
pub fn to_legacy(error: Bytes) -> Bytes {
    let ordinary = match message::code(&error).and_then(|code| i32::try_from(code).ok()) {
        Some(code::MISSING_CLIENT_CAPABILITY) => Code::InvalidParams,
        Some(code::HEADER_MISMATCH | code::UNSUPPORTED_PROTOCOL_VERSION) => Code::Internal,
        _ => return error,
    };
    with_code(error, ordinary)
}

/// Replaces codes that the modern era reserves by general ones. A URL elicitation error becomes
/// `input_required` if the client supports that mode.
pub fn to_modern(client: &Client, error: Bytes) -> UpstreamAnswer {
    let Some(given) = message::code(&error) else { return UpstreamAnswer::Error(error) };
    if given == i64::from(code::RESOURCE_NOT_FOUND) {
        return UpstreamAnswer::Error(with_code(error, Code::InvalidParams));
    }
    if given == i64::from(code::URL_ELICITATION_REQUIRED) {
        let asked = client.can.elicit_url.then(|| visits(&error)).flatten();
        return asked.map_or_else(
            || UpstreamAnswer::Error(with_code(error, Code::InvalidParams)),
            |asked| UpstreamAnswer::Result(asked.into()),
        );
    }
    if code::RESERVED.contains(&given) {
        return UpstreamAnswer::Error(with_code(error, Code::Internal));
    }
    UpstreamAnswer::Error(error)
}

/// Returns `input_required` with an elicitation for each URL.
fn visits(error: &[u8]) -> Option<String> {
    let error: serde_json::Value = serde_json::from_slice(error).ok()?;
    let visits = error["data"]["elicitations"].as_array().filter(|visits| !visits.is_empty())?;
    let requests: serde_json::Map<_, _> = visits
        .iter()
        .enumerate()
        .map(|(index, visit)| {
            let params = json!({ "mode": "url", "url": visit["url"], "message": visit["message"] });
            (format!("visit-{}", index + 1), json!({ "method": "elicitation/create", "params": params }))
        })
        .collect();
    Some(json!({ "resultType": "input_required", "inputRequests": requests }).to_string())
}

/// Returns the error with another code, and the original one in its data.
fn with_code(error: Bytes, code: Code) -> Bytes {
    let Ok(mut members) = Members::from_slice(&error) else { return error.clone() };
    let given = members.get("code").map(ToOwned::to_owned);
    let data = members.get("data").map(ToOwned::to_owned);
    let mut kept = Members::default();
    if let Some(data) = &data {
        match Members::read(data.get()) {
            Ok(own) => kept = own,
            Err(_) => kept.set("originalData", data.clone()),
        }
    }
    if let Some(given) = given {
        kept.set("originalCode", given);
    }
    members.set("code", raw(code.rpc().to_string()));
    members.set("data", kept.to_raw());
    members.write().into()
}

#[cfg(test)]
mod tests {
    use protocol::mcp::Era;
    use protocol::members::raw;

    use super::*;

    #[test]
    fn reserved_codes_do_not_cross() {
        let legacy = |error: &'static str| to_legacy(Bytes::from_static(error.as_bytes()));
        assert_eq!(
            legacy(r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}"#),
            r#"{"code":-32602,"message":"m","data":{"requiredCapabilities":{},"originalCode":-32021}}"#
        );
        assert_eq!(legacy(r#"{"code":-32602, "message":"m"}"#), r#"{"code":-32602, "message":"m"}"#);
        let modern = |capabilities: &str, error: &'static str| {
            let client = Client::new(Era::Modern, "2026-07-28", Some(raw(capabilities)));
            to_modern(&client, Bytes::from_static(error.as_bytes()))
        };
        let UpstreamAnswer::Error(error) =
            modern("{}", r#"{"code":-32002,"message":"m","data":{"uri":"a:b"}}"#)
        else {
            panic!()
        };
        assert!(error.starts_with(br#"{"code":-32602,"message":"m","data":{"uri":"a:b""#), "{error:?}");
        let visit = r#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://a","message":"go"}]}}"#;
        let UpstreamAnswer::Result(asked) = modern(r#"{"elicitation":{"url":{}}}"#, visit) else { panic!() };
        let asked: serde_json::Value = serde_json::from_slice(&asked).unwrap();
        assert_eq!(asked["inputRequests"]["visit-1"]["params"]["url"], "https://a");
        assert!(asked["inputRequests"]["visit-1"]["params"].get("elicitationId").is_none());
        assert!(matches!(modern("{}", visit), UpstreamAnswer::Error(_)));
    }

    #[test]
    fn data_that_cannot_be_read_is_kept() {
        // A rule of the fuzz target `bridge`.
        let error = br#"{"code":-32021,"data":{"a":1,"a":2}}"#;
        assert_eq!(
            to_legacy(Bytes::from_static(error)),
            r#"{"code":-32602,"data":{"originalData":{"a":1,"a":2},"originalCode":-32021}}"#
        );
    }
}
