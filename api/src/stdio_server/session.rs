//! The legacy session with the gateway: how it begins, and how it begins once more when the gateway has
//! lost it, in the words in which the client introduced itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::{header as names, method};
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::stdio_server::gateway_client::{Answered, GatewayClient, Reply};
use crate::stdio_server::message::Message;

#[derive(Default)]
pub struct Session {
    wanted: AtomicBool,
    now: Mutex<Option<Arc<Facts>>>,
    /// The session whose own stream is to be read: known to the gateway as initialized.
    pub home: watch::Sender<Option<Arc<Facts>>>,
    /// The `params` of the client's `initialize`.
    hello: Mutex<Option<Box<RawValue>>>,
    /// Settings of the client in the session, to be set again: the last of each.
    set: Mutex<Vec<(Box<str>, Bytes)>>,
    renewing: tokio::sync::Mutex<()>,
    generations: AtomicU64,
}

/// A session that began.
pub struct Facts {
    id: HeaderValue,
    revision: Option<HeaderValue>,
    generation: u64,
}

impl Facts {
    /// Headers of every message in a session.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(names::SESSION, self.id.clone());
        if let Some(revision) = &self.revision {
            headers.insert(names::PROTOCOL_VERSION, revision.clone());
        }
        headers
    }

    /// The same for a stream that is to go on behind this event.
    pub fn headers_after(&self, last_event_id: Option<&str>) -> HeaderMap {
        let mut headers = self.headers();
        if let Some(id) = last_event_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(names::LAST_EVENT_ID, id);
        }
        headers
    }
}

impl Session {
    /// Looks whether a message wants a session, before its turn has come.
    pub fn notice(&self, message: &Message) {
        if message.method() == method::INITIALIZE {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if the client has asked for a session.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> Option<Arc<Facts>> {
        self.now.lock().clone()
    }

    /// Notes how the client introduces itself.
    pub fn introduce(&self, params: &[u8]) {
        let text = String::from_utf8_lossy(params).into_owned();
        *self.hello.lock() = RawValue::from_string(text).ok();
        self.set.lock().clear();
    }

    /// Notes a session that began with this answer.
    pub fn begin(&self, id: HeaderValue, result: &RawValue) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Agreed {
            protocol_version: String,
        }
        let agreed = serde_json::from_str::<Agreed>(result.get()).ok();
        let revision = agreed.and_then(|agreed| HeaderValue::from_str(&agreed.protocol_version).ok());
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        *self.now.lock() = Some(Arc::new(Facts { id, revision, generation }));
    }

    /// The client has said `notifications/initialized`: the gateway may speak.
    pub fn open(&self) {
        self.home.send_replace(self.now());
    }

    /// Remembers what would be lost with the session.
    pub fn remember(&self, asked: &str, params: &[u8], line: &Bytes) {
        let params = || String::from_utf8_lossy(params);
        let mut set = self.set.lock();
        let mut put = |key: String, line: Option<&Bytes>| {
            set.retain(|(known, _)| **known != *key);
            set.extend(line.map(|line| (key.into(), line.clone())));
        };
        match asked {
            method::SET_LEVEL => put(asked.to_owned(), Some(line)),
            method::SUBSCRIBE => put(params().into_owned(), Some(line)),
            method::UNSUBSCRIBE => put(params().into_owned(), None),
            _ => {}
        }
    }

    /// Begins again, unless somebody has done so since `lost`.
    pub async fn renew(&self, client: &GatewayClient, lost: &Facts) -> Result<(), Refusal> {
        let _turn = self.renewing.lock().await;
        if self.now().is_some_and(|now| now.generation != lost.generation) {
            return Ok(());
        }
        let failed = |reason: &str| {
            let reason = format!("the gateway has ended the session, and a new one did not begin: {reason}");
            Refusal::new(Code::SessionNotFound, reason).hint("connect again")
        };
        let hello = self.hello.lock().clone().ok_or_else(|| failed("there was no introduction"))?;
        tracing::info!("the gateway has ended the session; a new one is begun");
        let request = json!({ "jsonrpc": "2.0", "id": "trunkline-again", "method": method::INITIALIZE, "params": hello });
        let answered = client.post(HeaderMap::new(), request.to_string().into()).await?;
        let Some((id, text)) = answer(answered).await else { return Err(failed("there was no answer")) };
        match jsonrpc::parse(&text, usize::MAX) {
            Ok(Body::Single(Incoming::Response(response))) => match (response.outcome, id) {
                (Ok(result), Some(id)) => self.begin(id, result),
                (Ok(_), None) => return Err(failed("it has no id")),
                (Err(error), _) => return Err(failed(&said(error))),
            },
            Ok(_) => return Err(failed("the answer is none")),
            Err(_) => {
                let error = crate::stdio_server::message::unnamed_error(&text);
                return Err(failed(&error.map_or("the answer is none".to_owned(), |error| said(&error))));
            }
        }
        self.set_again(client).await
    }

    /// Tells a new session what the last one knew.
    async fn set_again(&self, client: &GatewayClient) -> Result<(), Refusal> {
        let Some(now) = self.now() else { return Ok(()) };
        let initialized = json!({ "jsonrpc": "2.0", "method": method::INITIALIZED }).to_string();
        client.post(now.headers(), initialized.into()).await?;
        let set: Vec<Bytes> = self.set.lock().iter().map(|(_, line)| line.clone()).collect();
        for line in set {
            // Its answer has been given long ago.
            let answered = client.post(now.headers(), line).await?;
            drop(answer(answered).await);
        }
        self.open();
        Ok(())
    }

    /// Ends it.
    pub async fn close(&self, client: &GatewayClient) {
        self.home.send_replace(None);
        let now = self.now.lock().take();
        if let Some(facts) = now
            && let Err(refusal) = client.delete(facts.headers()).await
        {
            tracing::debug!(%refusal, "the session was not ended");
        }
    }
}

/// The answer in a reply, and the session that begins with it.
async fn answer(answered: Answered) -> Option<(Option<HeaderValue>, Bytes)> {
    let text = match answered.reply {
        Reply::Json(text) => text,
        Reply::Events(mut events) => loop {
            let text = events.next().await.ok()??;
            if let Ok(Body::Single(Incoming::Response(_))) = jsonrpc::parse(&text, usize::MAX) {
                break text;
            }
        },
        Reply::Nothing | Reply::Refused(_) => return None,
    };
    Some((answered.session, text))
}

/// The sentence of an `error`.
fn said(error: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Shape {
        message: String,
    }
    serde_json::from_str::<Shape>(error.get()).map_or_else(|_| error.get().to_owned(), |error| error.message)
}
