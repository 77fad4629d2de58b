//! Changes of workspaces in their directories, and imports from there.

use std::collections::HashSet;
use std::time::SystemTime;

use entity::collab::{Member, PlacedFile};
use protocol::provider::{ProviderError, ToolOutput};
use protocol::{Code, Refusal, TenantId};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::checkout::{Checkouts, Place, is_current};
use super::files::Expected;
use super::hub::Notice;
use super::path::check_path;
use super::{Call, Collab, answer};

/// Files of one read of all workspaces.
const PAGE: u64 = 500;

#[derive(Deserialize)]
struct Import {
    task_id: String,
    path: String,
    #[serde(flatten)]
    expected: Expected,
}

impl Collab {
    pub(super) async fn file_import(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let Import { task_id, path, expected } = call.read()?;
        check_path(&path)?;
        let checkouts = self.checkouts.as_deref().ok_or(ProviderError::NotFound)?;
        let tenant = call.agent.tenant;
        // The directory of a task is only for those who may see the task.
        self.db.tenant(tenant).find_task(&call.agent.member, &task_id).await?;
        let contents = checkouts.read(tenant, &task_id, &path, self.settings.max_file_bytes).await?;
        Ok(answer(self.write(call, &task_id, &path, contents, expected, None).await?))
    }

    /// Makes the copy of a changed file, if there are copies; an answer names what hindered it.
    pub(super) async fn mirror_into(&self, answer: &mut Value, tenant: TenantId, task: &str, path: &str) {
        if let Some(checkouts) = &self.checkouts
            && let Err(reason) = self.mirror_file(checkouts, tenant, task, path).await
        {
            answer["directoryError"] = format!("the directory has no copy: {reason}").into();
        }
    }

    /// Passes another replica's change on to [`Collab::mirror`]; `None` after changes may have been missed.
    pub(super) fn mirrored(&self, copies: &UnboundedSender<Option<Notice>>, notice: Option<Notice>) {
        if self.checkouts.is_some() {
            // Without a receiver the gateway stops.
            copies.send(notice).ok();
        }
    }

    /// Makes copies of what other replicas changed.
    pub(super) async fn mirror(&self, mut changes: UnboundedReceiver<Option<Notice>>) {
        let Some(checkouts) = self.checkouts.clone() else { return };
        while let Some(first) = changes.recv().await {
            let mut gathered = vec![first];
            while let Ok(next) = changes.try_recv() {
                gathered.push(next);
            }
            // What was missed includes the rest.
            if gathered.iter().any(Option::is_none) {
                if let Err(reason) = self.mirror_each(&checkouts).await {
                    tracing::warn!(reason, "copies of workspaces are not up to date");
                }
                continue;
            }
            // Each copy is made once, whatever the number of notices is.
            let notices = gathered.into_iter().flatten();
            let changed = notices.filter(|notice| notice.path.is_some() || notice.seq.is_none());
            let changed: HashSet<_> = changed.map(|notice| (notice.key, notice.path)).collect();
            for ((tenant, task), path) in changed {
                let made = match path {
                    Some(path) => self.mirror_file(&checkouts, tenant, &task, &path).await,
                    None => self.mirror_deleted(&checkouts, tenant, &task).await,
                };
                if let Err(reason) = made {
                    tracing::warn!(%tenant, %task, reason, "a copy of a workspace file failed");
                }
            }
        }
    }

    /// Removes the copies of a deleted task.
    pub(super) async fn mirror_deleted(
        &self,
        checkouts: &Checkouts,
        tenant: TenantId,
        task: &str,
    ) -> Result<(), String> {
        let _held = checkouts.turn(tenant, task).await;
        // A task of the same name may have been made meanwhile.
        let found = self.db.operator().newest_events(&[(tenant, task.to_owned())]).await;
        match found.map_err(|error| error.detail())?.is_empty() {
            true => checkouts.remove_task(tenant, task).await,
            false => Ok(()),
        }
    }

    /// Makes the copies that are missing or old, and removes those of deleted files and tasks. A copy that
    /// was changed after its version was written stays.
    async fn mirror_each(&self, checkouts: &Checkouts) -> Result<(), String> {
        let operator = self.db.operator();
        for (tenant, task) in checkouts.tasks().await? {
            if let Err(reason) = self.mirror_deleted(checkouts, tenant, &task).await {
                tracing::warn!(%tenant, task, reason, "the directory of a deleted task stays");
            }
        }
        let mut after: Option<PlacedFile> = None;
        loop {
            let page = operator.files_after(after.as_ref(), PAGE).await.map_err(|error| error.detail())?;
            for file in &page {
                let found = checkouts.place(file.tenant, &file.task, &file.path).await;
                let fits = match found {
                    Ok(Place::Missing) => file.deleted,
                    Ok(Place::File(at)) => is_current(at, file.changed_at.into()),
                    // Found again, and named, when it is written.
                    Err(_) => false,
                };
                if !fits
                    && let Err(reason) =
                        self.mirror_file(checkouts, file.tenant, &file.task, &file.path).await
                {
                    tracing::warn!(tenant = %file.tenant, task = file.task, reason, "a copy of a workspace file failed");
                }
            }
            if (page.len() as u64) < PAGE {
                return Ok(());
            }
            after = page.into_iter().next_back();
        }
    }

    /// Makes the copy of a file as the database has it now.
    async fn mirror_file(
        &self,
        checkouts: &Checkouts,
        tenant: TenantId,
        task: &str,
        path: &str,
    ) -> Result<(), String> {
        let everyone = Member { agent: String::new(), sees_all: true };
        let _held = checkouts.turn(tenant, task).await;
        match self.db.tenant(tenant).find_file(&everyone, task, path).await {
            Ok(file) => {
                let contents = self.blobs.get(tenant, &file.sha256).await.map_err(reason)?;
                checkouts.write(tenant, task, path, contents, SystemTime::from(file.updated_at)).await
            }
            Err(refusal) if refusal.code == Code::NotFound => checkouts.remove(tenant, task, path).await,
            Err(refusal) => Err(reason(refusal)),
        }
    }
}

fn reason(refusal: Refusal) -> String {
    refusal.reason.into_owned()
}
