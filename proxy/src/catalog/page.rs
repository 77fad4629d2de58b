//! One page of a list from an MCP server.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::ListKind;

pub struct Page {
    pub items: Vec<Box<RawValue>>,
    /// Cursor of the next page; an empty, null or non-text cursor is none.
    pub next: Option<String>,
}

/// Reads only the members of the list, and ignores all others.
pub fn read(result: &[u8], kind: ListKind) -> Result<Page, String> {
    let members: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(result).map_err(|error| format!("something that is no list: {error}"))?;
    let items = members.get(kind.member()).ok_or_else(|| format!("no `{}`", kind.member()))?;
    let items = serde_json::from_str(items.get())
        .map_err(|error| format!("`{}` that are no list: {error}", kind.member()))?;
    let next = members.get("nextCursor").and_then(|next| serde_json::from_str::<String>(next.get()).ok());
    Ok(Page { items, next: next.filter(|next| !next.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_list_ends() {
        for (next, expected) in [
            (r#","nextCursor":"a""#, Some("a")),
            (r#","nextCursor":"""#, None),
            (r#","nextCursor":null"#, None),
            (r#","nextCursor":7"#, None),
            (r#","resources":7"#, None),
            ("", None),
        ] {
            let page = read(format!(r#"{{"tools":[{{}}]{next}}}"#).as_bytes(), ListKind::Tools).unwrap();
            assert_eq!((page.items.len(), page.next.as_deref()), (1, expected), "{next}");
        }
        for wrong in ["{}", r#"{"tools":null}"#, r#"{"tools":{}}"#] {
            assert!(read(wrong.as_bytes(), ListKind::Tools).is_err(), "{wrong}");
        }
    }
}
