//! Values of settings with their source: a default, a server's row or a config row.

use jiff::Timestamp;
use protocol::ConfigId;

/// Source of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The gateway's configuration, in the absence of rows.
    Default,
    Server,
    /// A config of the tenant, or of one of its agents.
    Config {
        id: ConfigId,
        for_agent: bool,
        updated_at: Timestamp,
    },
}

/// A value in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effective<T> {
    pub value: T,
    pub source: Source,
}

impl<T> Effective<T> {
    /// Returns the value of a server's row, else the default.
    pub fn of_server(set: Option<T>, default: T) -> Self {
        set.map_or(default.into(), |value| Self { value, source: Source::Server })
    }
}

/// Converts a default.
impl<T> From<T> for Effective<T> {
    fn from(value: T) -> Self {
        Self { value, source: Source::Default }
    }
}
