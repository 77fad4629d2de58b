//! What an upstream says during a call, in the client's words: its own progress token, and only log
//! messages that it wants (rows 7 and 9).

use std::sync::Arc;

use protocol::mcp::{Era, method};
use protocol::{Code, Members};
use serde_json::value::RawValue;

use super::client::{Client, Level};
use super::patience::Patience;
use crate::upstream::{Listener, Question};

pub struct Hearing {
    pub client: Arc<Client>,
    pub voice: Arc<dyn Listener>,
    /// Our token and the client's own.
    pub progress: Option<(u64, Box<RawValue>)>,
    pub patience: Arc<Patience>,
}

impl Listener for Hearing {
    fn hear(&self, told: &str, params: Option<&str>) {
        match told {
            method::PROGRESS => self.progress(params),
            method::LOG if !wanted(&self.client, params) => {}
            // A modern client knows no such notification (row 12).
            method::ELICITATION_COMPLETE if self.client.era == Era::Modern => {}
            _ => self.voice.hear(told, params),
        }
    }

    fn ask(&self, question: Question) {
        ask(&self.client, &*self.voice, question, &self.patience);
    }
}

impl Hearing {
    fn progress(&self, params: Option<&str>) {
        let Some((_, own)) = &self.progress else { return };
        let Some(Ok(mut members)) = params.map(Members::read) else { return };
        members.set("progressToken", own.clone());
        self.voice.hear(method::PROGRESS, Some(&members.write()));
    }
}

/// Passes a question on, if it may be asked; the clock stands while it is open.
pub fn ask(client: &Client, voice: &dyn Listener, question: Question, patience: &Arc<Patience>) {
    let params = question.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
    if !client.can.allow(&question.method, params) {
        let refused = format!("the client did not declare what `{}` needs", question.method);
        return question.refuse(Code::MethodNotFound, &refused);
    }
    voice.ask(question.holding(patience.pause()));
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
