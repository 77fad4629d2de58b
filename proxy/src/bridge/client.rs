//! Client of a request: era and capabilities, declared once per legacy session and in each modern request.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use protocol::Members;
use protocol::mcp::{Era, LEGACY_LATEST};
use protocol::members::raw;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::upstream::Listener;

pub struct Client {
    pub era: Era,
    /// The negotiated protocol revision.
    pub version: String,
    /// The raw object of declared capabilities.
    pub capabilities: Option<Box<RawValue>>,
    pub can: Abilities,
    /// [`Abilities::bits`]: different wordings of the same capabilities share upstreams.
    pub declared: u64,
    /// The raw object of `clientInfo`.
    pub info: Option<Box<RawValue>>,
    /// The least level of log messages for the client; `None` for the default of its era.
    pub level: Option<Level>,
    /// Hash of the one client (a session, or a caller) that an upstream may serve alone; zero where nothing
    /// tells clients apart.
    pub owner: u64,
    /// Listener for messages outside a request.
    pub home: Option<Arc<dyn Listener>>,
}

impl Client {
    /// Returns a client that declares nothing: a plain JSON-RPC caller.
    pub fn plain() -> Self {
        Self::new(Era::Legacy, LEGACY_LATEST, None)
    }

    pub fn new(era: Era, version: impl Into<String>, capabilities: Option<Box<RawValue>>) -> Self {
        let can = capabilities.as_deref().map(Abilities::read).unwrap_or_default();
        let declared = can.bits();
        Self {
            era,
            version: version.into(),
            capabilities,
            can,
            declared,
            info: None,
            level: None,
            owner: 0,
            home: None,
        }
    }
}

/// Returns a hash that is not zero.
pub fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Server requests that the client supports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Abilities {
    pub sample: bool,
    pub sample_tools: bool,
    pub elicit: bool,
    pub elicit_url: bool,
    pub roots: bool,
}

impl Abilities {
    /// Reads declared capabilities. `elicitation: {}` means forms (2025-11-25, client/elicitation).
    pub fn read(capabilities: &RawValue) -> Self {
        let Ok(members) = Members::read(capabilities.get()) else { return Self::default() };
        let has = |name| members.get(name).is_some_and(|value| value.get() != "null");
        let modes = members.get("elicitation").and_then(|modes| Members::read(modes.get()).ok());
        let mode = |name| modes.as_ref().is_some_and(|modes| modes.get(name).is_some());
        let url = mode("url");
        let sampling = members.get("sampling").and_then(|how| Members::read(how.get()).ok());
        Self {
            sample: has("sampling"),
            sample_tools: sampling.is_some_and(|how| how.get("tools").is_some()),
            elicit: has("elicitation") && (mode("form") || !url),
            elicit_url: url,
            roots: has("roots"),
        }
    }

    /// Returns the abilities as bits, which stored catalogs are keyed by; zero for none.
    pub fn bits(self) -> u64 {
        let all = [self.sample, self.sample_tools, self.elicit, self.elicit_url, self.roots];
        all.into_iter().rev().fold(0, |bits, can| bits << 1 | u64::from(can))
    }

    /// Greatest value of [`Abilities::bits`].
    pub const ALL: u64 = 0b1_1111;

    pub fn from_bits(bits: u64) -> Self {
        let can = |number: u32| bits >> number & 1 == 1;
        Self { sample: can(0), sample_tools: can(1), elicit: can(2), elicit_url: can(3), roots: can(4) }
    }

    pub fn anything(self) -> bool {
        self != Self::default()
    }

    /// Returns the capabilities to declare to an upstream that such clients share.
    pub fn to_capabilities(self) -> Box<RawValue> {
        let mut declared = serde_json::Map::new();
        if self.sample {
            declared.insert(
                "sampling".into(),
                if self.sample_tools { json!({ "tools": {} }) } else { json!({}) },
            );
        }
        if self.elicit || self.elicit_url {
            let modes = [("form", self.elicit), ("url", self.elicit_url)];
            let modes = modes.into_iter().filter(|(_, can)| *can).map(|(mode, _)| (mode.into(), json!({})));
            declared.insert("elicitation".into(), Value::Object(modes.collect()));
        }
        if self.roots {
            declared.insert("roots".into(), json!({}));
        }
        raw(Value::Object(declared).to_string())
    }

    /// Returns true if the client supports a request. Unknown methods are left to the client.
    pub fn allow(self, asked: &str, params: Option<&str>) -> bool {
        use protocol::mcp::method;
        match asked {
            method::SAMPLE => self.sample,
            method::LIST_ROOTS => self.roots,
            method::ELICIT if is_by_url(params) => self.elicit_url,
            method::ELICIT => self.elicit,
            _ => true,
        }
    }
}

/// Returns the client capability that a server request needs.
pub fn capability_of(asked: &str) -> &'static str {
    use protocol::mcp::method;
    match asked {
        method::SAMPLE => "sampling",
        method::LIST_ROOTS => "roots",
        _ => "elicitation",
    }
}

/// Returns true for an elicitation of the mode `url`.
pub fn is_by_url(params: Option<&str>) -> bool {
    #[derive(serde::Deserialize)]
    struct Mode<'a> {
        #[serde(borrow)]
        mode: Option<std::borrow::Cow<'a, str>>,
    }
    let mode = params.and_then(|params| serde_json::from_str::<Mode<'_>>(params).ok());
    mode.and_then(|mode| mode.mode).as_deref() == Some("url")
}

/// Severity of a log message (RFC 5424), least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    pub const ALL: [Level; 8] = [
        Level::Debug,
        Level::Info,
        Level::Notice,
        Level::Warning,
        Level::Error,
        Level::Critical,
        Level::Alert,
        Level::Emergency,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Alert => "alert",
            Level::Emergency => "emergency",
        }
    }

    pub fn parse(text: &str) -> Option<Level> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_asked() {
        let can = |json: &str| Abilities::read(&raw(json));
        assert!(!can("{}").anything());
        assert!(can(r#"{"elicitation":{}}"#).elicit && !can(r#"{"elicitation":{}}"#).elicit_url);
        let url = can(r#"{"elicitation":{"url":{}}}"#);
        assert!(url.elicit_url && !url.elicit);
        let form = can(r#"{"elicitation":{"form":{}},"sampling":{}}"#);
        assert!(form.allow("elicitation/create", Some(r#"{"message":"?"}"#)));
        assert!(!form.allow("elicitation/create", Some(r#"{"mode":"url"}"#)));
        assert!(form.allow("sampling/createMessage", None) && !form.allow("roots/list", None));
    }

    #[test]
    fn what_cannot_be_asked_makes_no_difference() {
        let declared = |json: &str| Client::new(Era::Legacy, "x", Some(raw(json))).declared;
        assert_eq!(declared(r#"{"roots":{},"b":1}"#), declared(r#"{ "experimental":{"n":7}, "roots": {} }"#));
        assert_ne!(declared(r#"{"roots":{}}"#), declared(r#"{"sampling":{}}"#));
        assert_eq!((declared(r#"{"experimental":{}}"#), Client::plain().declared), (0, 0));
        let all = Abilities::read(&raw(
            r#"{"sampling":{"tools":{}},"elicitation":{"url":{},"form":{}},"roots":{}}"#,
        ));
        assert_eq!(Abilities::read(&all.to_capabilities()), all);
        for bits in 0..=Abilities::ALL {
            assert_eq!(Abilities::from_bits(bits).bits(), bits);
        }
    }
}
