//! Listener of an upstream during a call: restores the client's progress token and filters log messages by
//! level (rows 7 and 9).

use std::sync::Arc;

use protocol::mcp::{Era, meta, method};
use protocol::{Code, Members};
use serde_json::value::RawValue;

use super::client::{Client, Level};
use super::pausable_deadline::PausableDeadline;
use crate::upstream::{Listener, ServerRequest};

pub struct CallListener {
    pub client: Arc<Client>,
    pub client_channel: Arc<dyn Listener>,
    /// Tokens of the gateway and the client.
    pub progress: Option<(u64, Box<RawValue>)>,
    pub pausable: Arc<PausableDeadline>,
}

impl Listener for CallListener {
    fn on_notification(&self, told: &str, params: Option<&str>) {
        let own = self.progress.as_ref().map(|(_, own)| &**own);
        pass_on(&self.client, &*self.client_channel, own, told, params);
    }

    fn on_request(&self, question: ServerRequest) {
        ask(&self.client, &*self.client_channel, question, &self.pausable);
    }
}

/// Forwards a notification that the client wants, with the client's progress token.
pub fn pass_on(
    client: &Client,
    client_channel: &dyn Listener,
    own: Option<&RawValue>,
    told: &str,
    params: Option<&str>,
) {
    match told {
        method::PROGRESS => {
            let Some(own) = own else { return };
            let Some(Ok(mut members)) = params.map(Members::read) else { return };
            members.set(meta::PROGRESS_TOKEN, own.to_owned());
            client_channel.on_notification(method::PROGRESS, Some(&members.write()));
        }
        method::LOG if !wanted(client, params) => {}
        // The modern era has no such notification (row 12).
        method::ELICITATION_COMPLETE if client.era == Era::Modern => {}
        _ => client_channel.on_notification(told, params),
    }
}

/// Forwards a permitted server request and pauses the deadline meanwhile.
pub fn ask(
    client: &Client,
    client_channel: &dyn Listener,
    question: ServerRequest,
    pausable: &Arc<PausableDeadline>,
) {
    let params = question.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
    let known = matches!(&*question.method, method::SAMPLE | method::ELICIT | method::LIST_ROOTS);
    // Other requests do not exist in the modern era and need declared capabilities in the legacy era.
    let may = known || (client.era == Era::Legacy && client.can.anything());
    if !may || !client.can.allow(&question.method, params) {
        let refused = format!("the client did not declare what `{}` needs", question.method);
        return question.refuse(Code::MethodNotFound, &refused);
    }
    client_channel.on_request(question.holding(pausable.pause()));
}

/// Returns true if a log message has the client's level. Without a level, legacy clients get all messages,
/// modern ones none.
pub fn wanted(client: &Client, params: Option<&str>) -> bool {
    let least = match (client.level, client.era) {
        (Some(least), _) => least,
        (None, Era::Legacy) => return true,
        (None, Era::Modern) => return false,
    };
    #[derive(serde::Deserialize)]
    struct Log<'a> {
        #[serde(borrow)]
        level: std::borrow::Cow<'a, str>,
    }
    let level = params.and_then(|params| serde_json::from_str::<Log<'_>>(params).ok());
    level.and_then(|log| Level::parse(&log.level)).is_none_or(|level| level >= least)
}
