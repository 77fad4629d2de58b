//! `/v1/mcp/executions/settings`: retention and redaction of the tenant's record.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use entity::record::Redaction;
use entity::{RecordPolicy, RecordPolicyPatch};
use protocol::Scope;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Moment, Named, Sent, body};
use crate::rest::input::{Fields, Parameters, Payload, form};

body!(
    RecordSettingsPatch as "RecordSettingsPatch", record_settings_patch,
    "A change of the record's settings (RFC 7396): what is left out stays, null sets the default again.",
    {"retentionDays": 90, "redactKeys": ["birthday"], "redactPatterns": ["[0-9]{16}"]}
);

/// Retention and redaction of a tenant's executions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecordSettings)]
pub struct RecordSettingsBody {
    /// Days after which an execution is deleted; null keeps all.
    #[schema(minimum = 1, maximum = 3650)]
    retention_days: Option<u32>,
    redact_keys: Vec<String>,
    redact_patterns: Vec<String>,
    /// Null while everything is the default.
    #[schema(value_type = Option<Moment>)]
    updated_at: Option<jiff::Timestamp>,
}

impl From<RecordPolicy> for RecordSettingsBody {
    fn from(policy: RecordPolicy) -> Self {
        Self {
            retention_days: policy.settings.retention_days,
            redact_keys: policy.settings.redact_keys,
            redact_patterns: policy.settings.redact_patterns,
            updated_at: policy.updated_at,
        }
    }
}

fn record_settings_patch(f: &mut Fields) -> Option<RecordPolicyPatch> {
    f.fixed(&["updatedAt"], "cannot be set");
    let days = "Days after which an execution is deleted, within minutes of the day's end; null keeps all.";
    let keys = "Names of members whose values are not kept, at any depth of the arguments. Case and everything but \
                letters and digits does not count. Names that mean a secret (`password`, `token`, …) are always among them.";
    let patterns = "Regular expressions of what is not kept of texts, numbers and names of members in the arguments, and of \
                    error messages. Without look-around and back-references. With any, arguments over 64 KiB are not kept.";
    let list = |rules: Option<Option<Vec<String>>>| rules.map(Option::unwrap_or_default);
    Some(RecordPolicyPatch {
        retention_days: f.clearing("retentionDays", form::whole(1, 3650), days),
        redact_keys: list(f.clearing("redactKeys", names(), keys)),
        redact_patterns: list(f.clearing("redactPatterns", expressions(), patterns)),
    })
}

fn names() -> form::Form<Vec<String>> {
    form::list(100, form::text(1, 100)).then(|names| {
        Redaction::new(&names, &[])
            .map(|_| names)
            .map_err(|problem| format!("has a name that is none: {problem}"))
    })
}

fn expressions() -> form::Form<Vec<String>> {
    form::list(20, form::text(1, 500)).then(|patterns| {
        let read = Redaction::new(&[], &patterns);
        read.map(|_| patterns).map_err(|problem| format!("has a pattern that cannot be used: {problem}"))
    })
}

/// Returns how long executions are kept, and what of them is not.
///
/// Needs `executions:read`.
#[utoipa::path(
    get, path = "/v1/mcp/executions/settings", tag = "executions",
    responses((status = 200, description = "The settings.", body = RecordSettingsBody), Always, Filtered)
)]
pub async fn find_record_settings(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<RecordSettingsBody>, Problem> {
    acting.require(Scope::ExecutionsRead)?;
    query.none()?;
    Ok(Json(acting.rows(&app).record_policy().await?.into()))
}

/// Changes how long executions are kept, and what of them is not. New rules hold for later calls.
///
/// Needs `configs:write`.
#[utoipa::path(
    patch, path = "/v1/mcp/executions/settings", tag = "executions", request_body = RecordSettingsPatch,
    responses(
        (status = 200, description = "The settings as they are now.", body = RecordSettingsBody),
        Always, Named, Filtered, Sent
    )
)]
pub async fn update_record_settings(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Json<RecordSettingsBody>, Problem> {
    acting.require(Scope::ConfigsWrite)?;
    let patch = payload.read(record_settings_patch)?;
    let changed = acting.rows(&app).update_record_policy(patch, &acting.actor()).await;
    Ok(Json(changed.map_err(Problem::of("tenant"))?.into()))
}
