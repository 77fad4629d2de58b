//! The servers that run as a program of their own, by name, with the arguments of a command line.

use std::sync::Arc;

use protocol::provider::ToolProvider;

use crate::Calculator;

/// Value of an environment variable.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Names of the servers, in the order in which they are listed.
pub const NAMES: [&str; 1] = ["calculator"];

/// Opens a server with its arguments and variables.
///
/// # Errors
/// A sentence that says what is wrong and what to give.
pub fn open(
    name: &str,
    arguments: &[String],
    _variable: Variable<'_>,
) -> Result<Arc<dyn ToolProvider>, String> {
    match name {
        "calculator" => match arguments {
            [] => Ok(Arc::new(Calculator)),
            [argument, ..] => Err(format!("`calculator` takes no argument, not even `{argument}`")),
        },
        _ => Err(format!("there is no server `{name}`; there are {}", NAMES.join(", "))),
    }
}
