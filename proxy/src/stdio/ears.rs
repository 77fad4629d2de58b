//! What a child says besides its answers, and whom it is for: a listener of the request it names, of
//! the only request it can mean, the client that the child serves, everybody, or nobody. Nothing here
//! waits.

use std::sync::Arc;

use bytes::Bytes;
use protocol::Code;
use protocol::mcp::{Era, method};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::oddities::{Oddities, excerpt};
use super::questions::Questions;
use super::standing::Heard;
use super::wire::Wire;
use crate::news::{News, Tell, Unusable};
use crate::upstream::{Introduction, Listener, UpstreamAnswer};

pub struct Ears {
    pub wire: Arc<Wire>,
    pub oddities: Oddities,
    pub era: Era,
    pub introduction: Option<Arc<Introduction>>,
    pub news: Tell,
    pub questions: Arc<Questions>,
    /// What concerns a `subscriptions/listen`. A flood of it is lost.
    pub standing: mpsc::Sender<Heard>,
}

impl Ears {
    /// A notification of the child.
    pub fn told(&self, told: &str, params: Option<&str>) {
        match News::read(told, params) {
            Ok(Some(news)) => return (self.news)(news),
            Ok(None) => {}
            Err(Unusable(why)) => return self.oddities.note(|| format!("`{told}` goes to nobody: {why}")),
        }
        match told {
            method::PROGRESS => self.progress(params),
            method::CANCELLED => self.cancelled(params.unwrap_or_default()),
            method::ACKNOWLEDGED => self.acknowledged(params.unwrap_or_default()),
            _ if self.era == Era::Modern && subscription(params).is_some() => {
                tracing::trace!(server = self.wire.who(), told, "a notification of a subscription");
            }
            _ => match self.addressee() {
                Some(listener) => listener.hear(told, params),
                None => tracing::trace!(server = self.wire.who(), told, "a notification for nobody"),
            },
        }
    }

    /// A request of the child.
    pub fn asked(&self, id: &str, asked: &str, params: Option<&str>) {
        if asked == method::PING {
            self.wire.answer(id, &UpstreamAnswer::Result(Bytes::from_static(b"{}")));
            return;
        }
        // Servers of the modern era do not ask: they answer that they need input.
        let listener = self.addressee().filter(|_| self.era == Era::Legacy);
        let Some(listener) = listener else {
            self.refuse(id, Code::MethodNotFound, "the gateway does not offer this");
            self.oddities
                .note(|| format!("it asked for `{}`, which was not declared", excerpt(asked.as_bytes())));
            return;
        };
        if let Err(reason) = self.questions.put(&*listener, id, asked, params) {
            self.refuse(id, Code::Internal, reason);
            self.oddities.note(|| format!("it asked for `{}`: {reason}", excerpt(asked.as_bytes())));
        }
    }

    fn addressee(&self) -> Option<Arc<dyn Listener>> {
        let home = self.introduction.as_ref().and_then(|introduction| introduction.home.clone());
        self.wire.addressee(home.is_some()).or(home)
    }

    fn progress(&self, params: Option<&str>) {
        #[derive(Deserialize)]
        struct Progress {
            #[serde(rename = "progressToken")]
            token: u64,
        }
        let token = params.and_then(|params| serde_json::from_str::<Progress>(params).ok());
        match token.and_then(|progress| self.wire.listener_of(progress.token)) {
            Some(listener) => listener.hear(method::PROGRESS, params),
            None => tracing::trace!(server = self.wire.who(), "progress for nobody"),
        }
    }

    /// The child takes one of its requests back, or ends what we listen to.
    fn cancelled(&self, params: &str) {
        #[derive(Deserialize)]
        struct Cancelled<'a> {
            #[serde(borrow, rename = "requestId")]
            id: &'a RawValue,
        }
        let Ok(Cancelled { id }) = serde_json::from_str(params) else { return };
        match self.era {
            Era::Legacy => self.questions.withdraw(id.get()),
            Era::Modern => {
                if let Ok(id) = id.get().parse() {
                    self.standing.try_send(Heard::Ended { id }).ok();
                }
            }
        }
    }

    fn acknowledged(&self, params: &str) {
        if let Some(id) = subscription(Some(params)) {
            self.standing.try_send(Heard::Acknowledged { id, params: params.into() }).ok();
        }
    }

    fn refuse(&self, id: &str, code: Code, message: &str) {
        let error = serde_json::json!({ "code": code.rpc(), "message": message }).to_string();
        self.wire.answer(id, &UpstreamAnswer::Error(error.into()));
    }
}

/// The id of the `subscriptions/listen` that a notification belongs to.
fn subscription(params: Option<&str>) -> Option<u64> {
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: About<'a>,
    }
    #[derive(Deserialize)]
    struct About<'a> {
        #[serde(borrow, rename = "io.modelcontextprotocol/subscriptionId")]
        subscription: &'a RawValue,
    }
    let told: Told<'_> = serde_json::from_str(params?).ok()?;
    told.meta.subscription.get().parse().ok()
}

#[cfg(test)]
mod tests {
    use protocol::mcp::meta;

    use super::*;

    #[test]
    fn the_subscription_of_a_notification() {
        let key = meta::SUBSCRIPTION_ID;
        assert_eq!(subscription(Some(&format!(r#"{{"a":1,"_meta":{{"b":2,"{key}":7}}}}"#))), Some(7));
        assert_eq!(subscription(Some(&format!(r#"{{"_meta":{{"{key}":"7"}}}}"#))), None);
        assert_eq!(subscription(Some("{}")).or(subscription(None)), None);
    }
}
