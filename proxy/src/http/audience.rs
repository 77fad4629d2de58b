//! Whom what a remote server says is for: the request whose stream it came on, else by rules the request
//! it most likely belongs to, else the client that the upstream is for. And what the server asked and
//! nobody answered yet. It sends nothing itself.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::Code;
use protocol::mcp::method;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::plan::{Announce, RemotePlan};
use crate::upstream::{Listener, Question, UpstreamAnswer, UpstreamRequest};

/// The most questions of one upstream that wait at once.
const MAX_QUESTIONS: usize = 256;

/// Where something was said.
#[derive(Clone, Copy)]
pub enum Whose<'a> {
    /// On the stream of one request, which may have no listener.
    Request(Option<&'a Arc<dyn Listener>>),
    /// Where everything is said.
    Anybody,
}

pub struct Audience {
    announce: Option<Announce>,
    home: Option<Arc<dyn Listener>>,
    /// It serves one client, so that a guess between two of its requests harms nobody.
    owned: bool,
    seats: Mutex<Vec<Taken>>,
    /// By the server's id, as it was written.
    questions: Mutex<HashMap<String, CancellationToken>>,
}

struct Taken {
    id: u64,
    progress: Option<u64>,
    /// None of a request whose caller does not listen.
    listener: Option<Arc<dyn Listener>>,
}

/// A request that is in flight until this is dropped.
pub struct Seat<'a> {
    audience: &'a Audience,
    id: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.audience.seats.lock().retain(|taken| taken.id != self.id);
    }
}

/// What becomes of a request of the server.
pub enum Asked {
    Now(UpstreamAnswer),
    Later(Waiting),
}

/// A question that somebody was asked. Dropped, it is withdrawn.
pub struct Waiting {
    answer: oneshot::Receiver<UpstreamAnswer>,
    withdrawn: CancellationToken,
}

impl Waiting {
    /// The answer, unless the server takes the question back first.
    pub async fn answer(self) -> Option<UpstreamAnswer> {
        tokio::select! {
            answer = self.answer => answer.ok(),
            () = self.withdrawn.cancelled() => None,
        }
    }
}

impl Audience {
    pub fn new(plan: &RemotePlan) -> Self {
        Self {
            announce: plan.announce.clone(),
            home: plan.introduction.as_ref().and_then(|introduction| introduction.home.clone()),
            owned: plan.introduction.as_ref().is_some_and(|introduction| introduction.home.is_some()),
            seats: Mutex::default(),
            questions: Mutex::default(),
        }
    }

    pub fn sit(&self, id: u64, request: &UpstreamRequest<'_>) -> Seat<'_> {
        let listener = request.listener.cloned();
        self.seats.lock().push(Taken { id, progress: request.progress, listener });
        Seat { audience: self, id }
    }

    /// What was listed before may be stale.
    pub fn missed(&self) {
        if let Some(announce) = &self.announce {
            announce.missed();
        }
    }

    /// Takes a notification where it belongs.
    pub fn hear(&self, whose: Whose<'_>, told: &str, params: Option<&str>) {
        if self.announce.as_ref().is_some_and(|announce| announce.take(told, params)) {
            return;
        }
        let listener = match told {
            method::PROGRESS => match whose {
                Whose::Request(Some(listener)) => Some(listener.clone()),
                Whose::Request(None) | Whose::Anybody => self.waiting_for(params),
            },
            method::CANCELLED => return self.withdraw(params),
            _ => self.listener(whose),
        };
        match listener {
            Some(listener) => listener.hear(told, params),
            None => tracing::trace!(told, "a notification for nobody"),
        }
    }

    /// Takes a request of the server to whoever may answer it.
    pub fn ask(&self, whose: Whose<'_>, id: &str, asked: &str, params: Option<&str>) -> Asked {
        if asked == method::PING {
            return Asked::Now(UpstreamAnswer::Result(Bytes::from_static(b"{}")));
        }
        let Some(listener) = self.listener(whose) else {
            return refused(Code::MethodNotFound, "the gateway does not offer this");
        };
        let withdrawn = CancellationToken::new();
        {
            let mut questions = self.questions.lock();
            if questions.len() >= MAX_QUESTIONS {
                return refused(Code::Internal, "too many requests of this server wait for an answer");
            }
            questions.insert(id.to_owned(), withdrawn.clone());
        }
        let params = params.map(|params| Bytes::copy_from_slice(params.as_bytes()));
        let (question, answer) = Question::new(asked.to_owned(), params);
        listener.ask(question);
        Asked::Later(Waiting { answer, withdrawn })
    }

    /// A question was answered or is void.
    pub fn settled(&self, id: &str) {
        self.questions.lock().remove(id);
    }

    fn listener(&self, whose: Whose<'_>) -> Option<Arc<dyn Listener>> {
        let guess = || {
            let seats = self.seats.lock();
            // Among several callers, one that does not listen may be the one that it is about.
            match &seats[..] {
                [only] => only.listener.clone(),
                several if self.owned => several.iter().rev().find_map(|taken| taken.listener.clone()),
                _ => None,
            }
        };
        match whose {
            Whose::Request(listener) => listener.cloned(),
            Whose::Anybody => guess(),
        }
        .or_else(|| self.home.clone())
    }

    fn waiting_for(&self, params: Option<&str>) -> Option<Arc<dyn Listener>> {
        #[derive(Deserialize)]
        struct Shape<'a> {
            #[serde(borrow, rename = "progressToken")]
            token: &'a RawValue,
        }
        let token: u64 = serde_json::from_str::<Shape<'_>>(params?).ok()?.token.get().parse().ok()?;
        let seats = self.seats.lock();
        seats.iter().find(|taken| taken.progress == Some(token)).and_then(|taken| taken.listener.clone())
    }

    fn withdraw(&self, params: Option<&str>) {
        #[derive(Deserialize)]
        struct Shape<'a> {
            #[serde(borrow, rename = "requestId")]
            id: &'a RawValue,
        }
        let Some(Shape { id }) = params.and_then(|params| serde_json::from_str(params).ok()) else { return };
        if let Some(question) = self.questions.lock().get(id.get()) {
            question.cancel();
        }
    }
}

fn refused(code: Code, message: &str) -> Asked {
    let error = serde_json::json!({ "code": code.rpc(), "message": message });
    Asked::Now(UpstreamAnswer::Error(error.to_string().into()))
}
