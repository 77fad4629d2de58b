//! Argument rules of configs, as they are written: conditions on one argument of tools/call. `proxy` applies them.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// Conditions on one argument of the tools that the pattern names. All of them hold together.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArgumentRule {
    /// Name of a server's own tool, or a glob.
    pub tools: String,
    /// JSON pointer (RFC 6901) into the arguments.
    pub argument: String,
    /// Regular expression that matches a text from its beginning to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Regular expression that matches no part of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Number>,
    /// Most characters of a text, or elements of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// True for an argument that may not be given.
    #[serde(skip_serializing_if = "is_false")]
    pub forbidden: bool,
    /// True for an argument that must be given; another rule holds only where its argument is given.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
    /// Text for the caller who is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
