//! Record policies: retention and redaction of a tenant's executions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Settings of a tenant's record, and their last change; `None` while they are the defaults.
#[derive(Clone, Debug, Default)]
pub struct RecordPolicy {
    pub settings: RecordPolicySettings,
    pub updated_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordPolicySettings {
    /// Days after which an execution is deleted; `None` keeps all.
    pub retention_days: Option<u32>,
    /// Names of members whose values are not kept, beside those that name a secret.
    pub redact_keys: Vec<String>,
    /// Regular expressions of texts that are not kept.
    pub redact_patterns: Vec<String>,
}

/// A change: `None` keeps a value.
#[derive(Clone, Debug, Default)]
pub struct RecordPolicyPatch {
    pub retention_days: Option<Option<u32>>,
    pub redact_keys: Option<Vec<String>>,
    pub redact_patterns: Option<Vec<String>>,
}

impl RecordPolicyPatch {
    pub fn apply(self, settings: &mut RecordPolicySettings) {
        let RecordPolicyPatch { retention_days, redact_keys, redact_patterns } = self;
        settings.retention_days = retention_days.unwrap_or(settings.retention_days);
        if let Some(keys) = redact_keys {
            settings.redact_keys = keys;
        }
        if let Some(patterns) = redact_patterns {
            settings.redact_patterns = patterns;
        }
    }
}
