//! Queries of what tasks depend on.

use std::collections::{HashMap, HashSet, VecDeque};

use protocol::{Code, Refusal};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::refused;
use crate::collab::Member;
use crate::error::DbError;
use crate::rows::all_set;
use crate::rows::collab::{dependencies, tasks};
use crate::scope::TenantScope;

impl TenantScope<'_> {
    pub(super) async fn dependencies(&self, ids: &[&str]) -> Result<HashMap<String, Vec<String>>, DbError> {
        self.dependencies_in(self.db.reader(), ids).await
    }

    pub(super) async fn dependencies_in(
        &self,
        db: &impl ConnectionTrait,
        ids: &[&str],
    ) -> Result<HashMap<String, Vec<String>>, DbError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let select = dependencies::Entity::find()
            .filter(dependencies::Column::TenantId.eq(self.tenant.0))
            .filter(dependencies::Column::TaskId.is_in(ids.iter().copied()));
        let mut needs: HashMap<String, Vec<String>> = HashMap::new();
        for row in select.all(db).await? {
            needs.entry(row.task_id).or_default().push(row.needs);
        }
        // By bytes, whatever the collation of the database is.
        needs.values_mut().for_each(|needs| needs.sort_unstable());
        Ok(needs)
    }

    /// Replaces what a task depends on.
    pub(super) async fn set_dependencies(
        &self,
        tx: &DatabaseTransaction,
        member: &Member,
        id: &str,
        needs: &[String],
    ) -> Result<(), Refusal> {
        let old = dependencies::Entity::delete_many()
            .filter(dependencies::Column::TenantId.eq(self.tenant.0))
            .filter(dependencies::Column::TaskId.eq(id));
        old.exec(tx).await.map_err(refused)?;
        if needs.is_empty() {
            return Ok(());
        }
        let known = tasks::Entity::find()
            .filter(self.found_by(member))
            .filter(tasks::Column::Id.is_in(needs.iter().map(String::as_str)));
        let known: HashSet<String> =
            known.all(tx).await.map_err(refused)?.into_iter().map(|row| row.id).collect();
        if let Some(missing) = needs.iter().find(|need| !known.contains(*need)) {
            return Err(Refusal::new(
                Code::ValidationFailed,
                format!("the task depends on `{missing}`, and there is no such task"),
            ));
        }
        let mut queue: VecDeque<String> = needs.iter().cloned().collect();
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(next) = queue.pop_front() {
            if next == id {
                return Err(Refusal::new(
                    Code::ValidationFailed,
                    format!("the task `{id}` would depend on itself"),
                ));
            }
            if seen.insert(next.clone()) {
                let further = self.dependencies_in(tx, &[&next]).await.map_err(refused)?;
                queue.extend(further.into_values().flatten());
            }
        }
        let unique: HashSet<&String> = needs.iter().collect();
        let rows = unique.into_iter().map(|need| {
            all_set::<dependencies::ActiveModel>(dependencies::Model {
                tenant_id: self.tenant.0,
                task_id: id.to_owned(),
                needs: need.clone(),
            })
        });
        let insert = dependencies::Entity::insert_many(rows).exec_without_returning(tx);
        insert.await.map(drop).map_err(refused)
    }
}
