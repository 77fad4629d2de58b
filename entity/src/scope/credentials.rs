//! API keys of a tenant, and their lookup by hash for authentication.

use jiff::Timestamp;
use protocol::{AgentId, CredentialId, Scopes};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use serde_json::json;

use crate::actor::Actor;
use crate::change::{self, Event};
use crate::credential::{Credential, KnownCredential, NewCredential};
use crate::error::{DbError, is_unique_violation};
use crate::page::{Page, Paged};
use crate::rows::{agents, all_set, credentials, tenants};
use crate::scope::{OperatorScope, TenantScope, paged, refuse_nul};
use crate::time;

impl TenantScope<'_> {
    /// Returns the keys, newest first, revoked ones included.
    pub async fn credentials(&self, page: Page) -> Result<Paged<Credential>, DbError> {
        let select = self.own_credentials().order_by_desc(credentials::Column::Id);
        paged(select, page, self.db.reader()).await?.try_map(Credential::try_from)
    }

    pub async fn find_credential(&self, id: CredentialId) -> Result<Credential, DbError> {
        let row =
            self.own_credentials().filter(credentials::Column::Id.eq(id.0)).one(self.db.reader()).await?;
        row.ok_or(DbError::NotFound)?.try_into()
    }

    /// Returns the scopes of each key of an agent that is neither revoked nor expired.
    pub async fn agent_scopes(&self, agent: AgentId) -> Result<Vec<Scopes>, DbError> {
        let now = time::to_column(time::now());
        let live = Condition::any()
            .add(credentials::Column::ExpiresAt.is_null())
            .add(credentials::Column::ExpiresAt.gt(now));
        let select = self
            .own_credentials()
            .filter(credentials::Column::AgentId.eq(agent.0))
            .filter(credentials::Column::RevokedAt.is_null())
            .filter(live);
        let rows = select.all(self.db.reader()).await?;
        rows.into_iter().map(|row| Credential::try_from(row).map(|key| key.scopes)).collect()
    }

    pub async fn create_credential(&self, new: NewCredential, actor: &Actor) -> Result<Credential, DbError> {
        refuse_nul([new.name.as_str(), new.hint.as_str()])?;
        let change = self.change(actor).await?;
        self.hold_tenant(&change.tx).await?;
        if let Some(agent) = new.agent {
            let agent =
                self.live_agents().filter(agents::Column::Id.eq(agent.0)).lock_shared().one(&change.tx);
            agent.await?.ok_or(DbError::NotFound)?;
        }
        let row = credentials::Model {
            id: CredentialId::new().0,
            tenant_id: self.tenant.0,
            agent_id: new.agent.map(|agent| agent.0),
            name: new.name,
            hint: new.hint,
            secret_hash: new.secret_hash.to_vec(),
            scopes: new.scopes.to_text(),
            expires_at: new.expires_at.map(time::to_column),
            revoked_at: None,
            created_at: time::to_column(time::now()),
            last_used_at: None,
        };
        credentials::Entity::insert::<credentials::ActiveModel>(all_set(row.clone()))
            .exec_without_returning(&change.tx)
            .await
            .map_err(|error| match is_unique_violation(&error) {
                true => DbError::Conflict("this key exists".to_owned()),
                false => error.into(),
            })?;
        let credential = Credential::try_from(row)?;
        // No cached row depends on a key that did not exist.
        change.commit_unnumbered([self.credential_event("key.create", &credential)]).await?;
        Ok(credential)
    }

    /// Revokes a key; a revoked one stays unchanged.
    pub async fn revoke_credential(&self, id: CredentialId, actor: &Actor) -> Result<Credential, DbError> {
        let change = self.change(actor).await?;
        let select = self.own_credentials().filter(credentials::Column::Id.eq(id.0)).lock_exclusive();
        let mut row = select.one(&change.tx).await?.ok_or(DbError::NotFound)?;
        if row.revoked_at.is_some() {
            return row.try_into();
        }
        row.revoked_at = Some(time::to_column(time::now()));
        credentials::Entity::update::<credentials::ActiveModel>(all_set(row.clone()))
            .exec(&change.tx)
            .await?;
        let credential = Credential::try_from(row)?;
        change.commit([self.credential_event("key.revoke", &credential)]).await?;
        Ok(credential)
    }

    fn own_credentials(&self) -> Select<credentials::Entity> {
        credentials::Entity::find().filter(credentials::Column::TenantId.eq(self.tenant.0))
    }

    fn credential_event(&self, action: &'static str, credential: &Credential) -> Event {
        let details = json!({
            "name": credential.name,
            "hint": credential.hint,
            "agent": credential.agent,
            "scopes": credential.scopes.to_text(),
            "expiresAt": credential.expires_at,
        });
        Event { tenant: Some(self.tenant), action, target: credential.id.to_string(), details }
    }
}

impl OperatorScope<'_> {
    /// Returns the key of this hash, revoked and expired ones included, unless its tenant is deleted.
    pub async fn find_credential_by_hash(&self, hash: [u8; 32]) -> Result<Option<KnownCredential>, DbError> {
        let db = self.db.reader();
        let select = credentials::Entity::find().filter(credentials::Column::SecretHash.eq(hash.to_vec()));
        let Some(row) = select.one(db).await? else { return Ok(None) };
        let tenant = tenants::Entity::find_by_id(row.tenant_id).one(db).await?;
        let Some(tenant) = tenant.filter(|tenant| tenant.deleted_at.is_none()) else { return Ok(None) };
        let agent_slug = match row.agent_id {
            Some(agent) => agents::Entity::find_by_id(agent).one(db).await?.map(|agent| agent.slug),
            None => None,
        };
        Ok(Some(KnownCredential { credential: row.try_into()?, tenant_slug: tenant.slug, agent_slug }))
    }

    /// Notes when keys were last used, without an audit event or a change number.
    pub async fn touch_credentials(&self, mut used: Vec<(CredentialId, Timestamp)>) -> Result<(), DbError> {
        if used.is_empty() {
            return Ok(());
        }
        // One order keeps two replicas from waiting for each other.
        used.sort_unstable();
        let tx = change::begin(self.db).await?;
        for (id, at) in used {
            let at = time::to_column(at);
            let earlier = Condition::any()
                .add(credentials::Column::LastUsedAt.is_null())
                .add(credentials::Column::LastUsedAt.lt(at));
            credentials::Entity::update_many()
                .col_expr(credentials::Column::LastUsedAt, Expr::value(at))
                .filter(credentials::Column::Id.eq(id.0))
                .filter(earlier)
                .exec(&tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}
