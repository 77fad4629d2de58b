//! What a modern child is listened to for: one `subscriptions/listen` that is held open, opened again
//! when it ends, and replaced when somebody subscribes to another resource.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::mcp::{Era, method};
use protocol::{Code, Refusal};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use super::declared::{Honoured, Lists};
use super::pending::Reply;
use super::standing::{Heard, Standing};
use super::wire::Wire;
use crate::news::Tell;
use crate::own::{self, ClientName};
use crate::upstream::{Failure, UpstreamAnswer, error_code};

/// How long a new listen may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause before one that ended is opened again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that lasted this long did not end at once.
const STEADY: Duration = Duration::from_secs(30);

/// Somebody wants a resource, or does not any more.
pub struct Job {
    pub uri: String,
    /// Told how it went; none for a resource that nobody wants any more.
    pub wanted: Option<oneshot::Sender<Reply>>,
}

pub struct Subscriptions {
    wire: Arc<Wire>,
    client: ClientName,
    lists: Lists,
    news: Tell,
    uris: BTreeSet<String>,
    held: Option<Standing>,
    opened: Instant,
    pause: Duration,
    /// When to open it again; none while it is open, or when there is nothing to listen to.
    again: Option<Instant>,
}

impl Subscriptions {
    /// `discovered` is the child's result of `server/discover`.
    pub fn new(wire: Arc<Wire>, client: ClientName, discovered: &[u8], news: Tell) -> Self {
        Self {
            wire,
            client,
            lists: Lists::read(discovered),
            news,
            uris: BTreeSet::new(),
            held: None,
            opened: Instant::now(),
            pause: FIRST_PAUSE,
            again: None,
        }
    }

    /// Runs as long as the child does. `ready` is told when the first listen stands, or there is none.
    pub async fn run(
        mut self,
        mut jobs: mpsc::UnboundedReceiver<Job>,
        mut heard: mpsc::Receiver<Heard>,
        ready: oneshot::Sender<()>,
    ) {
        let closed = self.wire.closed.clone();
        self.open_again();
        // Dropped, it tells the same.
        let mut _ready = self.held.is_some().then_some(ready);
        loop {
            tokio::select! {
                () = closed.cancelled() => return,
                job = jobs.recv() => {
                    let Some(job) = job else { return };
                    let mut all = vec![job];
                    while let Ok(job) = jobs.try_recv() {
                        all.push(job);
                    }
                    self.change(all, &mut heard).await;
                }
                reply = ended(&mut self.held) => {
                    _ready = None;
                    self.ended(Some(reply));
                }
                Some(heard) = heard.recv() => match heard {
                    Heard::Ended { id } if self.is_held(id) => self.ended(None),
                    Heard::Acknowledged { id, .. } if self.is_held(id) => _ready = None,
                    Heard::Ended { .. } | Heard::Acknowledged { .. } => {}
                },
                () = until(self.again) => {
                    self.open_again();
                    // What changed in between was told to nobody.
                    self.lists.news().for_each(|news| (self.news)(news));
                }
            }
        }
    }

    fn is_held(&self, id: u64) -> bool {
        self.held.as_ref().is_some_and(|held| held.id() == id)
    }

    fn open_again(&mut self) {
        self.again = None;
        if self.lists.any() || !self.uris.is_empty() {
            self.opened = Instant::now();
            // A child that takes nothing is tried again like one whose listen ended.
            match self.open(&self.uris) {
                Ok(standing) => self.held = Some(standing),
                Err(_) => self.retry_later(),
            }
        }
    }

    fn open(&self, uris: &BTreeSet<String>) -> Result<Standing, Failure> {
        let mut wanted = self.lists.wanted();
        if !uris.is_empty() {
            wanted.insert("resourceSubscriptions".to_owned(), json!(uris));
        }
        let members = Map::from_iter([("notifications".to_owned(), Value::Object(wanted))]);
        Standing::open(&self.wire, method::LISTEN, &own::params(Era::Modern, &self.client, members))
    }

