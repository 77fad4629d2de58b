//! Reading servers.

use jiff::Timestamp;
use protocol::ServerId;

use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::scope::{OperatorScope, TenantScope};
use crate::server::{Server, ServerFilter};

impl TenantScope<'_> {
    pub async fn servers(&self, _filter: &ServerFilter, _page: Page) -> Result<Paged<Server>, DbError> {
        todo!()
    }

    pub async fn visible_servers(&self) -> Result<Vec<Server>, DbError> {
        todo!()
    }

    pub async fn find_server(&self, _id: ServerId) -> Result<Server, DbError> {
        todo!()
    }

    pub async fn find_server_by_slug(&self, _slug: &str) -> Result<Server, DbError> {
        todo!()
    }

    pub async fn record_discovery(
        &self,
        _id: ServerId,
        _tools_count: i32,
        _capabilities: serde_json::Value,
    ) -> Result<(), DbError> {
        todo!()
    }
}

impl OperatorScope<'_> {
    pub async fn global_servers(
        &self,
        _filter: &ServerFilter,
        _page: Page,
    ) -> Result<Paged<Server>, DbError> {
        todo!()
    }

    pub async fn all_servers(&self) -> Result<Vec<Server>, DbError> {
        todo!()
    }

    pub async fn find_global_server(&self, _id: ServerId) -> Result<Server, DbError> {
        todo!()
    }

    pub async fn touch_servers(&self, _used: Vec<(ServerId, Timestamp)>) -> Result<(), DbError> {
        todo!()
    }
}
