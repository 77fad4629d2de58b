//! Changing servers.

use protocol::ServerId;

use crate::actor::Actor;
use crate::error::DbError;
use crate::scope::{OperatorScope, TenantScope};
use crate::server::{NewServer, Server, ServerPatch};

impl TenantScope<'_> {
    pub async fn create_server(&self, _new: NewServer, _actor: &Actor) -> Result<Server, DbError> {
        todo!()
    }

    pub async fn update_server(
        &self,
        _id: ServerId,
        _patch: ServerPatch,
        _expected_revision: Option<i32>,
        _actor: &Actor,
    ) -> Result<Server, DbError> {
        todo!()
    }

    pub async fn delete_server(&self, _id: ServerId, _actor: &Actor) -> Result<(), DbError> {
        todo!()
    }
}

impl OperatorScope<'_> {
    pub async fn create_server(&self, _new: NewServer, _actor: &Actor) -> Result<Server, DbError> {
        todo!()
    }

    pub async fn update_server(
        &self,
        _id: ServerId,
        _patch: ServerPatch,
        _expected_revision: Option<i32>,
        _actor: &Actor,
    ) -> Result<Server, DbError> {
        todo!()
    }

    pub async fn delete_server(&self, _id: ServerId, _actor: &Actor) -> Result<(), DbError> {
        todo!()
    }
}
