//! Queries of leases. A lease is granted under the lock of its task's row: patterns, shared leases and the
//! queue look at several rows, which one statement cannot. Correctness does not rest on leases: a write checks
//! the fencing token and the version.

use std::time::Duration;

use protocol::{Code, Refusal};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Select, Statement,
};
use serde_json::json;
use uuid::Uuid;

use super::queue::{held, held_by, millis, with_holder};
use super::{TaskChange, clock, refused};
use crate::actor::Actor;
use crate::change::{self, Event as AuditEvent};
use crate::collab::{Claim, Claimed, Done, EventKind, Held, Lease, Member, overlap};
use crate::db::{Backend, Db};
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::rows::all_set;
use crate::rows::collab::{leases, waiters};
use crate::scope::{OperatorScope, TenantScope, paged, refuse_nul};

/// Most live leases of one task.
const MOST: usize = 1000;

/// Most claims that wait in one task; each is compared with all others.
const MOST_WAITING: usize = 200;

impl TenantScope<'_> {
    /// Grants a lease, renews the member's own lease of the same path, or tells who holds the path. With
    /// `queue` a claim that is not granted keeps its place among those that wait.
    pub async fn claim(&self, member: &Member, task: &str, claim: &Claim) -> Result<Done<Claimed>, Refusal> {
        refuse_nul([claim.path.as_str()]).map_err(refused)?;
        let mut change = self.change_task(member, task).await?;
        let live = self.live_leases(&mut change).await.map_err(refused)?;
        let queue =
            self.live_waiters(&change, claim.queue.map(|waiting| waiting.id)).await.map_err(refused)?;
        let own = |lease: &&leases::Model| {
            lease.holder == member.agent && lease.path == claim.path && lease.shared == claim.shared
        };
        if let Some(own) = live.iter().find(own) {
            let expires_at = change.now + micros(claim.ttl);
            self.set_expiry(&change.tx, own, expires_at).await.map_err(refused)?;
            let lease = shown(leases::Model { expires_at, ..own.clone() }, change.now);
            if let Some(waiting) = claim.queue {
                self.leave_queue_in(&change.tx, task, waiting.id).await.map_err(refused)?;
            }
            return change.commit(Claimed::Granted(lease)).await.map_err(refused);
        }
        let place = claim.queue.and_then(|waiting| queue.iter().find(|row| row.id == waiting.id));
        let held = held(&live, &queue, member, claim, place.map(|row| row.place), change.now);
        if let Some(held) = held {
            if let Some(waiting) = claim.queue.filter(|_| !held.deadlock) {
                if place.is_none() && queue.len() >= MOST_WAITING {
                    return Err(full(&held));
                }
                let next = queue.iter().map(|row| row.place).max().unwrap_or_default() + 1;
                let row = waiters::Model {
                    tenant_id: self.tenant.0,
                    task_id: task.to_owned(),
                    id: waiting.id,
                    place: place.map_or(next, |row| row.place),
                    path: claim.path.clone(),
                    shared: claim.shared,
                    agent: member.agent.clone(),
                    expires_at: change.now + micros(waiting.keep),
                };
                self.set_waiter(&change.tx, row).await.map_err(refused)?;
            }
            return change.commit(Claimed::Held(held)).await.map_err(refused);
        }
        if live.len() >= MOST {
            return Err(Refusal::new(
                Code::Conflict,
                format!("the task has {MOST} leases, and no more are given"),
            )
            .hint("release leases that are not needed, or claim a pattern instead of single files"));
        }
        if let Some(waiting) = claim.queue {
            self.leave_queue_in(&change.tx, task, waiting.id).await.map_err(refused)?;
        }
        let row = leases::Model {
            tenant_id: self.tenant.0,
            task_id: task.to_owned(),
            id: Uuid::now_v7(),
            path: claim.path.clone(),
            shared: claim.shared,
            holder: member.agent.clone(),
            token: next_token(&change.tx, self.db).await.map_err(refused)?,
            granted_at: change.now,
            expires_at: change.now + micros(claim.ttl),
        };
        let insert = leases::Entity::insert(all_set::<leases::ActiveModel>(row.clone()));
        insert.exec_without_returning(&change.tx).await.map_err(refused)?;
        change.event(EventKind::LeaseGranted, Some(&member.agent), told(&row));
        let lease = shown(row, change.now);
        change.commit(Claimed::Granted(lease)).await.map_err(refused)
    }

    /// Gives up a place in the queue.
    pub async fn leave_queue(&self, task: &str, id: Uuid) -> Result<(), DbError> {
        let tx = change::begin(self.db).await?;
        self.leave_queue_in(&tx, task, id).await?;
        Ok(tx.commit().await?)
    }

    /// Lets the member's live lease of this path last for `ttl` from now.
    ///
    /// # Errors
    /// [`Code::StaleToken`] if the member has no such lease any more, or it has another token.
    pub async fn renew(
        &self,
        member: &Member,
        task: &str,
        path: &str,
        token: Option<i64>,
        ttl: Duration,
    ) -> Result<Done<Lease>, Refusal> {
        let mut change = self.change_task(member, task).await?;
        let row = self.own_leases(&mut change, member, path, token).await?.remove(0);
        let expires_at = change.now + micros(ttl);
        self.set_expiry(&change.tx, &row, expires_at).await.map_err(refused)?;
        let lease = shown(leases::Model { expires_at, ..row }, change.now);
        change.commit(lease).await.map_err(refused)
    }

    /// Ends the member's live lease of this path; without a token, a shared and an exclusive one together.
    ///
    /// # Errors
    /// Those of [`TenantScope::renew`].
    pub async fn release(
        &self,
        member: &Member,
        task: &str,
        path: &str,
        token: Option<i64>,
    ) -> Result<Done<Lease>, Refusal> {
        let mut change = self.change_task(member, task).await?;
        let mut rows = self.own_leases(&mut change, member, path, token).await?;
        for row in &rows {
            delete_lease(&change.tx, row).await.map_err(refused)?;
            change.event(EventKind::LeaseReleased, Some(&member.agent), told(row));
        }
        let lease = shown(rows.remove(0), change.now);
        change.commit(lease).await.map_err(refused)
    }

    /// Ends all live leases of the member in the task; returns them.
    pub async fn release_all(&self, member: &Member, task: &str) -> Result<Done<Vec<Lease>>, Refusal> {
        let mut change = self.change_task(member, task).await?;
        let live = self.live_leases(&mut change).await.map_err(refused)?;
        let mut released = Vec::new();
        for row in live.into_iter().filter(|row| row.holder == member.agent) {
            delete_lease(&change.tx, &row).await.map_err(refused)?;
            change.event(EventKind::LeaseReleased, Some(&member.agent), told(&row));
            released.push(shown(row, change.now));
        }
        change.commit(released).await.map_err(refused)
    }

    /// Returns the live leases of one task, or of all tasks that the member may find: the oldest, at most 1000.
    pub async fn leases(&self, member: &Member, task: Option<&str>) -> Result<Vec<Lease>, Refusal> {
        let (select, now) = self.select_leases(member, task).await?;
        let rows = select.limit(MOST as u64).all(self.db.reader()).await.map_err(refused)?;
        Ok(rows.into_iter().map(|row| shown(row, now)).collect())
    }

    /// Returns a page of [`TenantScope::leases`].
    pub async fn lease_page(
        &self,
        member: &Member,
        task: Option<&str>,
        page: Page,
    ) -> Result<Paged<Lease>, Refusal> {
        let (select, now) = self.select_leases(member, task).await?;
        Ok(paged(select, page, self.db.reader()).await.map_err(refused)?.map(|row| shown(row, now)))
    }

    /// Returns the live leases of one agent in the tasks that the member may find: the oldest, at most 1000.
    pub async fn leases_of(&self, member: &Member, holder: &str) -> Result<Vec<Lease>, Refusal> {
        let (select, now) = self.select_leases(member, None).await?;
        let select = select.filter(leases::Column::Holder.eq(holder)).limit(MOST as u64);
        let rows = select.all(self.db.reader()).await.map_err(refused)?;
        Ok(rows.into_iter().map(|row| shown(row, now)).collect())
    }

    async fn select_leases(
        &self,
        member: &Member,
        task: Option<&str>,
    ) -> Result<(Select<leases::Entity>, i64), Refusal> {
        let now = clock(self.db.reader(), self.db).await.map_err(refused)?;
        let select = leases::Entity::find()
            .filter(leases::Column::TenantId.eq(self.tenant.0))
            .filter(leases::Column::ExpiresAt.gt(now))
            .order_by_asc(leases::Column::Token);
        let select = match task {
            Some(task) => {
                self.open_task(member, task).await?;
                select.filter(leases::Column::TaskId.eq(task))
            }
            None => select.filter(leases::Column::TaskId.in_subquery(self.found_ids(member))),
        };
        Ok((select, now))
    }

    /// Ends a lease of any holder, and writes an audit event.
    pub async fn force_release(&self, id: Uuid, actor: &Actor) -> Result<Done<Lease>, Refusal> {
        let find = leases::Entity::find()
            .filter(leases::Column::TenantId.eq(self.tenant.0))
            .filter(leases::Column::Id.eq(id));
        let gone = || Refusal::new(Code::NotFound, "there is no such lease (any more)");
        let row = find.one(self.db.reader()).await.map_err(refused)?.ok_or_else(gone)?;
        let operator = Member { agent: "operator".to_owned(), sees_all: true };
        let mut change = self.change_task(&operator, &row.task_id).await?;
        let live = self.live_leases(&mut change).await.map_err(refused)?;
        let row = live.into_iter().find(|row| row.id == id).ok_or_else(gone)?;
        delete_lease(&change.tx, &row).await.map_err(refused)?;
        change.event(EventKind::LeaseForced, None, told(&row));
        let audit = AuditEvent {
            tenant: Some(self.tenant),
            action: "lease.force_release",
            target: id.to_string(),
            details: json!({ "taskId": row.task_id, "path": row.path, "holder": row.holder, "token": row.token }),
        };
        change::write(&change.tx, actor, audit).await.map_err(refused)?;
        let lease = shown(row, change.now);
        change.commit(lease).await.map_err(refused)
    }

    /// Returns the member's live leases of this path, at least one: an exclusive one first, then the newest.
    async fn own_leases(
        &self,
        change: &mut TaskChange,
        member: &Member,
        path: &str,
        token: Option<i64>,
    ) -> Result<Vec<leases::Model>, Refusal> {
        let live = self.live_leases(change).await.map_err(refused)?;
        let own = live.iter().filter(|row| row.holder == member.agent && row.path == path);
        let meant = own.clone().filter(|row| token.is_none_or(|token| token == row.token));
        let mut meant: Vec<leases::Model> = meant.cloned().collect();
        meant.sort_by_key(|row| (row.shared, std::cmp::Reverse(row.token)));
        if !meant.is_empty() {
            return Ok(meant);
        }
        let refusal = Refusal::new(
            Code::StaleToken,
            match own.clone().next() {
                Some(_) => format!("`{path}` is leased to `{}` under another token", member.agent),
                None => {
                    format!("`{}` has no lease of `{path}`: it was released, or it expired", member.agent)
                }
            },
        );
        let refusal = match live.iter().find(|row| row.holder != member.agent && overlap(&row.path, path)) {
            Some(other) => with_holder(refusal, &held_by(other, change.now)),
            None => refusal,
        };
        Err(refusal.hint("claim the file again, and read it before writing"))
    }

    /// Returns the live leases of the task, oldest first, and deletes those that expired.
    pub(super) async fn live_leases(&self, change: &mut TaskChange) -> Result<Vec<leases::Model>, DbError> {
        let select = leases::Entity::find()
            .filter(leases::Column::TenantId.eq(self.tenant.0))
            .filter(leases::Column::TaskId.eq(change.task.id.as_str()))
            .order_by_asc(leases::Column::Token);
        let rows = select.all(&change.tx).await?;
        let (live, expired): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.expires_at > change.now);
        for row in expired {
            delete_lease(&change.tx, &row).await?;
            change.event(EventKind::LeaseExpired, Some(&row.holder), told(&row));
        }
        Ok(live)
    }

    /// Returns the claims that wait, and deletes those that gave up, except the caller's own.
    async fn live_waiters(
        &self,
        change: &TaskChange,
        own: Option<Uuid>,
    ) -> Result<Vec<waiters::Model>, DbError> {
        let of_task = Condition::all()
            .add(waiters::Column::TenantId.eq(self.tenant.0))
            .add(waiters::Column::TaskId.eq(change.task.id.as_str()));
        // Nobody could renew a place while this change waited for the task.
        let gone = of_task.clone().add(waiters::Column::ExpiresAt.lte(change.now - micros(change.waited)));
        let gone = own.into_iter().fold(gone, |gone, own| gone.add(waiters::Column::Id.ne(own)));
        waiters::Entity::delete_many().filter(gone).exec(&change.tx).await?;
        let select = waiters::Entity::find().filter(of_task).order_by_asc(waiters::Column::Place);
        Ok(select.all(&change.tx).await?)
    }

    async fn set_waiter(&self, tx: &DatabaseTransaction, row: waiters::Model) -> Result<(), DbError> {
        use sea_orm::sea_query::OnConflict;
        let again =
            OnConflict::columns([waiters::Column::TenantId, waiters::Column::TaskId, waiters::Column::Id])
                .update_column(waiters::Column::ExpiresAt)
                .to_owned();
        let insert = waiters::Entity::insert(all_set::<waiters::ActiveModel>(row)).on_conflict(again);
        insert.exec_without_returning(tx).await?;
        Ok(())
    }

    async fn leave_queue_in(&self, tx: &DatabaseTransaction, task: &str, id: Uuid) -> Result<(), DbError> {
        let key = (self.tenant.0, task.to_owned(), id);
        waiters::Entity::delete_by_id(key).exec(tx).await?;
        Ok(())
    }

    async fn set_expiry(
        &self,
        tx: &DatabaseTransaction,
        row: &leases::Model,
        expires_at: i64,
    ) -> Result<(), DbError> {
        let update = leases::Entity::update_many()
            .col_expr(leases::Column::ExpiresAt, Expr::value(expires_at))
            .filter(leases::Column::TenantId.eq(self.tenant.0))
            .filter(leases::Column::TaskId.eq(row.task_id.as_str()))
            .filter(leases::Column::Id.eq(row.id));
        update.exec(tx).await?;
        Ok(())
    }
}

