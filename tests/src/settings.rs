//! With which settings an app is started, beside those the harness gives to all of them.

use std::collections::BTreeMap;

/// Environment, configuration file and arguments of a gateway.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    pub environment: BTreeMap<String, String>,
    /// The text of the file given by `--config`.
    pub file: Option<String>,
    pub stock_limits: bool,
}

impl Settings {
    pub fn new() -> Settings {
        Settings::default()
    }

    pub fn env(mut self, name: &str, value: impl ToString) -> Settings {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    pub fn file(mut self, toml: impl Into<String>) -> Settings {
        self.file = Some(toml.into());
        self
    }

    /// Keeps the gateway's own rate limit, which is off for the other trials.
    pub fn with_stock_limits(mut self) -> Settings {
        self.stock_limits = true;
        self
    }
}
