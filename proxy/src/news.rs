//! What upstreams tell that belongs to no request, and how it is read off the wire. It does not know
//! who wants to hear it.

use std::borrow::Cow;
use std::sync::Arc;

use protocol::mcp::method;
use serde::Deserialize;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    ToolsChanged,
    ResourcesChanged,
    PromptsChanged,
    /// A resource that somebody subscribed to changed. `params` is the raw JSON object.
    ResourceUpdated {
        uri: Arc<str>,
        params: Arc<str>,
    },
    /// A task of the tasks extension changed. `params` is the raw JSON object.
    Task {
        params: Arc<str>,
    },
}

/// Where an upstream's news go. It never waits.
pub type Tell = Arc<dyn Fn(News) + Send + Sync>;

impl News {
    /// The news in a notification; none if it is another kind of notification, or says too little.
    pub fn read(told: &str, params: Option<&str>) -> Option<News> {
        Some(match told {
            method::TOOLS_CHANGED => News::ToolsChanged,
            method::RESOURCES_CHANGED => News::ResourcesChanged,
            method::PROMPTS_CHANGED => News::PromptsChanged,
            method::RESOURCE_UPDATED => {
                let params = params?;
                News::ResourceUpdated { uri: uri(params)?.into(), params: params.into() }
            }
            method::TASKS => News::Task { params: params?.into() },
            _ => return None,
        })
    }

    /// Whether a list that was read earlier may be wrong now.
    pub fn is_list_change(&self) -> bool {
        match self {
            News::ToolsChanged | News::ResourcesChanged | News::PromptsChanged => true,
            News::ResourceUpdated { .. } | News::Task { .. } => false,
        }
    }
}

fn uri(params: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Updated<'a> {
        #[serde(borrow)]
        uri: Cow<'a, str>,
    }
    serde_json::from_str::<Updated<'_>>(params).ok().map(|updated| updated.uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_off_notifications() {
        assert_eq!(News::read("notifications/tools/list_changed", None), Some(News::ToolsChanged));
        let params = r#"{"_meta":{"a":1},"uri":"test:\/\/x"}"#;
        let updated = News::ResourceUpdated { uri: "test://x".into(), params: params.into() };
        assert_eq!(News::read("notifications/resources/updated", Some(params)), Some(updated));
        for (told, params) in
            [("notifications/resources/updated", Some("{}")), ("notifications/message", None)]
        {
            assert_eq!(News::read(told, params), None, "{told}");
        }
    }
}
