//! Agents of a tenant.

use protocol::AgentId;

use crate::actor::Actor;
use crate::agent::{Agent, NewAgent};
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::scope::TenantScope;

impl TenantScope<'_> {
    pub async fn agents(&self, _page: Page) -> Result<Paged<Agent>, DbError> {
        todo!()
    }

    pub async fn find_agent(&self, _id: AgentId) -> Result<Agent, DbError> {
        todo!()
    }

    pub async fn find_agent_by_slug(&self, _slug: &str) -> Result<Agent, DbError> {
        todo!()
    }

    pub async fn create_agent(&self, _new: NewAgent, _actor: &Actor) -> Result<Agent, DbError> {
        todo!()
    }

    pub async fn ensure_agent(&self, _slug: &str) -> Result<Agent, DbError> {
        todo!()
    }

    pub async fn delete_agent(&self, _id: AgentId, _actor: &Actor) -> Result<(), DbError> {
        todo!()
    }
}
