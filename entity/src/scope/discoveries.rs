//! Queries of the lists of last discoveries. They are no part of the registry: no audit event, no change number.

use protocol::ServerId;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::catalog::DiscoveredList;
use crate::change;
use crate::error::DbError;
use crate::rows::all_set;
use crate::rows::discoveries::{ActiveModel, Column, Entity, Model};
use crate::scope::TenantScope;
use crate::time;

impl TenantScope<'_> {
    /// Returns the lists of the tenant's last discovery of a server, but for rows that this release cannot read.
    pub async fn discovered_lists(&self, server: ServerId) -> Result<Vec<DiscoveredList>, DbError> {
        let select =
            Entity::find().filter(Column::TenantId.eq(self.tenant.0)).filter(Column::ServerId.eq(server.0));
        let rows = select.all(self.db.reader()).await?;
        let read = |row: Model| {
            let unreadable = |error: &DbError| {
                tracing::warn!(%server, error = error.detail(), "a discovered list cannot be read");
            };
            DiscoveredList::try_from(row).inspect_err(unreadable).ok()
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Stores lists of a discovery, of an own server or a global one, in place of earlier ones.
    pub async fn store_discovered(&self, server: ServerId, lists: &[DiscoveredList]) -> Result<(), DbError> {
        self.find_server(server).await?;
        let tx = change::begin(self.db).await?;
        for list in lists {
            let row = Model {
                tenant_id: self.tenant.0,
                server_id: server.0,
                list: list.list.clone(),
                items: serde_json::to_string(&list.items).expect("a map of texts is JSON"),
                listed_at: time::to_column(list.listed_at),
            };
            let again = OnConflict::columns([Column::TenantId, Column::ServerId, Column::List])
                .update_columns([Column::Items, Column::ListedAt])
                .to_owned();
            let insert = Entity::insert(all_set::<ActiveModel>(row)).on_conflict(again);
            insert.exec_without_returning(&tx).await?;
        }
        Ok(tx.commit().await?)
    }
}
