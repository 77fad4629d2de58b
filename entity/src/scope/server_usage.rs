//! Findings, uses and successes of servers per tenant, noted without audit events, revisions and change numbers: a discovery
//! after a change must not cause the next.

use std::collections::HashMap;

use jiff::Timestamp;
use protocol::{ServerId, TenantId};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::Value;

use crate::change;
use crate::error::DbError;
use crate::rows::server_usage::{ActiveModel, Column, Entity, Model};
use crate::rows::{all_set, some_json};
use crate::scope::{OperatorScope, TenantScope};
use crate::server::ServerUsage;
use crate::time;

impl TenantScope<'_> {
    /// Returns what is noted of each server that the tenant used.
    pub async fn server_usage(&self) -> Result<HashMap<ServerId, ServerUsage>, DbError> {
        let rows = Entity::find().filter(Column::TenantId.eq(self.tenant.0)).all(self.db.reader()).await?;
        Ok(rows.into_iter().map(|row| (ServerId(row.server_id), row.into())).collect())
    }

    /// Notes the result of a discovery, of an own server or a global one.
    pub async fn record_discovery(
        &self,
        id: ServerId,
        tools_count: i32,
        capabilities: Value,
    ) -> Result<(), DbError> {
        self.find_server(id).await?;
        let row = Model {
            tools_count: Some(tools_count),
            capabilities: some_json(Some(capabilities)),
            discovered_at: Some(time::to_column(time::now())),
            ..nothing_of(self.tenant, id)
        };
        let found = [Column::ToolsCount, Column::Capabilities, Column::DiscoveredAt];
        let again =
            OnConflict::columns([Column::TenantId, Column::ServerId]).update_columns(found).to_owned();
        let insert = Entity::insert(all_set::<ActiveModel>(row)).on_conflict(again);
        insert.exec_without_returning(self.db.writer()).await?;
        Ok(())
    }
}

impl OperatorScope<'_> {
    /// Notes when tenants last used servers.
    pub async fn touch_servers(&self, used: Vec<(TenantId, ServerId, Timestamp)>) -> Result<(), DbError> {
        self.note_times(Column::LastUsedAt, used).await
    }

    /// Notes when servers last answered tenants.
    pub async fn note_successes(
        &self,
        answered: Vec<(TenantId, ServerId, Timestamp)>,
    ) -> Result<(), DbError> {
        self.note_times(Column::LastSuccessAt, answered).await
    }

    async fn note_times(
        &self,
        column: Column,
        mut times: Vec<(TenantId, ServerId, Timestamp)>,
    ) -> Result<(), DbError> {
        if times.is_empty() {
            return Ok(());
        }
        // One order keeps two replicas from waiting for each other.
        times.sort_unstable();
        let tx = change::begin(self.db).await?;
        for (tenant, id, at) in times {
            note_time(&tx, column, tenant, id, time::to_column(at)).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Notes a time, unless a later one is noted.
async fn note_time(
    tx: &impl ConnectionTrait,
    column: Column,
    tenant: TenantId,
    id: ServerId,
    at: i64,
) -> Result<(), DbError> {
    let row = nothing_of(tenant, id);
    let there = OnConflict::columns([Column::TenantId, Column::ServerId]).do_nothing().to_owned();
    let insert = Entity::insert(all_set::<ActiveModel>(row)).on_conflict(there);
    insert.exec_without_returning(tx).await?;
    Entity::update_many()
        .col_expr(column, Expr::value(at))
        .filter(Column::TenantId.eq(tenant.0))
        .filter(Column::ServerId.eq(id.0))
        .filter(Condition::any().add(column.is_null()).add(column.lt(at)))
        .exec(tx)
        .await?;
    Ok(())
}

fn nothing_of(tenant: TenantId, id: ServerId) -> Model {
    Model {
        tenant_id: tenant.0,
        server_id: id.0,
        tools_count: None,
        capabilities: None,
        discovered_at: None,
        last_used_at: None,
        last_success_at: None,
    }
}
