//! What a modern server tells by itself: one `subscriptions/listen` held open for all that is wanted, and
//! opened again when that changes or when it breaks. The old one is given up when the new one stands.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::handshake::about_us;
use super::plan::RemotePlan;
use super::standing::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::backoff::Backoff;
use crate::upstream::{Failure, UpstreamAnswer};

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
pub enum Outcome {
    Acknowledged(Honoured),
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

/// How a subscription is opened and read; by transport.
pub trait Source: Send + Sync {
    type Stream: Send;

    fn who(&self) -> &str;
    /// Ends with the upstream.
    fn closed(&self) -> &CancellationToken;
    /// What was listed before may be stale.
    fn missed(&self);
    /// Sends the `params` of a listening request and waits until the server acknowledges it.
    fn open(&self, params: &str) -> impl Future<Output = Result<(Self::Stream, Honoured), Outcome>> + Send;
    /// Reads to the end; true if it brought anything.
    fn read(&self, stream: &mut Self::Stream) -> impl Future<Output = bool> + Send;
}

/// The resources that the server will tell of; none where it does not say.
pub type Honoured = Option<BTreeSet<String>>;

/// Runs until the upstream is closed.
pub async fn run<S: Source>(source: S, plan: RemotePlan, subscriptions: Arc<Subscriptions>) {
    tokio::select! {
        () = hold(&source, &plan, &subscriptions) => {}
        () = source.closed().cancelled() => {}
    }
}

async fn hold<S: Source>(source: &S, plan: &RemotePlan, subscriptions: &Subscriptions) {
    let mut wanted_now = subscriptions.wanted.subscribe();
    let (mut stream, mut pause) = (None, Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
    loop {
        let wanted = wanted_now.borrow_and_update().clone();
        let mut try_again = false;
        if !wanted.lists.any() && wanted.uris.is_empty() {
            stream = None;
            subscriptions.reached(wanted.turn, Outcome::Acknowledged(None));
        } else {
            let params = wanted.params(plan);
            let opened = tokio::time::timeout(PATIENCE, source.open(&params)).await;
            let outcome = match opened {
                Ok(Ok((fresh, honoured))) => {
                    stream = Some(fresh);
                    Outcome::Acknowledged(honoured)
                }
                Ok(Err(outcome)) => outcome,
                Err(_) => Outcome::failed(source.who(), "did not acknowledge a subscription in time"),
            };
            try_again = matches!(outcome, Outcome::Failed(_));
            subscriptions.reached(wanted.turn, outcome);
        }
        let begun = Instant::now();
        let over = async {
            match &mut stream {
                Some(stream) => source.read(stream).await,
                None if try_again => false,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted_now.changed() => if changed.is_err() { return },
            brought = over => {
                if brought || begun.elapsed() > LONGEST_PAUSE {
                    pause.reset();
                }
                if stream.take().is_some() {
                    source.missed();
                }
                tokio::time::sleep(pause.pause()).await;
            }
        }
    }
}

impl Wanted {
    fn params(&self, plan: &RemotePlan) -> String {
        let mut notifications = serde_json::Map::new();
        let Lists { tools, prompts, resources } = self.lists;
        for (name, wanted) in [
            ("toolsListChanged", tools),
            ("promptsListChanged", prompts),
            ("resourcesListChanged", resources),
        ] {
            if wanted {
                notifications.insert(name.to_owned(), true.into());
            }
        }
        if !self.uris.is_empty() {
            notifications.insert("resourceSubscriptions".to_owned(), json!(self.uris));
        }
        json!({ "notifications": notifications, "_meta": about_us(plan) }).to_string()
    }
}

impl Outcome {
    pub fn failed(who: &str, what: &str) -> Outcome {
        Outcome::Failed(Refusal::new(Code::UpstreamFailed, format!("`{who}` {what}")))
    }
}

/// The resources that an acknowledgement names.
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
