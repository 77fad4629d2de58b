//! Queries of workspace files. A write moves the pointer to contents that are stored already, in one
//! transaction that checks the fencing token, the version and the contents' hash.

use protocol::{Code, Refusal, TenantId};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use serde_json::json;

use super::queue::{held_by, with_holder};
use super::{TaskChange, refused};
use crate::collab::{
    Condition as Builds, Done, EventKind, File, FileVersion, FileWrite, Member, PlacedFile, etag, overlap,
};
use crate::error::DbError;
use crate::rows::all_set;
use crate::rows::collab::{file_versions, files, leases};
use crate::scope::{OperatorScope, TenantScope, refuse_nul};
use crate::time;

impl TenantScope<'_> {
    /// Makes a version of a file the current one.
    ///
    /// # Errors
    /// [`Code::LeaseHeld`] while another holds a lease of the path, [`Code::StaleToken`] for a token that is
    /// not the caller's live lease's, [`Code::VersionConflict`] if the file is not as the condition says,
    /// [`Code::NotFound`] for the deletion of what does not exist. Each names what is the case instead.
    pub async fn write_file(
        &self,
        member: &Member,
        task: &str,
        write: FileWrite,
    ) -> Result<Done<FileVersion>, Refusal> {
        refuse_nul([write.path.as_str()]).map_err(refused)?;
        let mut change = self.change_task(member, task).await?;
        let live = self.live_leases(&mut change).await.map_err(refused)?;
        let key = (self.tenant.0, task.to_owned(), write.path.clone());
        let current = files::Entity::find_by_id(key).one(&change.tx).await.map_err(refused)?;
        let last_token = current.as_ref().map_or(0, |row| row.last_token);
        // An older lease of the same agent may outlive a newer one: tokens of a file do not fall for that.
        let token = check_lease(&change, &live, member, &write)?.map(|token| token.max(last_token));
        check_version(&write, current.as_ref())?;
        if write.deleted && current.as_ref().is_none_or(|row| row.deleted) {
            return Err(no_file(&write.path));
        }
        if !write.deleted && current.as_ref().is_none_or(|row| row.deleted) {
            check_place(&change, &write.path).await?;
        }
        let version = current.as_ref().map_or(0, |row| row.version) + 1;
        let row = files::Model {
            tenant_id: self.tenant.0,
            task_id: task.to_owned(),
            path: write.path.clone(),
            version,
            sha256: write.sha256.clone(),
            size: write.size,
            last_token: token.unwrap_or(last_token),
            deleted: write.deleted,
            author: member.agent.clone(),
            updated_at: change.now,
        };
        let row = all_set::<files::ActiveModel>(row);
        let stored = match current {
            Some(_) => files::Entity::update(row).exec(&change.tx).await.map(drop),
            None => files::Entity::insert(row).exec_without_returning(&change.tx).await.map(drop),
        };
        stored.map_err(refused)?;
        let row = file_versions::Model {
            tenant_id: self.tenant.0,
            task_id: task.to_owned(),
            path: write.path,
            version,
            sha256: write.sha256,
            size: write.size,
            token,
            deleted: write.deleted,
            author: member.agent.clone(),
            written_at: change.now,
        };
        let insert = file_versions::Entity::insert(all_set::<file_versions::ActiveModel>(row.clone()));
        insert.exec_without_returning(&change.tx).await.map_err(refused)?;
        let written = FileVersion::from(row.clone());
        let kind = if write.deleted { EventKind::FileDeleted } else { EventKind::FileWritten };
        let data = json!({ "path": row.path, "version": version, "etag": written.etag, "size": row.size });
        change.event(kind, Some(&member.agent), data);
        change.commit(written).await.map_err(refused)
    }

    /// Returns the current version of a file.
    pub async fn find_file(&self, member: &Member, task: &str, path: &str) -> Result<File, Refusal> {
        self.open_task(member, task).await?;
        let key = (self.tenant.0, task.to_owned(), path.to_owned());
        let row = files::Entity::find_by_id(key).one(self.db.reader()).await.map_err(refused)?;
        row.filter(|row| !row.deleted).map(File::from).ok_or_else(|| no_file(path))
    }

    /// Returns at most `limit` files after the path, by path, of those that begin with `prefix`.
    pub async fn list_files(
        &self,
        member: &Member,
        task: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<File>, Refusal> {
        self.open_task(member, task).await?;
        let select = files::Entity::find()
            .filter(files::Column::TenantId.eq(self.tenant.0))
            .filter(files::Column::TaskId.eq(task))
            .filter(files::Column::Deleted.eq(false))
            .filter(files::Column::Path.gte(prefix))
            .filter(files::Column::Path.lt(format!("{prefix}{}", char::MAX)))
            .apply_if(after, |select, after| select.filter(files::Column::Path.gt(after)))
            .order_by_asc(files::Column::Path)
            .limit(limit);
        let rows = select.all(self.db.reader()).await.map_err(refused)?;
        Ok(rows.into_iter().map(File::from).collect())
    }

    /// Returns at most `limit` versions of a file, the newest first; a deleted file has them too.
    pub async fn file_history(
        &self,
        member: &Member,
        task: &str,
        path: &str,
        limit: u64,
    ) -> Result<Vec<FileVersion>, Refusal> {
        self.open_task(member, task).await?;
        let select = file_versions::Entity::find()
            .filter(file_versions::Column::TenantId.eq(self.tenant.0))
            .filter(file_versions::Column::TaskId.eq(task))
            .filter(file_versions::Column::Path.eq(path))
            .order_by_desc(file_versions::Column::Version)
            .limit(limit);
        let rows = select.all(self.db.reader()).await.map_err(refused)?;
        if rows.is_empty() {
            return Err(no_file(path));
        }
        Ok(rows.into_iter().map(FileVersion::from).collect())
    }

    /// Returns one version of a file.
    pub async fn find_version(
        &self,
        member: &Member,
        task: &str,
        path: &str,
        version: i64,
    ) -> Result<FileVersion, Refusal> {
        self.open_task(member, task).await?;
        let key = (self.tenant.0, task.to_owned(), path.to_owned(), version);
        let row = file_versions::Entity::find_by_id(key).one(self.db.reader()).await.map_err(refused)?;
        row.map(FileVersion::from).ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("`{path}` has no version {version}"))
                .hint("`file_history` lists the versions")
        })
    }
}

