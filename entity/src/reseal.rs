//! Re-encryption of every secret column after a change of the master key.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};
use serde_json::json;

use crate::actor::Actor;
use crate::change::{Change, Event};
use crate::db::Db;
use crate::error::DbError;
use crate::rows::all_set;
use crate::rows::servers::{self, Sealed};
use crate::seal::Seal;

impl Db {
    /// Seals every secret again with the current key of `new`, which must open the present values: give it
    /// the present key as a previous one. Changes all rows or none, returns the number of changed rows, and
    /// uses `new` from then on.
    pub async fn reseal(&self, new: &Seal, actor: &Actor) -> Result<u64, DbError> {
        let change = Change::begin(self, None, actor).await?;
        let rows = servers::Entity::find()
            .filter(
                Condition::any()
                    .add(servers::Column::EnvSealed.is_not_null())
                    .add(servers::Column::HeadersSealed.is_not_null()),
            )
            .lock_exclusive()
            .all(&change.tx)
            .await?;
        let mut changed = 0;
        for mut row in rows {
            let env = reseal_column(&mut row, Sealed::Env, new)?;
            let headers = reseal_column(&mut row, Sealed::Headers, new)?;
            if env || headers {
                servers::Entity::update::<servers::ActiveModel>(all_set(row)).exec(&change.tx).await?;
                changed += 1;
            }
        }
        let event = (changed > 0).then(|| Event {
            tenant: None,
            action: "master_key.rotate",
            target: "mcp_servers".to_owned(),
            details: json!({ "rows": changed }),
        });
        change.commit(event).await?;
        self.use_seal(new.clone());
        Ok(changed)
    }
}

/// Seals a column again and returns whether the column changed.
fn reseal_column(row: &mut servers::Model, column: Sealed, seal: &Seal) -> Result<bool, DbError> {
    let aad = row.place(column).aad();
    let Some(sealed) = row.sealed(column).as_mut().filter(|sealed| !seal.is_current(sealed)) else {
        return Ok(false);
    };
    *sealed = seal.seal(&aad, &seal.open(&aad, sealed)?);
    Ok(true)
}
