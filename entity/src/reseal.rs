//! Re-encryption of every secret column after a change of the master key.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};
use serde_json::json;

use crate::actor::Actor;
use crate::change::{Change, Event};
use crate::db::Db;
use crate::error::DbError;
use crate::rows::servers::{self, Sealed};
use crate::rows::{all_set, server_configs};
use crate::seal::{Place, Seal};

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
            let mut again = false;
            for column in [Sealed::Env, Sealed::Headers] {
                let place = row.place(column);
                again |= reseal_column(&place, row.sealed(column), new)?;
            }
            if again {
                servers::Entity::update::<servers::ActiveModel>(all_set(row)).exec(&change.tx).await?;
                changed += 1;
            }
        }
        let configs = server_configs::Entity::find()
            .filter(
                Condition::any()
                    .add(server_configs::Column::EnvSealed.is_not_null())
                    .add(server_configs::Column::HeadersSealed.is_not_null()),
            )
            .lock_exclusive()
            .all(&change.tx)
            .await?;
        for mut row in configs {
            let mut again = false;
            for column in [Sealed::Env, Sealed::Headers] {
                let (place, sealed) = row.sealed(column);
                again |= reseal_column(&place, sealed, new)?;
            }
            if again {
                let update = server_configs::Entity::update::<server_configs::ActiveModel>(all_set(row));
                update.exec(&change.tx).await?;
                changed += 1;
            }
        }
        let event = (changed > 0).then(|| Event {
            tenant: None,
            action: "master_key.rotate",
            target: "mcp_servers, mcp_server_configs".to_owned(),
            details: json!({ "rows": changed }),
        });
        change.commit(event).await?;
        self.use_seal(new.clone());
        Ok(changed)
    }
}

/// Seals a column again and returns whether the column changed.
fn reseal_column(place: &Place, sealed: &mut Option<Vec<u8>>, seal: &Seal) -> Result<bool, DbError> {
    let aad = place.aad();
    let Some(sealed) = sealed.as_mut().filter(|sealed| !seal.is_current(sealed)) else {
        return Ok(false);
    };
    *sealed = seal.seal(&aad, &seal.open(&aad, sealed)?);
    Ok(true)
}
