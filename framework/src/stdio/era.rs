//! Eras of requests on standard streams: recognised by `_meta`, and results in the form of each.

use bytes::Bytes;
use protocol::mcp::{LEGACY_LATEST, LEGACY_VERSIONS, MODERN, code, meta, method};
use protocol::members::raw;
use protocol::{Code, Members};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::answers::{Answers, Problem};

/// Members of params that decide the era of a request.
#[derive(Deserialize, Default)]
pub struct Head {
    #[serde(rename = "protocolVersion")]
    wanted: Option<Value>,
    #[serde(rename = "_meta")]
    about: Option<About>,
}

#[derive(Deserialize)]
struct About {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<Value>,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<Value>,
    #[serde(rename = "progressToken")]
    progress_token: Option<Value>,
}

impl Head {
    /// Returns the token under which the client wants progress.
    pub fn progress_token(&self) -> Option<&Value> {
        self.about.as_ref()?.progress_token.as_ref()
    }

    pub fn read(params: Option<&RawValue>) -> Result<Self, Rejected> {
        match params {
            None => Ok(Self::default()),
            Some(params) => serde_json::from_str(params.get())
                .map_err(|error| Problem(Code::InvalidParams.rpc(), format!("params: {error}")).into()),
        }
    }

    /// Returns true for a request of the modern era.
    ///
    /// # Errors
    /// Missing members of `_meta`, and a revision that is not supported (MCP 2026-07-28, basic, "_meta").
    pub fn check(&self, asked: &str) -> Result<bool, Rejected> {
        let about = self.about.as_ref();
        let version = about.and_then(|about| about.version.as_ref());
        let capabilities = about.and_then(|about| about.capabilities.as_ref());
        if version.is_none() && capabilities.is_none() && asked != method::DISCOVER {
            return Ok(false);
        }
        let missing = |name| Problem(Code::MissingMeta.rpc(), format!("`_meta` must have `{name}`"));
        let version = version.ok_or_else(|| missing(meta::PROTOCOL_VERSION))?;
        if version != MODERN {
            let message = format!("the revision {version} is not supported");
            let data = json!({ "supported": [MODERN], "requested": version });
            return Err(Rejected {
                problem: Problem(code::UNSUPPORTED_PROTOCOL_VERSION, message),
                data: Some(data),
            });
        }
        match capabilities {
            Some(Value::Object(_)) => Ok(true),
            _ => Err(missing(meta::CLIENT_CAPABILITIES).into()),
        }
    }

    /// Returns the revision of a handshake: the client's where it is known.
    pub fn revision(&self) -> &str {
        let wanted = self.wanted.as_ref().and_then(Value::as_str);
        wanted.filter(|wanted| LEGACY_VERSIONS.contains(wanted)).unwrap_or(LEGACY_LATEST)
    }
}

/// A JSON-RPC error, with the data that a specification demands.
pub struct Rejected {
    pub problem: Problem,
    pub data: Option<Value>,
}

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Self {
        Self { problem, data: None }
    }
}

/// Returns the result of `initialize` in a revision.
pub fn in_revision(result: &Bytes, revision: &str) -> Bytes {
    let Ok(mut members) = Members::from_slice(result) else { return result.clone() };
    members.set_text("protocolVersion", revision);
    members.write().into()
}

/// Returns a result in the form of the modern era (MCP 2026-07-28, basic, and server/utilities/caching).
pub fn modern(answers: &Answers, asked: &str, result: Bytes) -> Bytes {
    const CACHEABLE: [&str; 6] = [
        method::DISCOVER,
        method::TOOLS_LIST,
        method::PROMPTS_LIST,
        method::RESOURCES_LIST,
        method::RESOURCE_TEMPLATES_LIST,
        method::RESOURCES_READ,
    ];
    let Ok(mut members) = Members::from_slice(&result) else { return result };
    members.or_insert("resultType", || raw(r#""complete""#));
    if CACHEABLE.contains(&asked) {
        members.or_insert("ttlMs", || raw("0"));
        members.or_insert("cacheScope", || raw(r#""private""#));
    }
    let info = answers.provider().info();
    let info = json!({ "name": info.name, "title": info.title, "version": info.version });
    members.edit("_meta", |about| about.or_insert(meta::SERVER_INFO, || raw(info.to_string())));
    members.write().into()
}
