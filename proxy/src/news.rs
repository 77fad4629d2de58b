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

/// What cannot be passed on, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unusable(pub &'static str);

/// The longest `params` that are passed on, in bytes: many are kept for readers that lag behind.
const LONGEST: usize = 64 << 10;

impl News {
    /// The news in a notification; none if it is a notification of another kind.
    pub fn read(told: &str, params: Option<&str>) -> Result<Option<News>, Unusable> {
        let whole = || match params {
            Some(params) if params.len() > LONGEST => Err(Unusable("its params are too long")),
            Some(params) => Ok(params),
            None => Err(Unusable("it has no params")),
        };
        Ok(Some(match told {
            method::TOOLS_CHANGED => News::ToolsChanged,
            method::RESOURCES_CHANGED => News::ResourcesChanged,
            method::PROMPTS_CHANGED => News::PromptsChanged,
            method::RESOURCE_UPDATED => {
                let params = whole()?;
                let uri = uri(params).ok_or(Unusable("it has no uri"))?;
                News::ResourceUpdated { uri: uri.into(), params: params.into() }
            }
            method::TASKS => News::Task { params: whole()?.into() },
            _ => return Ok(None),
        }))
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
        assert_eq!(News::read("notifications/tools/list_changed", None), Ok(Some(News::ToolsChanged)));
        let params = r#"{"_meta":{"a":1},"uri":"test:\/\/x"}"#;
        let updated = News::ResourceUpdated { uri: "test://x".into(), params: params.into() };
        assert_eq!(News::read("notifications/resources/updated", Some(params)), Ok(Some(updated)));
        assert_eq!(News::read("notifications/message", None), Ok(None));
        let long = format!(r#"{{"uri":"{}"}}"#, "x".repeat(LONGEST));
        for params in [Some("{}"), Some(&*long), None] {
            assert!(News::read("notifications/resources/updated", params).is_err());
        }
    }
}
