//! Which era a request belongs to, and whether this process takes it: what it was told to speak, and
//! what its first message made of it. Knows no method but those of the handshake.

use serde_json::{Value, json};

use crate::call::Fault;
use crate::manner::Speaks;
use crate::server::Server;

pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
pub const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
pub const MODERN: &str = "2026-07-28";
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    Legacy,
    Modern,
}

/// What the handshake of the legacy era left.
pub struct Session {
    pub capabilities: Value,
}

/// The era of a request that this process serves.
pub fn admit(server: &Server, method: &str, params: &Value) -> Result<Era, Fault> {
    let enveloped = [VERSION_KEY, CAPABILITIES_KEY].iter().any(|key| !params["_meta"][key].is_null());
    let era = lock(server, method, enveloped)?;
    match era {
        Era::Legacy => check_legacy(server, method, enveloped)?,
        Era::Modern => check_modern(method, params)?,
    }
    Ok(era)
}

/// A dual process keeps to the era of the first message that has one.
fn lock(server: &Server, method: &str, enveloped: bool) -> Result<Era, Fault> {
    let mut locked = server.era.lock().expect("nobody panics with the era");
    let era = match (server.manner.speaks, *locked) {
        (Speaks::Legacy, _) => Era::Legacy,
        (Speaks::Modern, _) => Era::Modern,
        (Speaks::Dual, Some(era)) => era,
        (Speaks::Dual, None) if enveloped || method == "server/discover" => Era::Modern,
        (Speaks::Dual, None) if method == "initialize" => Era::Legacy,
        (Speaks::Dual, None) if method == "ping" => return Ok(Era::Legacy),
        (Speaks::Dual, None) => return Err(Fault::new(-32600, "neither initialized nor enveloped")),
    };
    *locked = Some(era);
    Ok(era)
}

fn check_legacy(server: &Server, method: &str, enveloped: bool) -> Result<(), Fault> {
    if enveloped && server.manner.speaks == Speaks::Dual {
        return Err(Fault::new(-32600, "this connection serves the era of the handshake"));
    }
    let free = ["initialize", "ping", "server/discover"].contains(&method);
    if !free && server.session.lock().expect("nobody panics with the session").is_none() {
        return Err(Fault::new(-32600, "initialize comes first"));
    }
    Ok(())
}

fn check_modern(method: &str, params: &Value) -> Result<(), Fault> {
    let meta = &params["_meta"];
    if method == "initialize" {
        let asked = params["protocolVersion"].as_str().or(meta[VERSION_KEY].as_str());
        return Err(unsupported(asked.unwrap_or_default()));
    }
    let Some(version) = meta[VERSION_KEY].as_str() else {
        return Err(Fault::new(-32602, format!("params._meta has no {VERSION_KEY}")));
    };
    if !meta[CAPABILITIES_KEY].is_object() {
        return Err(Fault::new(-32602, format!("params._meta has no {CAPABILITIES_KEY}")));
    }
    if version == MODERN { Ok(()) } else { Err(unsupported(version)) }
}

fn unsupported(asked: &str) -> Fault {
    let data = json!({ "supported": [MODERN], "requested": asked });
    Fault::new(-32022, "this protocol version is not served here").with(data)
}

/// The version that a handshake ends in.
pub fn agreed(asked: &Value) -> &'static str {
    LEGACY.into_iter().find(|version| *asked == **version).unwrap_or("2025-11-25")
}
