//! Changes of a server's lists between two discoveries: names of items that came, went, or have another
//! definition, as far as the policy shows them to the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use entity::DiscoveredList;
use jiff::Timestamp;
use proxy::catalog::{ListKind, Listing};
use proxy::policy::Policy;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::rest::describe::Moment;

/// Bytes of a digest: enough to tell the definitions of one name apart.
const DIGEST_BYTES: usize = 12;

/// Changes since the tenant's last discovery of the server. A list is null if it was not given as a whole now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DiscoveryChanges)]
pub struct ChangesBody {
    /// Time of the oldest list that was compared; null if nothing was discovered before.
    #[schema(value_type = Option<Moment>)]
    since: Option<Timestamp>,
    tools: Option<ListChangesBody>,
    resources: Option<ListChangesBody>,
    resource_templates: Option<ListChangesBody>,
    prompts: Option<ListChangesBody>,
}

/// Changes of one list, by the server's own names: URIs of resources, URI templates of templates.
#[derive(Serialize, ToSchema, Default, PartialEq, Debug)]
#[schema(as = ListChanges)]
pub struct ListChangesBody {
    #[schema(example = json!(["get_current_time"]))]
    added: Vec<String>,
    removed: Vec<String>,
    /// Items with another definition under the same name.
    changed: Vec<String>,
}

/// Returns the lists that are whole, to be stored for the next discovery.
pub fn discovered(listings: &[Option<Arc<Listing>>; 4]) -> Vec<DiscoveredList> {
    let whole = ListKind::ALL.into_iter().zip(listings).filter_map(|(kind, listing)| {
        let listing = listing.as_deref().filter(|listing| listing.note.is_none())?;
        let items = listing.items.iter().map(|item| (item.name.to_string(), digest(listing.raw(item))));
        Some(DiscoveredList {
            list: kind.member().to_owned(),
            items: items.collect(),
            listed_at: listing.listed_at,
        })
    });
    whole.collect()
}

impl ChangesBody {
    /// Compares the lists of two discoveries.
    pub fn between(before: &[DiscoveredList], now: &[DiscoveredList], policy: Option<&Policy>) -> Self {
        let mut since = None::<Timestamp>;
        let mut compared = |kind| {
            let now = find(now, kind)?;
            let Some(before) = find(before, kind) else {
                return Some(ListChangesBody::default());
            };
            since = Some(since.map_or(before.listed_at, |since| since.min(before.listed_at)));
            let is_shown = |name: &str| policy.is_none_or(|policy| policy.shows(kind, Some(name)));
            Some(ListChangesBody::between(&before.items, &now.items, is_shown))
        };
        let tools = compared(ListKind::Tools);
        let resources = compared(ListKind::Resources);
        let resource_templates = compared(ListKind::ResourceTemplates);
        let prompts = compared(ListKind::Prompts);
        Self { since, tools, resources, resource_templates, prompts }
    }
}

fn find(lists: &[DiscoveredList], kind: ListKind) -> Option<&DiscoveredList> {
    lists.iter().find(|list| list.list == kind.member())
}

impl ListChangesBody {
    fn between(
        before: &BTreeMap<String, String>,
        now: &BTreeMap<String, String>,
        is_shown: impl Fn(&str) -> bool,
    ) -> Self {
        let missing_in = |other: &BTreeMap<String, String>, items: &BTreeMap<String, String>| {
            let missing = items.keys().filter(|name| !other.contains_key(*name) && is_shown(name));
            missing.cloned().collect()
        };
        let is_other = |(name, digest): &(&String, &String)| {
            before.get(*name).is_some_and(|earlier| earlier != *digest) && is_shown(name)
        };
        Self {
            added: missing_in(before, now),
            removed: missing_in(now, before),
            changed: now.iter().filter(is_other).map(|(name, _)| name.clone()).collect(),
        }
    }
}

/// Returns the digest of a definition in lower-case hex, the same for any order of members and any white space.
fn digest(json: &str) -> String {
    let written =
        serde_json::from_str(json).map_or_else(|_| json.to_owned(), |value| sorted(value).to_string());
    let digest = Sha256::digest(written.as_bytes());
    digest[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sorts the members of all objects.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> = members.into_iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            let members = members.into_iter().map(|(name, value)| (name, sorted(value)));
            Value::Object(members.collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_of_a_definition_counts() {
        let one = digest(r#"{"name":"a","inputSchema":{"type":"object","x":[1,2]}}"#);
        assert_eq!(digest(r#"{ "inputSchema": {"x":[1,2], "type":"object"}, "name": "\u0061" }"#), one);
        assert_ne!(digest(r#"{"name":"a","inputSchema":{"type":"object","x":[2,1]}}"#), one);
        assert_eq!(one.len(), 2 * DIGEST_BYTES);
    }

    #[test]
    fn names_that_are_not_shown_are_left_out() {
        let items = |items: &[(&str, &str)]| {
            items.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect()
        };
        let before = items(&[("a", "1"), ("b", "1"), ("hidden-b", "1"), ("hidden-c", "1")]);
        let now = items(&[("a", "2"), ("c", "1"), ("hidden-a", "1"), ("hidden-c", "2")]);
        let changes = ListChangesBody::between(&before, &now, |name| !name.starts_with("hidden"));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected =
            ListChangesBody { added: names(&["c"]), removed: names(&["b"]), changed: names(&["a"]) };
        assert_eq!(changes, expected);
    }
}
