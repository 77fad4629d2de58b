//! Agents of a tenant.

use protocol::AgentId;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use serde_json::json;

use crate::actor::Actor;
use crate::agent::{Agent, NewAgent, is_agent_slug};
use crate::change::Event;
use crate::error::{DbError, is_unique_violation};
use crate::page::{Page, Paged};
use crate::rows::{agents, all_set, credentials, server_configs};
use crate::scope::{TenantScope, paged, refuse_nul};
use crate::time;

impl TenantScope<'_> {
    /// Returns the agents, by slug.
    pub async fn agents(&self, page: Page) -> Result<Paged<Agent>, DbError> {
        let select = self.live_agents().order_by_asc(agents::Column::Slug);
        Ok(paged(select, page, self.db.reader()).await?.map(Agent::from))
    }

    pub async fn find_agent(&self, id: AgentId) -> Result<Agent, DbError> {
        let row = self.live_agents().filter(agents::Column::Id.eq(id.0)).one(self.db.reader()).await?;
        row.map(Agent::from).ok_or(DbError::NotFound)
    }

    pub async fn find_agent_by_slug(&self, slug: &str) -> Result<Agent, DbError> {
        let row = self.live_agents().filter(agents::Column::Slug.eq(slug)).one(self.db.reader()).await?;
        row.map(Agent::from).ok_or(DbError::NotFound)
    }

    pub async fn create_agent(&self, new: NewAgent, actor: &Actor) -> Result<Agent, DbError> {
        if !is_agent_slug(&new.slug) {
            let rule = "an agent's slug is 1 to 64 of A-Z, a-z, 0-9, '_', '.', ':', '@' and '-'";
            return Err(DbError::Invalid(rule.to_owned()));
        }
        refuse_nul([new.name.as_str()])?;
        let change = self.change(actor).await?;
        self.hold_tenant(&change.tx).await?;
        let row = agents::Model {
            id: AgentId::new().0,
            tenant_id: self.tenant.0,
            slug: new.slug,
            name: new.name,
            created_at: time::to_column(time::now()),
            deleted_at: None,
        };
        agents::Entity::insert::<agents::ActiveModel>(all_set(row.clone()))
            .exec_without_returning(&change.tx)
            .await
            .map_err(|error| match is_unique_violation(&error) {
                true => DbError::SlugTaken { slug: row.slug.clone() },
                false => error.into(),
            })?;
        let agent = Agent::from(row);
        // No cached row depends on an agent that did not exist.
        change.commit_unnumbered([self.agent_event("agent.create", &agent)]).await?;
        Ok(agent)
    }

    /// Returns the agent of this slug, and creates the agent at its first use.
    pub async fn ensure_agent(&self, slug: &str) -> Result<Agent, DbError> {
        match self.find_agent_by_slug(slug).await {
            Err(DbError::NotFound) => {}
            found => return found,
        }
        let new = NewAgent { slug: slug.to_owned(), name: slug.to_owned() };
        match self.create_agent(new, &Actor::gateway(self.tenant)).await {
            // Another request was quicker.
            Err(DbError::SlugTaken { .. }) => self.find_agent_by_slug(slug).await,
            made => made,
        }
    }

    /// Deletes an agent with its configs, and revokes its keys. The slug is free again.
    pub async fn delete_agent(&self, id: AgentId, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        let row =
            self.live_agents().filter(agents::Column::Id.eq(id.0)).lock_exclusive().one(&change.tx).await?;
        let row = row.ok_or(DbError::NotFound)?;
        let now = time::to_column(time::now());
        server_configs::Entity::delete_many()
            .filter(server_configs::Column::TenantId.eq(self.tenant.0))
            .filter(server_configs::Column::AgentId.eq(id.0))
            .exec(&change.tx)
            .await?;
        credentials::Entity::update_many()
            .col_expr(credentials::Column::RevokedAt, Expr::value(now))
            .filter(credentials::Column::TenantId.eq(self.tenant.0))
            .filter(credentials::Column::AgentId.eq(id.0))
            .filter(credentials::Column::RevokedAt.is_null())
            .exec(&change.tx)
            .await?;
        let gone = agents::Model { deleted_at: Some(now), ..row.clone() };
        agents::Entity::update::<agents::ActiveModel>(all_set(gone)).exec(&change.tx).await?;
        change.commit([self.agent_event("agent.delete", &row.into())]).await
    }

    pub(super) fn live_agents(&self) -> Select<agents::Entity> {
        agents::Entity::find()
            .filter(agents::Column::TenantId.eq(self.tenant.0))
            .filter(agents::Column::DeletedAt.is_null())
    }

    fn agent_event(&self, action: &'static str, agent: &Agent) -> Event {
        let details = json!({ "slug": agent.slug, "name": agent.name });
        Event { tenant: Some(self.tenant), action, target: agent.id.to_string(), details }
    }
}
