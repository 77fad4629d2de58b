//! Authorizer of SQLite: decides, while a statement is prepared, about each table, function and pragma in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Functions that read or load files, or write.
const REFUSED: [&str; 9] = [
    "load_extension",
    "readfile",
    "writefile",
    "fsdir",
    "lsmode",
    "edit",
    "fts3_tokenizer",
    "optimize",
    "sqlite_log",
];

/// Functions whose time grows with the product of their arguments' lengths. A call of one cannot be interrupted
/// (about 10 s with arguments of 1 MB), and neither can those that follow in the same row.
const SLOW: [&str; 13] = [
    "instr",
    "replace",
    "trim",
    "ltrim",
    "rtrim",
    "unhex",
    "like",
    "glob",
    "json_patch",
    "json_set",
    "json_insert",
    "json_remove",
    "jsonb_patch",
];

/// Most uses of [`SLOW`] functions in one statement.
pub const MOST_SLOW: u32 = 32;

/// Pragmas that describe tables. They take no value that changes something.
const PRAGMAS: [&str; 8] = [
    // Full-text indexes ask this.
    "data_version",
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
];

/// Uses of slow functions since the last reset.
#[derive(Clone, Default)]
pub struct SlowUses(Arc<AtomicU32>);

impl SlowUses {
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub fn are_too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MOST_SLOW
    }
}

/// Installs the authorizer for the rest of the connection's life.
pub fn install(connection: &Connection) -> rusqlite::Result<SlowUses> {
    let uses = SlowUses::default();
    let counted = uses.clone();
    connection.authorizer(Some(move |context: AuthContext<'_>| match allows(context.action, &counted) {
        true => Authorization::Allow,
        false => Authorization::Deny,
    }))?;
    Ok(uses)
}

/// Allows reading, and nothing that is not named here.
fn allows(action: AuthAction<'_>, uses: &SlowUses) -> bool {
    let is_in = |list: &[&str], name: &str| list.iter().any(|entry| entry.eq_ignore_ascii_case(name));
    match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } if is_in(&SLOW, function_name) => {
            uses.0.fetch_add(1, Ordering::Relaxed) < MOST_SLOW
        }
        AuthAction::Function { function_name } => !is_in(&REFUSED, function_name),
        AuthAction::Pragma { pragma_name, .. } => is_in(&PRAGMAS, pragma_name),
        _ => false,
    }
}
