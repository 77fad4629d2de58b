//! What a modern server tells by itself: one `subscriptions/listen` held open for all that is wanted, and
//! opened again when that changes or when it breaks. The old one is given up when the new one stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::audience::Whose;
use super::handshake::about_us;
use super::line::{Events, Reply};
use super::link::Link;
use super::message::{self, Message};
use super::standing::Pause;
use crate::egress::Method;
use crate::upstream::{Failure, Params, UpstreamAnswer};

/// How long a server may take to acknowledge.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lists whose changes a server says that it tells of.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lists {
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Lists {
    /// As declared in the result of `server/discover`.
    pub fn declared(discovery: &[u8]) -> Lists {
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct List {
            list_changed: bool,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Capabilities {
            tools: List,
            prompts: List,
            resources: List,
        }
        #[derive(Deserialize)]
        struct Shape {
            capabilities: Capabilities,
        }
        let found = serde_json::from_slice::<Shape>(discovery).map(|shape| shape.capabilities);
        let found = found.unwrap_or_default();
        Lists {
            tools: found.tools.list_changed,
            prompts: found.prompts.list_changed,
            resources: found.resources.list_changed,
        }
    }

    fn any(self) -> bool {
        self.tools || self.prompts || self.resources
    }
}

#[derive(Clone)]
struct Wanted {
    lists: Lists,
    uris: BTreeSet<String>,
    /// Grows with each change.
    turn: u64,
}

/// How far it came.
#[derive(Clone)]
struct Standing {
    turn: u64,
    outcome: Outcome,
}

#[derive(Clone)]
enum Outcome {
    /// The resources that the server will tell of; none where it does not say.
    Acknowledged(Option<BTreeSet<String>>),
    Refused(Bytes),
    Failed(Refusal),
}

pub struct Subscriptions {
    wanted: watch::Sender<Wanted>,
    standing: watch::Sender<Standing>,
}

impl Subscriptions {
    pub fn new(lists: Lists) -> Self {
        let wanted = Wanted { lists, uris: BTreeSet::new(), turn: 0 };
        let standing = Standing { turn: 0, outcome: Outcome::Acknowledged(None) };
        Self { wanted: watch::Sender::new(wanted), standing: watch::Sender::new(standing) }
    }

    pub async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        let mut standing = self.standing.subscribe();
        let mut turn = 0;
        self.wanted.send_modify(|wanted| {
            wanted.uris.insert(uri.to_owned());
            wanted.turn += 1;
            turn = wanted.turn;
        });
        let reached = standing.wait_for(|standing| standing.turn >= turn);
        let outcome = match tokio::time::timeout_at(deadline.into(), reached).await {
            Ok(Ok(standing)) => standing.outcome.clone(),
            Ok(Err(_)) | Err(_) => {
                Outcome::Failed(Refusal::new(Code::TimedOut, "the subscription was not acknowledged in time"))
            }
        };
        match outcome {
            Outcome::Acknowledged(honoured) if honoured.as_ref().is_none_or(|uris| uris.contains(uri)) => {
                Ok(UpstreamAnswer::Result(Bytes::from_static(b"{}")))
            }
            Outcome::Acknowledged(_) => {
                self.unsubscribe(uri);
                let message = "the server does not tell of changes of this resource";
                let error =
                    json!({ "code": Code::InvalidParams.rpc(), "message": message, "data": { "uri": uri } });
                Ok(UpstreamAnswer::Error(error.to_string().into()))
            }
            Outcome::Refused(error) => {
                self.unsubscribe(uri);
                Ok(UpstreamAnswer::Error(error))
            }
            Outcome::Failed(refusal) => {
                self.unsubscribe(uri);
                Err(Failure { refusal, sent: true })
            }
        }
    }

    pub fn unsubscribe(&self, uri: &str) {
        self.wanted.send_if_modified(|wanted| {
            let gone = wanted.uris.remove(uri);
            wanted.turn += u64::from(gone);
            gone
        });
    }

    fn reached(&self, turn: u64, outcome: Outcome) {
        self.standing.send_replace(Standing { turn, outcome });
    }
}

/// Runs until the link is closed.
pub async fn run(link: Arc<Link>, subscriptions: Arc<Subscriptions>) {
    tokio::select! {
        () = hold(&link, &subscriptions) => {}
        () = link.closed.cancelled() => {}
    }
}

/// The stream that stands, and the id of its request.
struct Stream {
    id: u64,
    events: Events,
}

