//! The rules of the lint, and the clients that are known to fail at what a rule is about.

use super::Warning;
use crate::message::excerpt;

/// Unusual trait of a definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// A tool without `inputSchema`, or a schema whose `type` was missing or a list.
    RepairedType,
    /// A property whose schema was `true` or `false`.
    RepairedBoolean,
    /// An optional member that was null.
    RepairedNull,
    /// A key of `_meta` that the specification does not allow.
    RepairedMeta,
    ParameterStartsWithUnderscore,
    TypeIsAList,
    /// A schema below the top without a type of any form.
    TypeIsMissing,
    /// A `$ref` within `$defs`.
    DefinitionRefers,
    NameIsRewritten,
    NameIsLong,
    NoProperties,
    NoDescription,
}

/// Code of the rules about what is repaired.
pub const REPAIRED: &str = "repaired";

/// Most places that a warning names.
const MAX_PLACES: usize = 5;

/// Returns a rule's warning about these places in a definition; none without a place.
pub fn warning<'a>(rule: Rule, mut places: impl Iterator<Item = &'a str>) -> Option<Warning> {
    let named: Vec<String> =
        places.by_ref().take(MAX_PLACES).map(|place| excerpt(place.as_bytes())).collect();
    let detail = match places.count() {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    };
    let (code, clients) = entry(rule);
    (!named.is_empty()).then_some(Warning { code, detail, clients })
}

/// Returns the code of a rule and its clients.
fn entry(rule: Rule) -> (&'static str, &'static [&'static str]) {
    match rule {
        Rule::RepairedType => (
            REPAIRED,
            &[
                "@modelcontextprotocol/sdk 1.32: loses the whole list",
                "@modelcontextprotocol/client 2.4: loses the whole list",
                "mcp 2.3 (Python): loses the whole list",
                "fastmcp 4.1: loses the whole list",
            ],
        ),
        Rule::RepairedBoolean => (REPAIRED, &["@modelcontextprotocol/sdk 1.32: loses the whole list"]),
        Rule::RepairedNull => (
            REPAIRED,
            &[
                "@modelcontextprotocol/sdk 1.32: loses the whole list",
                "@modelcontextprotocol/client 2.4: loses the whole list",
            ],
        ),
        Rule::RepairedMeta => (REPAIRED, &["agent-framework-core 1.23.0: loses the whole list"]),
        Rule::ParameterStartsWithUnderscore => (
            "parameter_starts_with_underscore",
            &[
                "llama-index-tools-mcp 0.6.0: loses the whole list",
                "crewai-tools 1.15.30: loses the whole list",
                "mcp-use 1.7.1: loses the whole list",
                "autogen-ext 0.7.5: loses the whole list",
            ],
        ),
        Rule::TypeIsAList => {
            ("type_is_a_list", &["autogen-ext 0.7.5: loses the whole list (unhashable type: 'list')"])
        }
        Rule::TypeIsMissing => {
            ("type_is_missing", &["autogen-ext 0.7.5: loses the whole list (UnsupportedKeywordError)"])
        }
        Rule::DefinitionRefers => (
            "definition_refers_to_another",
            &[
                "autogen-ext 0.7.5: loses the whole list if the other one comes later (PydanticUndefinedAnnotation)",
            ],
        ),
        Rule::NameIsRewritten => (
            "name_is_rewritten",
            &[
                "@openai/agents 0.20.0: `-`, `.` and `/` become `_`",
                "crewai-tools 1.15.30: `-`, `.`, `/` and runs of `_` become `_`, capitals become small",
                "smolagents 1.26.0: `-` becomes `_`, `.` and `/` are removed",
                "agent-framework-core 1.23.0: `/` becomes `-`",
            ],
        ),
        Rule::NameIsLong => ("name_is_long", &["crewai-tools 1.15.30: cuts the name after 64 characters"]),
        Rule::NoProperties => {
            ("no_properties", &["smolagents 1.26.0: loses the whole list (KeyError: 'properties')"])
        }
        // Every client lists it; a model has only the name to go by.
        Rule::NoDescription => ("no_description", &[]),
    }
}
