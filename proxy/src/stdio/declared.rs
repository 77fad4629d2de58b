//! What a modern child says it can be listened to for, and what of it was honoured. It sends nothing.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::news::News;

/// The lists whose changes a child declares.
#[derive(Deserialize, Default)]
pub struct Lists {
    #[serde(default)]
    tools: Option<List>,
    #[serde(default)]
    prompts: Option<List>,
    #[serde(default)]
    resources: Option<List>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    #[serde(default)]
    list_changed: bool,
}

impl Lists {
    pub fn read(discovered: &[u8]) -> Lists {
        #[derive(Deserialize)]
        struct Discovered {
            capabilities: Lists,
        }
        serde_json::from_slice::<Discovered>(discovered).map(|it| it.capabilities).unwrap_or_default()
    }

    fn declared(&self) -> impl Iterator<Item = (&'static str, News)> {
        let declares = |list: &Option<List>| list.as_ref().is_some_and(|list| list.list_changed);
        [
            (declares(&self.tools), "toolsListChanged", News::ToolsChanged),
            (declares(&self.prompts), "promptsListChanged", News::PromptsChanged),
            (declares(&self.resources), "resourcesListChanged", News::ResourcesChanged),
        ]
        .into_iter()
        .filter_map(|(declared, name, news)| declared.then_some((name, news)))
    }

    pub fn any(&self) -> bool {
        self.declared().next().is_some()
    }

    pub fn news(&self) -> impl Iterator<Item = News> {
        self.declared().map(|(_, news)| news)
    }

    pub fn wanted(&self) -> Map<String, Value> {
        self.declared().map(|(name, _)| (name.to_owned(), Value::Bool(true))).collect()
    }
}

/// The resources that a child agreed to; none when it did not say.
pub struct Honoured(Option<Vec<String>>);

impl Honoured {
    pub fn read(params: &str) -> Honoured {
        #[derive(Deserialize)]
        struct Acknowledged {
            notifications: Option<Subset>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Subset {
            #[serde(default)]
            resource_subscriptions: Vec<String>,
        }
        let read = serde_json::from_str::<Acknowledged>(params).ok();
        Honoured(read.and_then(|read| read.notifications).map(|subset| subset.resource_subscriptions))
    }

    pub fn includes(&self, uri: &str) -> bool {
        self.0.as_ref().is_none_or(|uris| uris.iter().any(|honoured| honoured == uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_declared_is_wanted() {
        let lists = Lists::read(br#"{"capabilities":{"tools":{"listChanged":true},"prompts":{},"x":1}}"#);
        assert_eq!(Value::Object(lists.wanted()).to_string(), r#"{"toolsListChanged":true}"#);
        assert_eq!(lists.news().collect::<Vec<_>>(), [News::ToolsChanged]);
        assert!(!Lists::read(b"{}").any() && !Lists::read(b"nonsense").any());
    }

    #[test]
    fn what_was_not_said_counts_as_honoured() {
        let honoured = Honoured::read(r#"{"notifications":{"resourceSubscriptions":["a"]}}"#);
        assert!(honoured.includes("a") && !honoured.includes("b"));
        assert!(!Honoured::read(r#"{"notifications":{}}"#).includes("a"));
        assert!(Honoured::read("{}").includes("a"));
    }
}
