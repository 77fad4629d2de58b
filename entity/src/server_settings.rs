//! Settings of MCP servers and the patch that changes them, both generated from one list.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::DbError;
use crate::secrets::{Secrets, SecretsPatch};
use crate::server::Transport;

/// Defines the settings, and the patch that changes them, from one list: each with its name in JSON, its
/// type and, where it is not the type's own, its default.
macro_rules! settings {
    ($($(#[$attribute:meta])* $field:ident $name:literal: $type:ty $(= $default:expr)?;)*) => {
        /// Settings of a server that a person can change.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(default, rename_all(serialize = "camelCase"))]
        pub struct ServerSettings {
            $($(#[$attribute])* pub $field: $type,)*
        }

        impl Default for ServerSettings {
            /// Returns the settings of an enabled server whose era is discovered.
            fn default() -> Self {
                Self { $($field: settings!(@default $($default)?),)* }
            }
        }

        /// A change of a server: `None` keeps a value. The slug never changes.
        #[derive(Clone, Debug, Default)]
        pub struct ServerPatch {
            pub transport: Option<Transport>,
            $(pub $field: Option<<$type as Setting>::Patch>,)*
        }

        impl ServerPatch {
            /// Returns the names of the values to be set, without the transport.
            pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
                [$(self.$field.is_some().then_some($name)),*].into_iter().flatten()
            }

            /// Applies the patch.
            ///
            /// # Errors
            /// A merge into sealed values that cannot be opened.
            pub(crate) fn apply(self, settings: &mut ServerSettings) -> Result<(), DbError> {
                $(if let Some(patch) = self.$field {
                    settings.$field.change(patch)?;
                })*
                Ok(())
            }
        }

        impl ServerSettings {
            /// Returns the names of the settings that differ.
            pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
                [$((self.$field != other.$field).then_some($name)),*].into_iter().flatten().collect()
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

settings! {
    name "name": String;
    description "description": Option<String>;
    category "category": Option<String>;
    tags "tags": Vec<String>;
    version "version": Option<String>;
    /// Program of a stdio server; the provider's name of a built-in one.
    command "command": Option<String>;
    args "args": Vec<String>;
    env "env": Secrets;
    cwd "cwd": Option<String>;
    url "url": Option<String>;
    headers "headers": Secrets;
    enabled "enabled": bool = true;
    timeout_ms "timeoutMs": Option<i64>;
    start_timeout_ms "startTimeoutMs": Option<i64>;
    max_concurrency "maxConcurrency": Option<i32>;
    #[serde(skip_deserializing)]
    retry "retry": Option<Value>;
    idle_timeout_ms "idleTimeoutMs": Option<i64>;
    /// `auto`, `legacy` or `modern`.
    era "era": String = "auto".to_owned();
}

/// Launch and connection settings: a change of one raises the revision.
pub(crate) const LAUNCH: [&str; 7] = ["transport", "command", "args", "env", "cwd", "url", "headers"];

/// Settings of a built-in server that an operator may change.
pub(crate) const OPERATIONAL: [&str; 6] =
    ["enabled", "timeoutMs", "startTimeoutMs", "maxConcurrency", "retry", "idleTimeoutMs"];

/// A value that a patch changes.
pub trait Setting {
    type Patch;

    fn change(&mut self, patch: Self::Patch) -> Result<(), DbError>;
}

/// Implements [`Setting`] for types whose patch is the new value.
macro_rules! replaced {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            type Patch = Self;

            fn change(&mut self, value: Self) -> Result<(), DbError> {
                *self = value;
                Ok(())
            }
        }
    )*};
}

replaced!(bool, String, Vec<String>, Option<String>, Option<i64>, Option<i32>, Option<Value>);

impl Setting for Secrets {
    type Patch = SecretsPatch;

    fn change(&mut self, patch: SecretsPatch) -> Result<(), DbError> {
        *self = patch.apply(self)?.into();
        Ok(())
    }
}
