//! The `subscriptions/listen` of a modern server: one is held open for all that is wanted, opened again
//! when that changes or when it ends. The old one is ended when the new one stands, so nothing is missed.

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

/// How long a server may take to acknowledge.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(30);
/// The pauses before one that ended, or was not opened, is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that lasted this long did not end at once.
const STEADY: Duration = Duration::from_secs(10);

/// The resources whose changes the server will tell; none where it does not say.
pub type Honoured = Option<BTreeSet<String>>;

/// The id of an acknowledged `subscriptions/listen`, and what of it is honoured.
pub type Acknowledged = (u64, Honoured);

/// The reason why a `subscriptions/listen` does not stand.
#[derive(Clone, Debug)]
pub enum ListenError {
    /// The raw JSON-RPC error of the server.
    Refused(Bytes),
    /// The server answered that there is no such thing, by a status without a JSON-RPC error.
    NotThere(Refusal),
    Failed(Refusal),
}

impl ListenError {
    pub fn failed(server: &str, what: &str) -> ListenError {
        ListenError::Failed(Refusal::new(Code::UpstreamFailed, format!("`{server}` {what}")))
    }

    /// Returns what an answer means that came instead of an acknowledgement.
    pub fn of_answer(server: &str, answer: UpstreamAnswer) -> ListenError {
        match answer {
            UpstreamAnswer::Error(error) => ListenError::Refused(error),
            UpstreamAnswer::Result(_) => ListenError::failed(server, "did not acknowledge a subscription"),
        }
    }

    /// Returns whether the server does not know the method, so that trying again is in vain.
    fn is_final(&self) -> bool {
        match self {
            ListenError::Refused(error) => message::code(error) == Some(Code::MethodNotFound.rpc().into()),
            ListenError::NotThere(_) => true,
            ListenError::Failed(_) => false,
        }
    }
}

/// The lists whose changes a server declares in its capabilities.
#[derive(Clone, Deserialize, Default, Debug)]
#[serde(default)]
pub struct DeclaredLists {
    tools: Option<List>,
    prompts: Option<List>,
    resources: Option<List>,
}

#[derive(Clone, Deserialize, Default, Debug)]
#[serde(default, rename_all = "camelCase")]
struct List {
    list_changed: bool,
}

impl DeclaredLists {
    /// Reads the result of `server/discover` or `initialize`.
    pub fn read(handshake: &[u8]) -> DeclaredLists {
        #[derive(Deserialize)]
        struct Shape {
            capabilities: DeclaredLists,
        }
        serde_json::from_slice::<Shape>(handshake).map(|shape| shape.capabilities).unwrap_or_default()
    }

    fn declared(&self) -> impl Iterator<Item = (&'static str, UpstreamEvent)> {
        let declares = |list: &Option<List>| list.as_ref().is_some_and(|list| list.list_changed);
        [
            (declares(&self.tools), "toolsListChanged", UpstreamEvent::ToolsChanged),
            (declares(&self.prompts), "promptsListChanged", UpstreamEvent::PromptsChanged),
            (declares(&self.resources), "resourcesListChanged", UpstreamEvent::ResourcesChanged),
        ]
        .into_iter()
        .filter_map(|(declared, name, event)| declared.then_some((name, event)))
    }

    /// Returns the events of changes that may have been missed.
    pub fn events(&self) -> impl Iterator<Item = UpstreamEvent> {
        self.declared().map(|(_, event)| event)
    }
}

/// The resources that are wanted, and how far the server has acknowledged them.
pub struct Subscriptions {
    lists: DeclaredLists,
    wanted: watch::Sender<Wanted>,
    status: watch::Sender<ListenStatus>,
}

#[derive(Clone, Default)]
struct Wanted {
    uris: BTreeSet<String>,
    /// Grows with each change.
    turn: u64,
}

/// The outcome of the last try to listen for what was wanted at a turn.
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

    /// Waits until the first try is over, at most that long.
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
                let message = format!("`{server}` does not tell when this resource changes");
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

    /// Returns what the listen asks for; none where there is nothing to listen for.
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
    // The listen that stands, and whether events may have been missed before it.
    let (mut standing, mut missed) = (None, false);
    loop {
        let wanted = changes.borrow_and_update().clone();
        let mut error = None;
        let outcome = match subscriptions.notifications(&wanted) {
            None => {
                standing = None;
                Ok(None)
            }
            Some(notifications) => match open(connection, notifications).await {
                Ok((listen, honoured)) => {
                    standing = Some(listen);
                    if std::mem::take(&mut missed) {
                        subscriptions.lists.events().for_each(|event| (connection.plan().publish)(event));
                    }
                    Ok(honoured)
                }
                Err(refused) => {
                    error = Some(refused.clone());
                    Err(refused)
                }
            },
        };
        subscriptions.status.send_replace(ListenStatus { done: wanted.turn + 1, outcome });
        let begun = Instant::now();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = wait_to_reopen(connection, &mut standing, &mut missed, error, &mut pause, begun) => {}
        }
    }
}

/// Waits until it is time to open the listen again; for ever while one stands, or where that is in vain.
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
        // Nothing is wanted.
        None if error.is_none() => return std::future::pending().await,
        None => {}
    }
    *missed = true;
    if let Some(error) = error.filter(ListenError::is_final) {
        tracing::debug!(server = connection.server(), ?error, "it cannot be listened to");
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
