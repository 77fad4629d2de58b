//! Queries of the participants of a task.

use std::collections::HashSet;

use protocol::{Refusal, TenantId};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;

use super::{TaskChange, clock, refused};
use crate::collab::{Done, EventKind, Member, Participant};
use crate::error::DbError;
use crate::rows::all_set;
use crate::rows::collab::participants::{ActiveModel, Column, Entity, Model};
use crate::scope::{OperatorScope, TenantScope, refuse_nul};
use crate::time;

impl TenantScope<'_> {
    /// Makes the member a participant, or a present one again, with this role.
    pub async fn join_task(
        &self,
        member: &Member,
        id: &str,
        role: Option<&str>,
    ) -> Result<Done<Vec<Participant>>, Refusal> {
        refuse_nul(role).map_err(refused)?;
        let mut change = self.change_task(member, id).await?;
        let row = self.participant(&change, &member.agent, role);
        let again = OnConflict::columns([Column::TenantId, Column::TaskId, Column::Agent])
            .update_columns([Column::Role, Column::SeenAt, Column::LeftAt])
            .to_owned();
        let insert = Entity::insert(all_set::<ActiveModel>(row)).on_conflict(again);
        insert.exec_without_returning(&change.tx).await.map_err(refused)?;
        change.event(EventKind::Joined, Some(&member.agent), json!({ "role": role }));
        let all = self.participants_in(&change.tx, id).await.map_err(refused)?;
        change.commit(all).await.map_err(refused)
    }

    /// Notes that the member left. It still finds the task.
    pub async fn leave_task(&self, member: &Member, id: &str) -> Result<Done<Vec<Participant>>, Refusal> {
        let mut change = self.change_task(member, id).await?;
        let update = Entity::update_many()
            .col_expr(Column::LeftAt, Expr::value(change.now))
            .filter(Column::TenantId.eq(self.tenant.0))
            .filter(Column::TaskId.eq(id))
            .filter(Column::Agent.eq(member.agent.as_str()))
            .filter(Column::LeftAt.is_null());
        if update.exec(&change.tx).await.map_err(refused)?.rows_affected > 0 {
            change.event(EventKind::Left, Some(&member.agent), json!({}));
        }
        let all = self.participants_in(&change.tx, id).await.map_err(refused)?;
        change.commit(all).await.map_err(refused)
    }

    /// Returns all that joined, the first one first.
    pub async fn participants(&self, member: &Member, id: &str) -> Result<Vec<Participant>, Refusal> {
        self.open_task(member, id).await?;
        self.participants_in(self.db.reader(), id).await.map_err(refused)
    }

    /// Adds participants that are not there.
    pub(super) async fn add_participants(
        &self,
        change: &mut TaskChange,
        agents: &[String],
    ) -> Result<(), Refusal> {
        let agents: HashSet<&String> = agents.iter().collect();
        for agent in agents {
            let row = self.participant(change, agent, None);
            let present = OnConflict::columns([Column::TenantId, Column::TaskId, Column::Agent])
                .do_nothing()
                .to_owned();
            let insert = Entity::insert(all_set::<ActiveModel>(row)).on_conflict(present);
            insert.exec_without_returning(&change.tx).await.map_err(refused)?;
        }
        Ok(())
    }

    async fn participants_in(
        &self,
        db: &impl sea_orm::ConnectionTrait,
        id: &str,
    ) -> Result<Vec<Participant>, DbError> {
        let select = Entity::find()
            .filter(Column::TenantId.eq(self.tenant.0))
            .filter(Column::TaskId.eq(id))
            .order_by_asc(Column::JoinedAt)
            .order_by_asc(Column::Agent);
        Ok(select.all(db).await?.into_iter().map(Participant::from).collect())
    }

    fn participant(&self, change: &TaskChange, agent: &str, role: Option<&str>) -> Model {
        Model {
            tenant_id: self.tenant.0,
            task_id: change.task.id.clone(),
            agent: agent.to_owned(),
            role: role.map(str::to_owned),
            joined_at: change.now,
            seen_at: change.now,
            left_at: None,
        }
    }
}

impl OperatorScope<'_> {
    /// Notes that these agents were seen in these tasks now.
    pub async fn touch_participants(
        &self,
        seen: impl IntoIterator<Item = (TenantId, String, String)>,
    ) -> Result<(), DbError> {
        let mut any = Condition::any();
        for (tenant, task, agent) in seen {
            let this = Condition::all().add(Column::TenantId.eq(tenant.0)).add(Column::TaskId.eq(task));
            any = any.add(this.add(Column::Agent.eq(agent)));
        }
        if any.is_empty() {
            return Ok(());
        }
        let now = clock(self.db.writer(), self.db).await?;
        let update = Entity::update_many()
            .col_expr(Column::SeenAt, Expr::value(now))
            .filter(any)
            .filter(Column::SeenAt.lt(now));
        update.exec(self.db.writer()).await?;
        Ok(())
    }
}

impl From<Model> for Participant {
    fn from(row: Model) -> Self {
        Participant {
            agent: row.agent,
            role: row.role,
            joined_at: time::from_column(row.joined_at),
            seen_at: time::from_column(row.seen_at),
            left_at: row.left_at.map(time::from_column),
        }
    }
}
