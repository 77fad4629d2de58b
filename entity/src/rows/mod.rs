//! SQL tables as sea-orm entities, and the conversion of rows to the crate's types. Only the scopes use
//! them.

pub(crate) mod agents;
pub(crate) mod audit_events;
pub(crate) mod catalogs;
pub(crate) mod change_counter;
pub(crate) mod collab;
pub(crate) mod credentials;
pub(crate) mod discoveries;
pub(crate) mod marketplace;
pub(crate) mod record_policies;
pub(crate) mod server_configs;
pub(crate) mod server_usage;
pub(crate) mod servers;
pub(crate) mod sessions;
pub(crate) mod tenant_changes;
pub(crate) mod tenants;

use sea_orm::ActiveModelTrait;
use serde_json::Value;

use crate::error::DbError;

/// Returns a row of which every column is written.
pub(crate) fn all_set<A: ActiveModelTrait>(row: impl Into<A>) -> A {
    row.into().reset_all()
}

/// Reads the texts of a JSON column that holds a list of them.
pub(crate) fn texts(column: Value, name: &str) -> Result<Vec<String>, DbError> {
    serde_json::from_value(column).map_err(|error| DbError::Corrupt(format!("column {name}: {error}")))
}

/// Writes a missing JSON value as SQL's null, never the JSON null.
pub(crate) fn some_json(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !value.is_null())
}

/// Returns the error of an unknown value in a column.
pub(crate) fn unknown_word(name: &str, word: &str) -> DbError {
    DbError::Corrupt(format!("column {name}: unknown word `{word}`"))
}
