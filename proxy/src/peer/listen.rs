//! `subscriptions/listen` to a modern server: one request for all subscriptions, reopened when these change
//! or the request ends. The old request ends after the new one opens, so that no event is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::mcp::Era;
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::events::UpstreamEvent;
use super::{Connection, gateway_client, message};
use crate::backoff::Backoff;
use crate::upstream::{Failure, UpstreamAnswer};

/// Time for a server to acknowledge.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(30);
/// Pauses before an ended or failed listen is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Time after which an end does not count as a failure.
const STEADY: Duration = Duration::from_secs(10);

/// Resources whose changes the server announces; `None` if unspecified.
pub type Honoured = Option<BTreeSet<String>>;

/// Id of an acknowledged `subscriptions/listen`, and the resources that the server honours.
pub type Acknowledged = (u64, Honoured);

/// Reason why a `subscriptions/listen` is not open.
#[derive(Clone, Debug)]
pub enum ListenError {
    /// The raw JSON-RPC error of the server.
    Refused(Bytes),
    /// An HTTP status without a JSON-RPC error: the server has no such method.
    NotThere(Refusal),
    Failed(Refusal),
}

impl ListenError {
    pub fn failed(server: &str, what: &str) -> ListenError {
        ListenError::Failed(Refusal::new(Code::UpstreamFailed, format!("`{server}` {what}")))
    }

    /// Returns the error for an answer instead of an acknowledgement.
    pub fn of_answer(server: &str, answer: UpstreamAnswer) -> ListenError {
        match answer {
            UpstreamAnswer::Error(error) => ListenError::Refused(error),
            UpstreamAnswer::Result(_) => ListenError::failed(server, "did not acknowledge a subscription"),
        }
    }

    /// Returns true if the server does not know the method, so that retries are in vain.
    fn is_final(&self) -> bool {
        match self {
            ListenError::Refused(error) => message::code(error) == Some(Code::MethodNotFound.rpc().into()),
            ListenError::NotThere(_) => true,
            ListenError::Failed(_) => false,
        }
    }
}

/// The lists whose changes a server declares in its capabilities.
#[derive(Clone, Copy, Default, Debug)]
pub struct DeclaredLists {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
}

impl DeclaredLists {
    /// Reads the result of `server/discover` or `initialize`. An odd declaration declares nothing, and leaves
    /// the others as they are.
    pub fn read(handshake: &[u8]) -> DeclaredLists {
        let handshake: Value = serde_json::from_slice(handshake).unwrap_or_default();
        let declares = |list: &str| handshake["capabilities"][list]["listChanged"] == true;
        DeclaredLists {
            tools: declares("tools"),
            prompts: declares("prompts"),
            resources: declares("resources"),
        }
    }

    fn declared(&self) -> impl Iterator<Item = (&'static str, UpstreamEvent)> {
        [
            (self.tools, "toolsListChanged", UpstreamEvent::ToolsChanged),
            (self.prompts, "promptsListChanged", UpstreamEvent::PromptsChanged),
            (self.resources, "resourcesListChanged", UpstreamEvent::ResourcesChanged),
        ]
        .into_iter()
        .filter_map(|(declared, name, event)| declared.then_some((name, event)))
    }

    /// Returns the events of changes that may have been missed.
    pub fn events(&self) -> impl Iterator<Item = UpstreamEvent> {
        self.declared().map(|(_, event)| event)
    }
}

/// Subscriptions to resources, and their state at the server.
pub struct Subscriptions {
    lists: DeclaredLists,
    wanted: watch::Sender<Wanted>,
    status: watch::Sender<ListenStatus>,
}

#[derive(Clone, Default)]
struct Wanted {
    uris: BTreeSet<String>,
    /// Number that grows with each change.
    turn: u64,
}

/// Outcome of the last try to listen, with its turn.
#[derive(Clone)]
struct ListenStatus {
    /// One more than the turn; zero before the first try.
    done: u64,
    outcome: Result<Honoured, ListenError>,
}

impl Subscriptions {
    pub fn new(lists: DeclaredLists) -> Self {
        let status = ListenStatus { done: 0, outcome: Ok(None) };
        Self { lists, wanted: watch::Sender::default(), status: watch::Sender::new(status) }
    }

    /// Waits for the end of the first try, up to `at_most`.
    pub async fn first_try(&self, at_most: Duration) {
        let mut status = self.status.subscribe();
        tokio::time::timeout(at_most, status.wait_for(|status| status.done > 0)).await.ok();
    }

    pub async fn subscribe(
        &self,
        server: &str,
        uri: &str,
        deadline: Instant,
    ) -> Result<UpstreamAnswer, Failure> {
        let mut status = self.status.subscribe();
        let mut turn = 0;
        self.wanted.send_modify(|wanted| {
            wanted.uris.insert(uri.to_owned());
            wanted.turn += 1;
            turn = wanted.turn;
        });
        let reached = status.wait_for(|status| status.done > turn);
        let outcome = match tokio::time::timeout_at(deadline.into(), reached).await {
            Ok(Ok(status)) => status.outcome.clone(),
            Ok(Err(_)) | Err(_) => {
                let reason = format!("`{server}` did not acknowledge the subscription in time");
                Err(ListenError::Failed(Refusal::new(Code::TimedOut, reason)))
            }
        };
        let refused = match outcome {
            Ok(honoured) if honoured.as_ref().is_none_or(|uris| uris.contains(uri)) => {
                return Ok(UpstreamAnswer::Result(Bytes::from_static(b"{}")));
            }
            Ok(_) => {
                let message = format!("`{server}` does not send updates of this resource");
                let error =
                    json!({ "code": Code::InvalidParams.rpc(), "message": message, "data": { "uri": uri } });
                Ok(UpstreamAnswer::Error(error.to_string().into()))
            }
            Err(ListenError::Refused(error)) => Ok(UpstreamAnswer::Error(error)),
            Err(ListenError::NotThere(refusal) | ListenError::Failed(refusal)) => {
                Err(Failure { refusal, sent: true })
            }
        };
        self.unsubscribe(uri);
        refused
    }

