//! Declared servers, of the configuration file and of the gateway itself. Every start makes their rows
//! equal to the declaration.

use std::collections::HashSet;

use sea_orm::QuerySelect;

use crate::actor::Actor;
use crate::change::Change;
use crate::error::DbError;
use crate::rows::servers::Model;
use crate::scope::OperatorScope;
use crate::scope::server_changes::{insert, remove, save};
use crate::scope::server_rows::{event, new_row, replace};
use crate::server::{ManagedBy, NewServer};
use crate::server_settings::ServerSettings;

impl OperatorScope<'_> {
    /// Makes the global servers of this origin equal the declaration: creates, changes and deletes rows,
    /// and returns the number of changed rows; a second time none. Keeps the settings of built-in servers
    /// that the operator may change (see [`update_server`](Self::update_server)). A slug declared twice, or
    /// taken by a global server of another origin, is `SlugTaken`, and nothing changes.
    pub async fn declare_servers(
        &self,
        managed_by: ManagedBy,
        declared: Vec<NewServer>,
        actor: &Actor,
    ) -> Result<u64, DbError> {
        let change = Change::begin_alone(self.db, actor).await?;
        let seal = self.db.seal();
        let mut rows: Vec<Model> = self.global().lock_exclusive().all(&change.tx).await?;
        let mut events = Vec::new();
        let mut seen = HashSet::new();
        for new in declared {
            let slug = new.slug.as_str().to_owned();
            let known = rows.iter().position(|row| row.slug == slug).map(|at| rows.swap_remove(at));
            let is_other = known.as_ref().is_some_and(|row| row.managed_by != managed_by.as_str());
            if is_other || !seen.insert(slug.clone()) {
                return Err(DbError::SlugTaken { slug });
            }
            match known {
                None => {
                    let row = new_row(None, new, managed_by, &seal)?;
                    insert(&change.tx, &row).await?;
                    events.push(event("server.create", &row, None, &seal)?);
                }
                Some(mut row) => {
                    let settings = kept(new.settings, &row);
                    let changed = replace(&mut row, Some(new.transport), settings, &seal)?;
                    if !changed.is_empty() {
                        save(&change.tx, &row).await?;
                        events.push(event("server.update", &row, Some(changed), &seal)?);
                    }
                }
            }
        }
        for row in rows.into_iter().filter(|row| row.managed_by == managed_by.as_str()) {
            events.push(remove(self.db, &change.tx, row).await?);
        }
        let changed = events.len() as u64;
        change.commit(events).await?;
        Ok(changed)
    }
}

/// Returns the declared settings; of a built-in server with the operator's settings of the row.
fn kept(declared: ServerSettings, row: &Model) -> ServerSettings {
    if row.managed_by != ManagedBy::Builtin.as_str() {
        return declared;
    }
    ServerSettings {
        enabled: row.enabled,
        timeout_ms: row.timeout_ms,
        start_timeout_ms: row.start_timeout_ms,
        max_concurrency: row.max_concurrency,
        retry: row.retry.clone(),
        idle_timeout_ms: row.idle_timeout_ms,
        ..declared
    }
}