    /// It ended although nobody here wanted that. One that is not known to the child stays closed.
    fn ended(&mut self, reply: Option<Reply>) {
        self.held = None;
        if let Some(Ok(UpstreamAnswer::Error(error))) = &reply
            && error_code(error) == Some(Code::MethodNotFound.rpc().into())
        {
            tracing::debug!(server = self.wire.who(), "a server declares changes but cannot be listened to");
            return;
        }
        self.retry_later();
    }

    fn retry_later(&mut self) {
        if self.opened.elapsed() >= STEADY {
            self.pause = FIRST_PAUSE;
        }
        self.again = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Opens one with all that is wanted now, and only then ends the old one: nothing is missed.
    async fn change(&mut self, jobs: Vec<Job>, heard: &mut mpsc::Receiver<Heard>) {
        let mut uris = self.uris.clone();
        for job in &jobs {
            match job.wanted {
                Some(_) => uris.insert(job.uri.clone()),
                None => uris.remove(&job.uri),
            };
        }
        if uris == self.uris && self.held.is_some() {
            return jobs.into_iter().for_each(|job| job.tell(Ok(nothing())));
        }
        if uris.is_empty() && !self.lists.any() {
            (self.uris, self.held, self.again) = (uris, None, None);
            return jobs.into_iter().for_each(|job| job.tell(Ok(nothing())));
        }
        match self.acknowledged(&uris, heard).await {
            Ok((standing, honoured)) => {
                self.held = Some(standing);
                (self.opened, self.again) = (Instant::now(), None);
                for job in jobs {
                    let refused = job.wanted.is_some() && !honoured.includes(&job.uri);
                    if refused {
                        uris.remove(&job.uri);
                    }
                    job.tell(Ok(if refused { not_honoured(self.wire.who()) } else { nothing() }));
                }
                self.uris = uris;
            }
            Err(reply) => {
                // The old one goes on, with what is not wanted any more still in it.
                self.uris.retain(|uri| uris.contains(uri));
                jobs.into_iter().for_each(|job| job.tell(again(&reply)));
            }
        }
    }

    async fn acknowledged(
        &self,
        uris: &BTreeSet<String>,
        heard: &mut mpsc::Receiver<Heard>,
    ) -> Result<(Standing, Honoured), Reply> {
        let mut standing = self.open(uris).map_err(Err)?;
        let patience = tokio::time::sleep(PATIENCE);
        let mut patience = std::pin::pin!(patience);
        loop {
            tokio::select! {
                Some(heard) = heard.recv() => match heard {
                    Heard::Acknowledged { id, params } if id == standing.id() => {
                        return Ok((standing, Honoured::read(&params)));
                    }
                    Heard::Ended { id } if id == standing.id() => return Err(Err(self.failed("was ended"))),
                    Heard::Acknowledged { .. } | Heard::Ended { .. } => {}
                },
                reply = &mut standing => return Err(match reply {
                    Ok(UpstreamAnswer::Result(_)) => Err(self.failed("ended at once")),
                    other => other,
                }),
                () = &mut patience => return Err(Err(self.failed("was not acknowledged in time"))),
            }
        }
    }

    fn failed(&self, how: &str) -> Failure {
        let reason = format!("the subscription to `{}` {how}", self.wire.who());
        Failure { refusal: Refusal::new(Code::UpstreamFailed, reason), sent: true }
    }
}

impl Job {
    fn tell(self, reply: Reply) {
        if let Some(wanted) = self.wanted {
            // Whoever wanted it may have gone meanwhile, and takes it back then.
            drop(wanted.send(reply));
        }
    }
}

async fn ended(held: &mut Option<Standing>) -> Reply {
    match held {
        Some(held) => held.await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn nothing() -> UpstreamAnswer {
    UpstreamAnswer::Result(Bytes::from_static(b"{}"))
}

fn not_honoured(who: &str) -> UpstreamAnswer {
    let message = format!("`{who}` does not tell when this resource changes");
    let error = json!({ "code": Code::InvalidParams.rpc(), "message": message });
    UpstreamAnswer::Error(error.to_string().into())
}

/// The same reply once more.
fn again(reply: &Reply) -> Reply {
    match reply {
        Ok(answer) => Ok(answer.clone()),
        Err(failure) => Err(Failure { refusal: failure.refusal.clone(), sent: failure.sent }),
    }
}