impl OperatorScope<'_> {
    /// Returns at most `limit` files of all workspaces after this one, deleted ones too.
    pub async fn files_after(
        &self,
        after: Option<&PlacedFile>,
        limit: u64,
    ) -> Result<Vec<PlacedFile>, DbError> {
        let key = [files::Column::TenantId, files::Column::TaskId, files::Column::Path];
        let place = |file: &PlacedFile| {
            use sea_orm::sea_query::ExprTrait;
            let start =
                [Expr::val(file.tenant.0), Expr::val(file.task.as_str()), Expr::val(file.path.as_str())];
            Expr::tuple(key.map(|column| Expr::col((files::Entity, column)))).gt(Expr::tuple(start))
        };
        let select = files::Entity::find()
            .apply_if(after, |select, after| select.filter(place(after)))
            .order_by_asc(files::Column::TenantId)
            .order_by_asc(files::Column::TaskId)
            .order_by_asc(files::Column::Path)
            .limit(limit);
        let rows = select.all(self.db.reader()).await?;
        Ok(rows.into_iter().map(PlacedFile::from).collect())
    }
}

/// Returns the token of the caller's lease of the path, if it has one.
fn check_lease(
    change: &TaskChange,
    live: &[leases::Model],
    member: &Member,
    write: &FileWrite,
) -> Result<Option<i64>, Refusal> {
    let mut of_path = live.iter().filter(|row| overlap(&row.path, &write.path));
    let own = of_path.clone().filter(|row| row.holder == member.agent);
    let fits = own.clone().filter(|row| write.token.is_none_or(|token| token == row.token));
    let token = fits.map(|row| row.token).max();
    let other = of_path.find(|row| row.holder != member.agent);
    if let Some(given) = write.token.filter(|_| token.is_none()) {
        let refusal = Refusal::new(
            Code::StaleToken,
            format!("the token {given} is not of a live lease of `{}` by `{}`", write.path, member.agent),
        );
        let refusal = match other {
            Some(other) => with_holder(refusal, &held_by(other, change.now)),
            None => refusal,
        };
        return Err(refusal.hint("the lease was released or expired: claim the file again, and read it"));
    }
    match other {
        None => Ok(token),
        Some(other) => {
            let held = held_by(other, change.now);
            let reason = format!(
                "`{}` is leased to `{}` in task `{}` for another {} ms",
                write.path, held.holder, change.task.id, held.expires_in_ms
            );
            let refusal = Refusal::new(Code::LeaseHeld, reason).fact("taskId", change.task.id.as_str());
            Err(with_holder(refusal, &held).hint("`claim_file` with `wait_seconds` waits for the file"))
        }
    }
}

