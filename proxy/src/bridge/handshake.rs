//! Handshake results translated to the other era (row 1).

use protocol::Members;
use protocol::mcp::{MODERN, meta};
use protocol::members::raw;
use serde_json::value::RawValue;

use super::results;
use crate::upstream::Initialized;

/// Returns the `serverInfo` of an `initialize` or `server/discover` result.
pub fn server_info(result: &[u8]) -> Option<Box<RawValue>> {
    let members = Members::from_slice(result).ok()?;
    let info = members.get("serverInfo").map(ToOwned::to_owned);
    info.or_else(|| {
        let about = Members::read(members.get("_meta")?.get()).ok()?;
        about.get(meta::SERVER_INFO).map(ToOwned::to_owned)
    })
}

/// Returns the result of a legacy client's `initialize`, in the negotiated revision.
///
/// # Errors
/// The fault of a handshake with a member that is there twice.
pub fn to_legacy(initialized: &Initialized, version: &str) -> Result<String, serde_json::Error> {
    let mut members = Members::from_slice(&initialized.result)?;
    let info = server_info(&initialized.result);
    members.retain(|name| {
        !matches!(name, "resultType" | "supportedVersions" | "ttlMs" | "cacheScope" | "serverInfo")
    });
    results::without_modern_meta(&mut members);
    members.set_text("protocolVersion", version);
    let capabilities = members.get("capabilities").map(ToOwned::to_owned);
    let capabilities = match &capabilities {
        Some(declared) => without_extensions(declared),
        None => raw("{}"),
    };
    members.set("capabilities", capabilities);
    members.set("serverInfo", info.unwrap_or_else(|| raw(r#"{"name":"unknown","version":"0"}"#)));
    Ok(members.write())
}

/// Removes the extension for tasks, which differ in the legacy era (row 13).
fn without_extensions(declared: &RawValue) -> Box<RawValue> {
    let Ok(mut declared) = Members::read(declared.get()) else { return raw("{}") };
    // A list would have the tasks of all callers that share the server.
    let tasks = declared.get("tasks").map(ToOwned::to_owned);
    if let Some(Ok(mut tasks)) = tasks.as_deref().map(|own| Members::read(own.get())) {
        tasks.retain(|name| name != "list");
        declared.set("tasks", tasks.to_raw());
    }
    let extensions = declared.get("extensions").map(ToOwned::to_owned);
    if let Some(Ok(mut extensions)) = extensions.as_deref().map(|own| Members::read(own.get())) {
        extensions.retain(|name| name != "io.modelcontextprotocol/tasks");
        match extensions.is_empty() {
            true => declared.retain(|name| name != "extensions"),
            false => declared.set("extensions", extensions.to_raw()),
        }
    }
    declared.to_raw()
}

/// Returns the result of a modern client's `server/discover`.
///
/// # Errors
/// The fault of a handshake with a member that is there twice.
pub fn to_modern(initialized: &Initialized) -> Result<String, serde_json::Error> {
    let mut members = Members::from_slice(&initialized.result)?;
    let info = server_info(&initialized.result);
    members.retain(|name| !matches!(name, "protocolVersion" | "serverInfo"));
    members.set("supportedVersions", raw(format!(r#"["{MODERN}"]"#)));
    // Legacy tasks differ from the extension (row 13).
    members.edit("capabilities", |declared| declared.retain(|name| name != "tasks"));
    members.or_insert("resultType", || raw(r#""complete""#));
    members.or_insert("ttlMs", || raw("0"));
    members.set_text("cacheScope", "private");
    members.edit("_meta", |about| {
        if let Some(info) = info {
            about.or_insert(meta::SERVER_INFO, || info);
        }
    });
    Ok(members.write())
}

#[cfg(test)]
mod tests {
    use protocol::mcp::Era;

    use super::*;

    fn initialized(era: Era, result: &'static str) -> Initialized {
        Initialized {
            era,
            result: bytes::Bytes::from_static(result.as_bytes()),
            protocol_version: String::new(),
            generation: 1,
        }
    }

    #[test]
    fn each_era_reads_the_other() {
        let old = initialized(
            Era::Legacy,
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{}},"serverInfo":{"name":"s"},"instructions":"i","x":1.0}"#,
        );
        assert_eq!(
            to_modern(&old).unwrap(),
            r#"{"capabilities":{"tools":{}},"instructions":"i","x":1.0,"supportedVersions":["2026-07-28"],"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#
        );
        let new = initialized(
            Era::Modern,
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},"ttlMs":1,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#,
        );
        assert_eq!(
            to_legacy(&new, "2025-03-26").unwrap(),
            r#"{"capabilities":{"tools":{}},"protocolVersion":"2025-03-26","serverInfo":{"name":"s"}}"#
        );
    }
}
