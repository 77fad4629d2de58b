//! Configs: settings of one server for a tenant or for one of its agents. Settings, their patch and their names
//! are generated from one list.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{AgentId, ArgumentRule, ConfigId, ServerId, TenantId};
use serde::{Deserialize, Serialize};

use crate::error::DbError;
use crate::secrets::{Secrets, SecretsPatch};

/// Settings of one server for a tenant (`agent` is `None`) or one of its agents.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub id: ConfigId,
    pub tenant: TenantId,
    pub server: ServerId,
    pub agent: Option<AgentId>,
    pub settings: ConfigSettings,
    pub secrets: ConfigSecrets,
    /// Number from 1, raised by each change.
    pub revision: i32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewConfig {
    pub server: ServerId,
    pub agent: Option<AgentId>,
    pub settings: ConfigSettings,
    pub secrets: ConfigSecrets,
}

/// Values beside those of the server: variables of its child, or headers of its requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigSecrets {
    pub env: Secrets,
    pub headers: Secrets,
}

impl NewConfig {
    /// Returns a config that inherits everything.
    pub fn new(server: ServerId, agent: Option<AgentId>) -> Self {
        Self { server, agent, settings: ConfigSettings::default(), secrets: ConfigSecrets::default() }
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $type:ty;)*) => {
        /// Settings of a config; `None` inherits. The row holds them as JSON.
        #[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct ConfigSettings {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }

        /// A change of a config: `None` keeps a value, `Some(None)` inherits again.
        #[derive(Clone, Debug, Default)]
        pub struct ConfigPatch {
            $(pub $field: Option<Option<$type>>,)*
            pub env: Option<SecretsPatch>,
            pub headers: Option<SecretsPatch>,
        }

        impl ConfigPatch {
            /// Applies the change.
            ///
            /// # Errors
            /// A merge into sealed values that cannot be opened.
            pub fn apply(
                self,
                settings: &mut ConfigSettings,
                secrets: &mut ConfigSecrets,
            ) -> Result<(), DbError> {
                $(if let Some(value) = self.$field {
                    settings.$field = value;
                })*
                if let Some(patch) = self.env {
                    secrets.env = patch.apply(&secrets.env)?.into();
                }
                if let Some(patch) = self.headers {
                    secrets.headers = patch.apply(&secrets.headers)?.into();
                }
                Ok(())
            }
        }
    };
}

settings! {
    enabled: bool;
    /// Names and globs of the server's own tools.
    allowed_tools: Vec<String>;
    blocked_tools: Vec<String>;
    /// URIs and globs of the server's own resources.
    allowed_resources: Vec<String>;
    /// Names and globs of the server's own prompts.
    allowed_prompts: Vec<String>;
    /// New names of the server's own tools.
    rename: BTreeMap<String, String>;
    /// New descriptions of the server's own tools.
    describe: BTreeMap<String, String>;
    timeout_ms: i64;
    /// Calls at the same time, per replica.
    max_concurrency: u32;
    /// 0 for no limit.
    calls_per_minute: u32;
    max_result_bytes: u64;
    /// Further attempts of requests that only read.
    retries: u8;
    /// Conditions on arguments of the server's own tools.
    rules: Vec<ArgumentRule>;
    resources: ChildResources;
    /// URL that the server had when headers were given: they are sent to no other origin.
    headers_for: String;
}

/// Limits of a child process (setrlimit(2)); `None` inherits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChildResources {
    /// Address space in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<u64>,
}

/// Filter of a list of configs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConfigFilter {
    pub server: Option<ServerId>,
    pub agent: Option<AgentId>,
}