/// Refuses a new file in the place of a directory, or below a file.
async fn check_place(change: &TaskChange, path: &str) -> Result<(), Refusal> {
    let above = path.match_indices('/').map(|(end, _)| &path[..end]);
    let below = Condition::all()
        .add(files::Column::Path.gt(format!("{path}/")))
        // The character after the slash.
        .add(files::Column::Path.lt(format!("{path}0")));
    let select = files::Entity::find()
        .filter(files::Column::TenantId.eq(change.task.tenant_id))
        .filter(files::Column::TaskId.eq(change.task.id.as_str()))
        .filter(files::Column::Deleted.eq(false))
        .filter(Condition::any().add(files::Column::Path.is_in(above)).add(below))
        .order_by_asc(files::Column::Path)
        .limit(1);
    match select.one(&change.tx).await.map_err(refused)? {
        None => Ok(()),
        Some(other) => {
            let reason = match other.path.len() < path.len() {
                true => format!("`{}` is a file, so there is no `{path}`", other.path),
                false => format!("`{path}` is a directory: it has `{}`", other.path),
            };
            Err(Refusal::new(Code::Conflict, reason).hint("choose another path, or delete the other file"))
        }
    }
}

fn check_version(write: &FileWrite, current: Option<&files::Model>) -> Result<(), Refusal> {
    let live = current.filter(|row| !row.deleted);
    let version = live.map_or(0, |row| row.version);
    let tag = live.map(|row| etag(row.version, &row.sha256));
    let (fits, builds_on) = match &write.condition {
        Builds::Version(expected) => (*expected == version, format!("version {expected}")),
        Builds::Etag(expected) => (tag.as_deref() == Some(expected), format!("etag {expected}")),
        Builds::Seen(Some(seen)) => {
            (version == 0 || tag.as_ref() == Some(seen), format!("the etag {seen} that you saw last"))
        }
        Builds::Seen(None) => (version == 0, "a version that you have not read".to_owned()),
    };
    if fits {
        return Ok(());
    }
    let Some((row, tag)) = live.zip(tag) else {
        let reason = format!("`{}` does not exist, and the write builds on {builds_on}", write.path);
        return Err(Refusal::new(Code::VersionConflict, reason)
            .fact("currentVersion", 0)
            .hint("write it with `expected_version` 0, or without one"));
    };
    let reason = format!(
        "`{}` is at version {version} by `{}`, and the write builds on {builds_on}",
        write.path, row.author
    );
    Err(Refusal::new(Code::VersionConflict, reason)
        .fact("currentVersion", version)
        .fact("etag", tag)
        .fact("author", row.author.as_str())
        .hint("read the file again and repeat the change on what it holds now; `expected_version` says what it builds on"))
}

fn no_file(path: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no file `{path}` in this task"))
        .hint("`file_list` shows the files")
}

impl From<files::Model> for File {
    fn from(row: files::Model) -> Self {
        File {
            etag: etag(row.version, &row.sha256),
            path: row.path,
            version: row.version,
            sha256: row.sha256,
            size: row.size,
            author: row.author,
            updated_at: time::from_column(row.updated_at),
        }
    }
}

impl From<files::Model> for PlacedFile {
    fn from(row: files::Model) -> Self {
        PlacedFile {
            tenant: TenantId(row.tenant_id),
            task: row.task_id,
            path: row.path,
            deleted: row.deleted,
            changed_at: time::from_column(row.updated_at),
        }
    }
}

impl From<file_versions::Model> for FileVersion {
    fn from(row: file_versions::Model) -> Self {
        FileVersion {
            etag: etag(row.version, &row.sha256),
            version: row.version,
            sha256: row.sha256,
            size: row.size,
            deleted: row.deleted,
            author: row.author,
            token: row.token,
            written_at: time::from_column(row.written_at),
        }
    }
}
