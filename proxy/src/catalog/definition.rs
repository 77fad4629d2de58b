//! Validity of a listed definition (tool, resource, resource template or prompt) for strict MCP clients:
//! repair, refusal and lint of one item of a list.
//!
//! Valid is what every official client accepts: the zod schemas of `@modelcontextprotocol/sdk` 1.32 and
//! `@modelcontextprotocol/client` 2.4, and the pydantic models of the Python SDK 2.3 and 1.30. One item that
//! one of them refuses costs its user the whole list. `tests/clients/definitions.py` asks the clients.

mod clients;
mod json_schema;
mod lint;
mod repairs;
mod scan;
mod shape;
#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

use protocol::mcp::Era;
use serde::Serialize;
use serde_json::value::RawValue;

use self::repairs::Repairs;
use super::ListKind;
use crate::message::excerpt;

/// A definition that cannot be repaired, since more than one reading is possible.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// The server's own name, URI or URI template, if it is text.
    pub name: Option<String>,
    /// Member and problem, as in "`inputSchema` is null; it has to be an object".
    pub reason: String,
}

/// Something unusual about a definition that is listed.
#[derive(Serialize, Clone, Debug)]
pub struct Warning {
    /// Rule, as in `parameter_starts_with_underscore`.
    pub code: &'static str,
    /// Member and value that the rule is about.
    pub detail: String,
    /// Clients that are known to fail at it, with version and consequence.
    pub clients: &'static [&'static str],
}

impl Warning {
    /// Returns true if lists of all servers show the definition without what the warning is about.
    pub fn is_repaired(&self) -> bool {
        self.code == clients::REPAIRED
    }
}

/// Examines one item of a list. Returns the definition after its repair, with all other bytes as the server
/// wrote them; none if it was valid.
///
/// `era` is the era of the server: up to 2025-11-25, an output schema is about an object; in 2026-07-28 it
/// may be about any type.
///
/// # Errors
/// An item that one of the official clients would refuse, and that has no single valid reading.
pub fn examine(kind: ListKind, era: Era, raw: &RawValue) -> Result<Option<String>, LeftOut> {
    examined(kind, era, raw.get())
        .map(|(repaired, _)| repaired)
        .map_err(|reason| LeftOut { name: name_of(kind, raw), reason: excerpt(reason.as_bytes()) })
}

/// Returns what is unusual about an item that is listed; nothing about one that is left out.
pub fn warnings(kind: ListKind, era: Era, raw: &RawValue) -> Vec<Warning> {
    let Ok((repaired, mut warnings)) = examined(kind, era, raw.get()) else { return Vec::new() };
    lint::lint(kind, repaired.as_deref().unwrap_or(raw.get()), &mut warnings);
    warnings
}

/// Returns the repaired definition, if it needed a repair, and the warnings about that.
fn examined(kind: ListKind, era: Era, text: &str) -> Result<(Option<String>, Vec<Warning>), String> {
    scan::check(text)?;
    let mut repairs = Repairs::new(text);
    shape::check(kind, era, text, &mut repairs)?;
    let warnings = repairs.warnings();
    let repaired = repairs.apply();
    if kind == ListKind::Tools {
        json_schema::check_output(repaired.as_deref().unwrap_or(text))?;
    }
    Ok((repaired, warnings))
}

/// Returns the naming member of an item that may be malformed.
fn name_of(kind: ListKind, raw: &RawValue) -> Option<String> {
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    let key = match kind {
        ListKind::Tools | ListKind::Prompts => "name",
        ListKind::Resources => "uri",
        ListKind::ResourceTemplates => "uriTemplate",
    };
    serde_json::from_str(members.get(key)?.get()).ok()
}