    pub fn unsubscribe(&self, uri: &str) {
        self.wanted.send_if_modified(|wanted| {
            let gone = wanted.uris.remove(uri);
            wanted.turn += u64::from(gone);
            gone
        });
    }

    /// Returns the `notifications` of a listen; `None` if there are none.
    fn notifications(&self, wanted: &Wanted) -> Option<Map<String, Value>> {
        let lists = self.lists.declared().map(|(name, _)| (name.to_owned(), Value::Bool(true)));
        let mut notifications: Map<String, Value> = lists.collect();
        if !wanted.uris.is_empty() {
            notifications.insert("resourceSubscriptions".to_owned(), json!(wanted.uris));
        }
        (!notifications.is_empty()).then_some(notifications)
    }
}

/// Listens until the connection is closed.
pub async fn run<C: Connection>(connection: Arc<C>, subscriptions: Arc<Subscriptions>) {
    let closed = connection.state().closed.clone();
    tokio::select! {
        () = hold(&connection, &subscriptions) => {}
        () = closed.cancelled() => {}
    }
}

async fn hold<C: Connection>(connection: &Arc<C>, subscriptions: &Subscriptions) {
    let mut changes = subscriptions.wanted.subscribe();
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    // The open listen, and true if events may have been missed before.
    let (mut standing, mut missed) = (None, false);
    loop {
        let wanted = changes.borrow_and_update().clone();
        let outcome = match subscriptions.notifications(&wanted) {
            None => {
                standing = None;
                Ok(None)
            }
            Some(notifications) => open(connection, notifications).await.map(|(listen, honoured)| {
                standing = Some(listen);
                if std::mem::take(&mut missed) {
                    subscriptions.lists.events().for_each(|event| (connection.plan().publish)(event));
                }
                honoured
            }),
        };
        let error = outcome.as_ref().err().cloned();
        subscriptions.status.send_replace(ListenStatus { done: wanted.turn + 1, outcome });
        let begun = Instant::now();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = wait_to_reopen(connection, &mut standing, &mut missed, error, &mut pause, begun) => {}
        }
    }
}

/// Waits for the time to reopen; for ever if a listen is open or a retry is in vain.
async fn wait_to_reopen<C: Connection>(
    connection: &Arc<C>,
    standing: &mut Option<C::Listen>,
    missed: &mut bool,
    mut error: Option<ListenError>,
    pause: &mut Backoff,
    begun: Instant,
) {
    match standing {
        Some(listen) => {
            error = connection.end_of_listen(listen).await.err();
            *standing = None;
        }
        // There are no subscriptions.
        None if error.is_none() => return std::future::pending().await,
        None => {}
    }
    *missed = true;
    if let Some(error) = error.filter(ListenError::is_final) {
        tracing::debug!(server = connection.server(), ?error, "`subscriptions/listen` is not available");
        return std::future::pending().await;
    }
    if begun.elapsed() >= STEADY {
        pause.reset();
    }
    tokio::time::sleep(pause.pause()).await;
}

async fn open<C: Connection>(
    connection: &Arc<C>,
    notifications: Map<String, Value>,
) -> Result<(C::Listen, Honoured), ListenError> {
    let members = Map::from_iter([("notifications".to_owned(), Value::Object(notifications))]);
    let params = gateway_client::params(Era::Modern, &connection.plan().gateway, members);
    let opening = tokio::time::timeout(ACKNOWLEDGEMENT, connection.open_listen(params)).await;
    opening.unwrap_or_else(|_| {
        Err(ListenError::failed(connection.server(), "did not acknowledge a subscription in time"))
    })
}

/// Returns the resources that an acknowledgement names.
pub fn honoured(params: Option<&str>) -> Honoured {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Shape {
        notifications: Option<Subset>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Subset {
        resource_subscriptions: BTreeSet<String>,
    }
    let shape: Shape = serde_json::from_str(params.unwrap_or("{}")).unwrap_or_default();
    shape.notifications.map(|subset| subset.resource_subscriptions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_declared_is_wanted() {
        let read = |text: &str| Subscriptions::new(DeclaredLists::read(text.as_bytes()));
        let subscriptions = read(r#"{"capabilities":{"tools":{"listChanged":true},"prompts":{},"x":1}}"#);
        let notifications = subscriptions.notifications(&Wanted::default()).unwrap();
        assert_eq!(Value::Object(notifications).to_string(), r#"{"toolsListChanged":true}"#);
        assert_eq!(subscriptions.lists.events().collect::<Vec<_>>(), [UpstreamEvent::ToolsChanged]);
        let odd = read(
            r#"{"capabilities":{"tools":{"listChanged":true},"prompts":true,"resources":{"listChanged":1}}}"#,
        );
        assert_eq!(odd.lists.events().collect::<Vec<_>>(), [UpstreamEvent::ToolsChanged]);
        for nothing in ["{}", "nonsense"] {
            assert!(read(nothing).notifications(&Wanted::default()).is_none());
        }
    }

    #[test]
    fn what_was_not_said_counts_as_honoured() {
        let some = honoured(Some(r#"{"notifications":{"resourceSubscriptions":["a"]}}"#)).unwrap();
        assert!(some.contains("a") && !some.contains("b"));
        assert_eq!(honoured(Some(r#"{"notifications":{}}"#)), Some(BTreeSet::new()));
        assert_eq!(honoured(Some("{}")), None);
    }
}
