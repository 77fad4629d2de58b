//! Notifications of a server that belong to no request: changes of its lists and resources.

use std::borrow::Cow;
use std::sync::Arc;

use protocol::mcp::method;
use serde::Deserialize;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpstreamEvent {
    ToolsChanged,
    ResourcesChanged,
    PromptsChanged,
    /// A resource changed. `params` is the raw JSON object of the notification.
    ResourceUpdated {
        uri: Arc<str>,
        params: Arc<str>,
    },
}

/// Callback for an upstream's events, which never waits.
pub type Publish = Arc<dyn Fn(UpstreamEvent) + Send + Sync>;

/// Reason why a notification is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unusable(pub &'static str);

/// The longest `params` of an event in bytes: many events are kept for readers that lag behind.
const LONGEST: usize = 64 << 10;

impl UpstreamEvent {
    /// Returns the bit of a changed list in the change counter of an upstream; 0 for a resource.
    pub const fn list_bit(&self) -> u64 {
        match self {
            UpstreamEvent::ToolsChanged => 1 << 31,
            UpstreamEvent::ResourcesChanged => 1 << 30,
            UpstreamEvent::PromptsChanged => 1 << 29,
            UpstreamEvent::ResourceUpdated { .. } => 0,
        }
    }

    /// Returns the event of a notification; `None` for other notifications.
    pub fn read(notified: &str, params: Option<&str>) -> Result<Option<UpstreamEvent>, Unusable> {
        Ok(Some(match notified {
            method::TOOLS_CHANGED => UpstreamEvent::ToolsChanged,
            method::RESOURCES_CHANGED => UpstreamEvent::ResourcesChanged,
            method::PROMPTS_CHANGED => UpstreamEvent::PromptsChanged,
            method::RESOURCE_UPDATED => {
                let params = params.ok_or(Unusable("it has no params"))?;
                if params.len() > LONGEST {
                    return Err(Unusable("its params are too long"));
                }
                let uri = uri(params).ok_or(Unusable("it has no uri"))?;
                UpstreamEvent::ResourceUpdated { uri: uri.into(), params: params.into() }
            }
            _ => return Ok(None),
        }))
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
    fn events_are_read_off_notifications() {
        let read = UpstreamEvent::read;
        assert_eq!(read("notifications/tools/list_changed", None), Ok(Some(UpstreamEvent::ToolsChanged)));
        let params = r#"{"_meta":{"a":1},"uri":"test:\/\/x"}"#;
        let updated = UpstreamEvent::ResourceUpdated { uri: "test://x".into(), params: params.into() };
        assert_eq!(read("notifications/resources/updated", Some(params)), Ok(Some(updated)));
        assert_eq!(read("notifications/message", None), Ok(None));
        let long = format!(r#"{{"uri":"{}"}}"#, "x".repeat(LONGEST));
        for params in [Some("{}"), Some(&*long), None] {
            assert!(read("notifications/resources/updated", params).is_err());
        }
    }
}
