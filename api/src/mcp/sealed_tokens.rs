//! Sealed tokens for clients, such as cursors: bound to a caller and a request, and valid for a limited time.
//! A returned token is the client's input, so only the seal is trusted (2026-07-28, basic/patterns/mrtr,
//! "requestState").

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::Seal;
use jiff::Timestamp;
use protocol::{Caller, Code, Refusal, ServerId};
use proxy::bridge::Sealer;

/// Lifetime of a token.
const LIFE: Duration = Duration::from_secs(3600);

/// Most bytes of a token.
const MAX_TOKEN: usize = 1 << 20;

/// Seals tokens of one kind for one caller and one purpose.
pub struct SealedTokens<'a> {
    seal: &'a Seal,
    bound: String,
    what: &'static str,
}

impl<'a> SealedTokens<'a> {
    /// Returns a sealer; `what` names the kind in refusals, `bound` are the values to which a token is bound.
    pub fn new(seal: &'a Seal, what: &'static str, bound: &[&str]) -> Self {
        // Lengths separate parts that would join to the same text.
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
        if sealed.len() > MAX_TOKEN {
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

/// Seals `requestState` for one request. The bound values are only formatted on use, which is rare.
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
    fn tokens(&self) -> SealedTokens<'_> {
        // A client may write the same arguments differently when it repeats the request.
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
        self.tokens().seal(text)
    }

    fn open(&self, sealed: &str) -> Result<String, Refusal> {
        self.tokens().open(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_what_it_was_made_for() {
        let seal = Seal::from_key_texts(&Seal::generate(), &[]).unwrap();
        let mine = SealedTokens::new(&seal, "cursor", &["a", "bc"]);
        let token = mine.seal("text");
        assert_eq!(mine.open(&token).unwrap(), "text");
        assert!(SealedTokens::new(&seal, "cursor", &["ab", "c"]).open(&token).is_err());
        assert!(SealedTokens::new(&seal, "requestState", &["a", "bc"]).open(&token).is_err());
        for bad in ["", "x", &format!("{token}x"), &token[1..], "äöü"] {
            assert!(mine.open(bad).is_err(), "{bad}");
        }
    }
}
