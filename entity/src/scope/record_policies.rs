//! Record policies of tenants, and the deletion of executions that are older than they allow.

use jiff::{SignedDuration, Timestamp};
use protocol::TenantId;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, EntityTrait, QuerySelect, Statement};
use serde_json::json;

use crate::actor::Actor;
use crate::change::{self, Event};
use crate::db::Backend;
use crate::error::DbError;
use crate::record::first_id_after;
use crate::record_policy::{RecordPolicy, RecordPolicyPatch};
use crate::rows::all_set;
use crate::rows::record_policies::{ActiveModel, Column, Entity, Model};
use crate::scope::{OperatorScope, TenantScope, refuse_nul};
use crate::time;

/// Executions deleted in one transaction, which bounds the time that the record's writer waits.
const BATCH: u64 = 1_000;

impl TenantScope<'_> {
    /// Returns the tenant's record policy; the defaults where none is set.
    pub async fn record_policy(&self) -> Result<RecordPolicy, DbError> {
        let row = Entity::find_by_id(self.tenant.0).one(self.db.reader()).await?;
        row.map_or(Ok(RecordPolicy::default()), RecordPolicy::try_from)
    }

    /// Changes the tenant's record policy.
    pub async fn update_record_policy(
        &self,
        patch: RecordPolicyPatch,
        actor: &Actor,
    ) -> Result<RecordPolicy, DbError> {
        let change = self.change(actor).await?;
        self.hold_tenant(&change.tx).await?;
        let row = Entity::find_by_id(self.tenant.0).lock_exclusive().one(&change.tx).await?;
        let before = row.map_or(Ok(RecordPolicy::default()), RecordPolicy::try_from)?;
        let mut settings = before.settings.clone();
        patch.apply(&mut settings);
        if settings == before.settings {
            return Ok(before);
        }
        refuse_nul(settings.redact_keys.iter().chain(&settings.redact_patterns).map(String::as_str))?;
        let row = Model {
            tenant_id: self.tenant.0,
            settings: json!(settings),
            updated_at: time::to_column(time::now()),
        };
        let again = OnConflict::column(Column::TenantId)
            .update_columns([Column::Settings, Column::UpdatedAt])
            .to_owned();
        let insert = Entity::insert::<ActiveModel>(all_set(row.clone())).on_conflict(again);
        insert.exec_without_returning(&change.tx).await?;
        let event = Event {
            tenant: Some(self.tenant),
            action: "record_policy.update",
            target: self.tenant.to_string(),
            details: row.settings.clone(),
        };
        change.commit([event]).await?;
        row.try_into()
    }

    /// Deletes the finished executions that started before a time; returns their number. Each batch is a
    /// transaction with an audit event.
    async fn expire_executions(&self, before: Timestamp) -> Result<u64, DbError> {
        let actor = Actor::gateway(self.tenant);
        let mut deleted = 0;
        loop {
            let tx = change::begin(self.db).await?;
            let gone = tx.execute_raw(self.deletion(before)).await?.rows_affected();
            if gone > 0 {
                let details = json!({ "startedBefore": before, "executions": gone });
                let target = self.tenant.to_string();
                let event = Event { tenant: Some(self.tenant), action: "executions.expire", target, details };
                change::write(&tx, &actor, event).await?;
            }
            tx.commit().await?;
            deleted += gone;
            if gone < BATCH {
                return Ok(deleted);
            }
        }
    }

    fn deletion(&self, before: Timestamp) -> Statement {
        let (tenant, id, at) = match self.db.backend() {
            Backend::Sqlite => ("?1", "?2", "?3"),
            Backend::Postgres => ("$1", "$2", "$3"),
        };
        // The key's order finds the oldest rows; the exact bound is the column's.
        let sql = format!(
            "DELETE FROM mcp_tool_executions WHERE tenant_id = {tenant} AND id IN (
                SELECT id FROM mcp_tool_executions
                WHERE tenant_id = {tenant} AND id < {id} AND started_at < {at} AND outcome <> 'running'
                ORDER BY id LIMIT {BATCH})"
        );
        let values = [self.tenant.0.into(), first_id_after(before).into(), time::to_column(before).into()];
        Statement::from_sql_and_values(self.db.writer().get_database_backend(), sql, values)
    }
}

impl OperatorScope<'_> {
    /// Deletes the executions of each tenant that are older than its record policy allows; returns tenants with the
    /// number of their deleted rows. A tenant whose rows cannot be deleted does not keep the others' from it.
    pub async fn expire_executions(&self, now: Timestamp) -> Result<Vec<(TenantId, u64)>, DbError> {
        let mut expired = Vec::new();
        for row in Entity::find().all(self.db.reader()).await? {
            let tenant = TenantId(row.tenant_id);
            let outcome = match RecordPolicy::try_from(row).map(|policy| policy.settings.retention_days) {
                Ok(None) => continue,
                Ok(Some(days)) => {
                    let kept = SignedDuration::from_hours(24 * i64::from(days));
                    let before = now.saturating_sub(kept).unwrap_or(Timestamp::MIN);
                    self.db.tenant(tenant).expire_executions(before).await
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(0) => {}
                Ok(deleted) => expired.push((tenant, deleted)),
                Err(error) => {
                    tracing::warn!(%tenant, error = error.detail(), "old executions cannot be deleted");
                }
            }
        }
        Ok(expired)
    }
}