async fn hold(link: &Arc<Link>, subscriptions: &Subscriptions) {
    let mut wanted_now = subscriptions.wanted.subscribe();
    let (mut stream, mut pause) = (None, Pause::default());
    loop {
        let wanted = wanted_now.borrow_and_update().clone();
        let mut try_again = false;
        if !wanted.lists.any() && wanted.uris.is_empty() {
            stream = None;
            subscriptions.reached(wanted.turn, Outcome::Acknowledged(None));
        } else {
            let opened = tokio::time::timeout(PATIENCE, open(link, &wanted)).await;
            let late = || {
                Refusal::new(Code::TimedOut, format!("`{}` did not acknowledge a subscription", link.who()))
            };
            let outcome = match opened {
                Ok(Ok((fresh, honoured))) => {
                    stream = Some(fresh);
                    Outcome::Acknowledged(honoured)
                }
                Ok(Err(outcome)) => outcome,
                Err(_) => Outcome::Failed(late()),
            };
            try_again = matches!(outcome, Outcome::Failed(_));
            subscriptions.reached(wanted.turn, outcome);
        }
        let over = async {
            match &mut stream {
                Some(stream) => read(link, stream).await,
                None if try_again => false,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted_now.changed() => if changed.is_err() { return },
            brought = over => {
                if brought {
                    pause = Pause::default();
                }
                if stream.take().is_some() {
                    link.audience.missed();
                }
                pause.take().await;
            }
        }
    }
}

/// Opens a stream and waits until the server acknowledges it.
async fn open(link: &Arc<Link>, wanted: &Wanted) -> Result<(Stream, Option<BTreeSet<String>>), Outcome> {
    let mut notifications = serde_json::Map::new();
    let Lists { tools, prompts, resources } = wanted.lists;
    for (name, wanted) in
        [("toolsListChanged", tools), ("promptsListChanged", prompts), ("resourcesListChanged", resources)]
    {
        if wanted {
            notifications.insert(name.to_owned(), true.into());
        }
    }
    if !wanted.uris.is_empty() {
        notifications.insert("resourceSubscriptions".to_owned(), json!(wanted.uris));
    }
    let params = json!({ "notifications": notifications, "_meta": about_us(&link.plan) }).to_string();
    let id = link.next_id();
    let body = message::request(id, method::LISTEN, Params::raw(params.as_bytes()));
    let headers = link.headers(method::LISTEN, params.as_bytes(), &[]);
    let odd = |what: String| {
        Outcome::Failed(Refusal::new(Code::UpstreamFailed, format!("`{}` {what}", link.who())))
    };
    match link.line.send(Method::POST, headers, Some(body.into()), None).await {
        Ok((Reply::Events(events), _)) => {
            let mut stream = Stream { id, events };
            let honoured = acknowledged(link, &mut stream).await.map_err(|refused| match refused {
                Some(error) => Outcome::Refused(error),
                None => odd("did not acknowledge a subscription".to_owned()),
            })?;
            Ok((stream, honoured))
        }
        Ok((Reply::Explained { error, .. }, _)) => Err(Outcome::Refused(error)),
        Ok((Reply::Json(text), _)) => match link.take(&text, Some(id), Whose::Anybody, &link.closed) {
            Some(UpstreamAnswer::Error(error)) => Err(Outcome::Refused(error)),
            Some(UpstreamAnswer::Result(_)) | None => {
                Err(odd(format!("answered a subscription with {}", message::excerpt(&text))))
            }
        },
        Ok((Reply::Nothing, _)) => Err(odd("answered a subscription with nothing".to_owned())),
        Err(trouble) => Err(Outcome::Failed(trouble.failure.refusal)),
    }
}

/// The resources of the acknowledgement. An error is the server's own, where there is one.
async fn acknowledged(
    link: &Arc<Link>,
    stream: &mut Stream,
) -> Result<Option<BTreeSet<String>>, Option<Bytes>> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Shape {
        notifications: Option<Honoured>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Honoured {
        resource_subscriptions: BTreeSet<String>,
    }
    loop {
        let Ok(Some(text)) = stream.events.next_message().await else { return Err(None) };
        let messages = message::read(std::str::from_utf8(&text).unwrap_or_default());
        let found = messages.iter().find_map(|message| match message {
            Message::Notification { method, params } if method == method::ACKNOWLEDGED => Some(*params),
            _ => None,
        });
        if let Some(params) = found {
            let shape: Shape = serde_json::from_str(params.unwrap_or("{}")).unwrap_or_default();
            return Ok(shape.notifications.map(|honoured| honoured.resource_subscriptions));
        }
        match link.take(&text, Some(stream.id), Whose::Anybody, &link.closed) {
            Some(UpstreamAnswer::Error(error)) => return Err(Some(error)),
            Some(UpstreamAnswer::Result(_)) => return Err(None),
            None => {}
        }
    }
}

/// Reads a stream to its end; true if it brought anything.
async fn read(link: &Arc<Link>, stream: &mut Stream) -> bool {
    let mut any = false;
    while let Ok(Some(text)) = stream.events.next_message().await {
        any = true;
        if link.take(&text, Some(stream.id), Whose::Anybody, &link.closed).is_some() {
            break;
        }
    }
    any
}
