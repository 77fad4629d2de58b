//! Configs of a tenant.

use protocol::ConfigId;

use crate::actor::Actor;
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::scope::{OperatorScope, TenantScope};
use crate::server_config::{ConfigFilter, ConfigPatch, NewConfig, ServerConfig};

impl TenantScope<'_> {
    pub async fn configs(&self, _filter: &ConfigFilter, _page: Page) -> Result<Paged<ServerConfig>, DbError> {
        todo!()
    }

    pub async fn all_configs(&self) -> Result<Vec<ServerConfig>, DbError> {
        todo!()
    }

    pub async fn find_config(&self, _id: ConfigId) -> Result<ServerConfig, DbError> {
        todo!()
    }

    pub async fn create_config(&self, _new: NewConfig, _actor: &Actor) -> Result<ServerConfig, DbError> {
        todo!()
    }

    pub async fn update_config(
        &self,
        _id: ConfigId,
        _patch: ConfigPatch,
        _expected_revision: Option<i32>,
        _actor: &Actor,
    ) -> Result<ServerConfig, DbError> {
        todo!()
    }

    pub async fn delete_config(&self, _id: ConfigId, _actor: &Actor) -> Result<(), DbError> {
        todo!()
    }
}

impl OperatorScope<'_> {
    pub async fn all_configs(&self) -> Result<Vec<ServerConfig>, DbError> {
        todo!()
    }
}
