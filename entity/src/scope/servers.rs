//! Queries of servers. A tenant sees its own and the global ones; its own hides a global one of the same
//! slug.

use jiff::Timestamp;
use protocol::ServerId;
use protocol::mcp::Eras;
use sea_orm::sea_query::{Expr, LikeExpr, Query};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, IntoSimpleExpr, QueryFilter, QueryOrder, Select,
};

use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::rows::servers::{Column, Entity};
use crate::rows::{servers as rows, tenants};
use crate::scope::{OperatorScope, TenantScope, paged};
use crate::server::{Server, ServerFilter, Transport};
use crate::time;

impl TenantScope<'_> {
    /// Returns the tenant's own and the global ones that none of its own hides, by slug.
    pub async fn servers(&self, filter: &ServerFilter, page: Page) -> Result<Paged<Server>, DbError> {
        let own_slugs = Query::select()
            .column(Column::Slug)
            .from(Entity)
            .and_where(Column::TenantId.eq(self.tenant.0))
            .and_where(Column::DeletedAt.is_null())
            .take();
        let shown = Condition::any()
            .add(Column::TenantId.is_not_null())
            .add(Expr::col(Column::Slug).in_subquery(own_slugs).not());
        let rows = paged(filtered(self.visible(), filter).filter(shown), page, self.db.reader()).await?;
        let seal = self.db.seal();
        rows.try_map(|row| row.into_server(&seal))
    }

    /// Returns all of the tenant's own and all global ones, hidden ones and disabled ones included, by
    /// slug; of two with one slug the tenant's own comes first.
    pub async fn visible_servers(&self) -> Result<Vec<Server>, DbError> {
        // A deleted tenant sees nothing, the global servers neither.
        let lives = Query::select()
            .expr(Expr::val(1))
            .from(tenants::Entity)
            .and_where(tenants::Column::Id.eq(self.tenant.0))
            .and_where(tenants::Column::DeletedAt.is_null())
            .to_owned();
        let rows = self
            .visible()
            .filter(Expr::exists(lives))
            .order_by_asc(Column::Slug)
            .order_by_asc(Column::TenantId.is_null())
            .all(self.db.reader())
            .await?;
        let seal = self.db.seal();
        rows.into_iter().map(|row| row.into_server(&seal)).collect()
    }

    /// Returns the tenant's own server, or a global one, also when hidden.
    pub async fn find_server(&self, id: ServerId) -> Result<Server, DbError> {
        let row = self.visible().filter(Column::Id.eq(id.0)).one(self.db.reader()).await?;
        row.ok_or(DbError::NotFound)?.into_server(&self.db.seal())
    }

    /// Returns the server of the slug in this tenant: its own, else the global one.
    pub async fn find_server_by_slug(&self, slug: &str) -> Result<Server, DbError> {
        let select = self.visible().filter(Column::Slug.eq(slug)).order_by_asc(Column::TenantId.is_null());
        let row = select.one(self.db.reader()).await?;
        row.ok_or(DbError::NotFound)?.into_server(&self.db.seal())
    }

    /// Selects the live rows that the tenant may see.
    pub(super) fn visible(&self) -> Select<Entity> {
        Entity::find().filter(own_or_global(self.tenant.0))
    }
}

impl OperatorScope<'_> {
    /// Returns the remote servers of all tenants and the global ones, unless disabled. A server whose row this
    /// release cannot read is left out.
    pub async fn remote_servers(&self) -> Result<Vec<Server>, DbError> {
        let remote = Transport::ALL.into_iter().filter(|transport| transport.is_remote());
        let select = Entity::find()
            .filter(Column::DeletedAt.is_null())
            .filter(Column::Enabled.eq(true))
            .filter(Column::Transport.is_in(remote.map(Transport::as_str)));
        let (rows, seal) = (select.all(self.db.reader()).await?, self.db.seal());
        let read = |row: rows::Model| {
            let id = row.id;
            let unreadable = |error: &DbError| {
                tracing::warn!(server = %ServerId(id), error = error.detail(), "a server's row cannot be read");
            };
            row.into_server(&seal).inspect_err(unreadable).ok()
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Notes the discovered eras of this revision of a server, without an audit event, a change number or a
    /// new revision. Notes nothing when the revision has changed or a later discovery exists.
    pub async fn record_eras(
        &self,
        id: ServerId,
        revision: i32,
        eras: Eras,
        at: Timestamp,
    ) -> Result<(), DbError> {
        let at = time::to_column(at);
        Entity::update_many()
            .col_expr(Column::ErasFound, Expr::value(eras.as_str()))
            .col_expr(Column::ErasFoundAt, Expr::value(at))
            .filter(Column::Id.eq(id.0))
            .filter(Column::Revision.eq(revision))
            .filter(Column::DeletedAt.is_null())
            .filter(Condition::any().add(Column::ErasFoundAt.is_null()).add(Column::ErasFoundAt.lt(at)))
            .exec(self.db.writer())
            .await?;
        Ok(())
    }

    pub(super) fn global(&self) -> Select<Entity> {
        Entity::find().filter(Column::DeletedAt.is_null()).filter(Column::TenantId.is_null())
    }
}

fn own_or_global(tenant: uuid::Uuid) -> Condition {
    Condition::all()
        .add(Column::DeletedAt.is_null())
        .add(Condition::any().add(Column::TenantId.eq(tenant)).add(Column::TenantId.is_null()))
}

fn filtered(select: Select<rows::Entity>, filter: &ServerFilter) -> Select<rows::Entity> {
    let mut select = select.order_by_asc(Column::Slug);
    if let Some(category) = &filter.category {
        select = select.filter(Column::Category.eq(category.as_str()));
    }
    if let Some(transport) = filter.transport {
        select = select.filter(Column::Transport.eq(transport.as_str()));
    }
    if let Some(search) = &filter.search {
        let pattern = format!("%{}%", escape_like(&search.to_lowercase()));
        select = select.filter(Column::Search.into_simple_expr().like(LikeExpr::new(pattern).escape('\\')));
    }
    select
}

/// Escapes the text so that `LIKE … ESCAPE '\'` finds it literally.
pub(super) fn escape_like(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '%' | '_') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