impl OperatorScope<'_> {
    /// Returns the numbers of live leases and of claims that wait.
    pub async fn lease_counts(&self) -> Result<(u64, u64), DbError> {
        let db = self.db.reader();
        let now = clock(db, self.db).await?;
        let leases = leases::Entity::find().filter(leases::Column::ExpiresAt.gt(now)).count(db).await?;
        let waiters = waiters::Entity::find().filter(waiters::Column::ExpiresAt.gt(now)).count(db).await?;
        Ok((leases, waiters))
    }
}

fn full(held: &Held) -> Refusal {
    let reason = format!("{MOST_WAITING} claims wait in this task, and no more can");
    let refusal = Refusal::new(Code::LeaseHeld, reason);
    with_holder(refusal, held)
}

fn told(row: &leases::Model) -> serde_json::Value {
    json!({ "path": row.path, "shared": row.shared, "holder": row.holder, "token": row.token })
}

fn shown(row: leases::Model, now: i64) -> Lease {
    Lease {
        lease_id: row.id,
        task_id: row.task_id,
        path: row.path,
        shared: row.shared,
        holder: row.holder,
        token: row.token,
        expires_in_ms: millis(row.expires_at - now),
    }
}

async fn delete_lease(tx: &DatabaseTransaction, row: &leases::Model) -> Result<(), DbError> {
    let key = (row.tenant_id, row.task_id.clone(), row.id);
    leases::Entity::delete_by_id(key).exec(tx).await?;
    Ok(())
}

/// Takes the next fencing token. None is given twice, also after a restart or a transaction that was rolled
/// back.
async fn next_token(tx: &DatabaseTransaction, db: &Db) -> Result<i64, DbError> {
    let next = match db.backend() {
        Backend::Postgres => "SELECT nextval('fence_tokens')",
        Backend::Sqlite => "UPDATE fence_tokens SET last = last + 1 RETURNING last",
    };
    let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), next)).await?;
    let row = row.ok_or_else(|| DbError::Corrupt("the fencing tokens are gone".to_owned()))?;
    Ok(row.try_get_by_index(0)?)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}
