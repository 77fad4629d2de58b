//! What an upstream says during a call, in the client's words: its own progress token, and only log
//! messages that it wants (rows 7 and 9).

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
    /// Our token and the client's own.
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

/// Passes a notification on, if this client wants it, with its own progress token.
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
        // A modern client knows no such notification (row 12).
        method::ELICITATION_COMPLETE if client.era == Era::Modern => {}
        _ => client_channel.on_notification(told, params),
    }
}

/// Passes a question on, if it may be asked; the clock stands while it is open.
pub fn ask(
    client: &Client,
    client_channel: &dyn Listener,
    question: ServerRequest,
    pausable: &Arc<PausableDeadline>,
) {
    let params = question.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
    let known = matches!(&*question.method, method::SAMPLE | method::ELICIT | method::LIST_ROOTS);
    // A modern client knows no other questions, and a legacy one that said nothing is asked none.
    let may = known || (client.era == Era::Legacy && client.can.anything());
    if !may || !client.can.allow(&question.method, params) {
        let refused = format!("the client did not declare what `{}` needs", question.method);
        return question.refuse(Code::MethodNotFound, &refused);
    }
    client_channel.on_request(question.holding(pausable.pause()));
}

/// A modern client gets log messages only if its request says from which level on; a legacy one gets
/// all until it says so.
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
