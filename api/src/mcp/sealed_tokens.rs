//! Sealed tokens (cursors, `requestState`) that a client keeps and returns: sealed, bound to who it is for and what it belongs to,
//! and good for a limited time. It is the client's input when it returns, so nothing in it is believed
//! that the seal does not prove (2026-07-28, basic/patterns/mrtr, "requestState").

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::Seal;
use jiff::Timestamp;
use protocol::{Caller, Code, Refusal, ServerId};
use proxy::bridge::Sealer;

/// How long a client may keep a ticket.
const LIFE: Duration = Duration::from_secs(3600);

/// The longest ticket that is looked at, bytes.
const MAX_TICKET: usize = 1 << 20;

/// Seals tickets of one kind for one caller and one thing.
pub struct SealedTokens<'a> {
    seal: &'a Seal,
    bound: String,
    what: &'static str,
}

impl<'a> SealedTokens<'a> {
    /// `what` names the kind in refusals; `bound` is all that must be the same when it comes back.
    pub fn new(seal: &'a Seal, what: &'static str, bound: &[&str]) -> Self {
        // Lengths keep apart what would read the same when put together.
        let bound = bound.iter().map(|part| format!("{}:{part};", part.len())).collect::<String>();
        Self { seal, bound: format!("{what}|{bound}"), what }
    }

    fn foreign(&self) -> Refusal {
        Refusal::new(Code::InvalidParams, format!("this {} was not given out for this", self.what))
            .rule("bound to the caller, the server, the request, and one hour")
            .hint("begin again without it")
    }
}

impl Sealer for SealedTokens<'_> {
    fn seal(&self, text: &str) -> String {
        let until = Timestamp::now().as_second() + LIFE.as_secs() as i64;
        let plain = format!("{until}\n{text}");
        URL_SAFE_NO_PAD.encode(self.seal.seal(self.bound.as_bytes(), plain.as_bytes()))
    }

    fn open(&self, sealed: &str) -> Result<String, Refusal> {
        if sealed.len() > MAX_TICKET {
            return Err(self.foreign());
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| self.foreign())?;
        let plain = self.seal.open(self.bound.as_bytes(), &sealed).map_err(|_| self.foreign())?;
        let plain = String::from_utf8(plain).map_err(|_| self.foreign())?;
        let (until, text) = plain.split_once('\n').ok_or_else(|| self.foreign())?;
        match until.parse::<i64>() {
            Ok(until) if until >= Timestamp::now().as_second() => Ok(text.to_owned()),
            Ok(_) | Err(_) => Err(self.foreign()),
        }
    }
}

/// Seals `requestState` for one request. What it is bound to is put together only when it is used, which
/// is seldom.
pub struct RequestStateSeal<'a> {
    pub seal: &'a Seal,
    pub caller: &'a Caller,
    pub server: ServerId,
    pub method: &'a str,
    pub name: &'a str,
    /// The raw object, or nothing.
    pub arguments: &'a [u8],
}

impl RequestStateSeal<'_> {
    fn tickets(&self) -> SealedTokens<'_> {
        // A client may write the same arguments otherwise when it asks again.
        let arguments = match serde_json::from_slice::<serde_json::Value>(self.arguments) {
            Ok(arguments) => arguments.to_string(),
            Err(_) => String::from_utf8_lossy(self.arguments).into_owned(),
        };
        let (tenant, caller) = (self.caller.tenant.to_string(), self.caller.principal());
        let bound = [&tenant, &caller, &self.server.to_string(), self.method, self.name, &arguments];
        SealedTokens::new(self.seal, "requestState", &bound)
    }
}

impl Sealer for RequestStateSeal<'_> {
    fn seal(&self, text: &str) -> String {
        self.tickets().seal(text)
    }

    fn open(&self, sealed: &str) -> Result<String, Refusal> {
        self.tickets().open(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_what_it_was_made_for() {
        let seal = Seal::from_key_texts(&Seal::generate(), &[]).unwrap();
        let mine = SealedTokens::new(&seal, "cursor", &["a", "bc"]);
        let ticket = mine.seal("text");
        assert_eq!(mine.open(&ticket).unwrap(), "text");
        assert!(SealedTokens::new(&seal, "cursor", &["ab", "c"]).open(&ticket).is_err());
        assert!(SealedTokens::new(&seal, "requestState", &["a", "bc"]).open(&ticket).is_err());
        for bad in ["", "x", &format!("{ticket}x"), &ticket[1..], "äöü"] {
            assert!(mine.open(bad).is_err(), "{bad}");
        }
    }
}
