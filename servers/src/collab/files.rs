//! Tools for workspace files.

use base64::Engine;
use bytes::Bytes;
use entity::collab::{Condition, File, FileVersion, FileWrite};
use protocol::provider::{ProviderError, ToolOutput};
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::agent::Agent;
use super::edit::{Replacement, diff, patch, replace};
use super::hub::{About, Notice};
use super::path::{check_path, check_prefix};
use super::resources::file_uri;
use super::{Call, Collab, answer, encoded, too_large};

/// Most files of one list, and versions of one history.
const MOST: u64 = 1000;

#[derive(Deserialize)]
struct Read {
    task_id: String,
    path: String,
    version: Option<i64>,
}

#[derive(Deserialize)]
struct Write {
    task_id: String,
    path: String,
    content: String,
    encoding: Option<String>,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Deserialize)]
struct Edit {
    task_id: String,
    path: String,
    edits: Option<Vec<Replacement>>,
    diff: Option<String>,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Deserialize)]
struct Delete {
    task_id: String,
    path: String,
    #[serde(flatten)]
    expected: Expected,
}

/// Version that a write builds on.
#[derive(Deserialize)]
pub(super) struct Expected {
    expected_version: Option<i64>,
    #[serde(alias = "expected_etag")]
    etag: Option<String>,
    token: Option<i64>,
}

impl Expected {
    /// Checks that the version that was read is the expected one.
    fn check(&self, path: &str, file: &File) -> Result<(), Refusal> {
        let etag = self.etag.as_deref().map(|etag| etag.trim_matches('"'));
        let other = match (self.expected_version, etag) {
            (Some(version), _) if version != file.version => format!("version {version}"),
            (None, Some(etag)) if etag != file.etag => format!("etag {etag}"),
            _ => return Ok(()),
        };
        let reason = format!(
            "`{path}` is at version {} by `{}`, and the edit builds on {other}",
            file.version, file.author
        );
        Err(Refusal::new(Code::VersionConflict, reason)
            .fact("currentVersion", file.version)
            .fact("etag", file.etag.as_str())
            .fact("author", file.author.as_str())
            .hint("read the file again and repeat the change on what it holds now"))
    }
}

#[derive(Deserialize)]
struct List {
    task_id: String,
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct History {
    task_id: String,
    path: String,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Diff {
    task_id: String,
    path: String,
    from_version: Option<i64>,
    to_version: Option<i64>,
}

impl Collab {
    pub(super) async fn file_read(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let Read { task_id, path, version } = call.read()?;
        check_path(&path)?;
        let scope = self.db.tenant(call.agent.tenant);
        let (mut shown, sha256) = match version {
            Some(version) => {
                let row = scope.find_version(&call.agent.member, &task_id, &path, version).await?;
                if row.deleted {
                    let reason = format!("version {version} of `{path}` is its deletion");
                    return Err(Refusal::new(Code::NotFound, reason).into());
                }
                let sha256 = row.sha256.clone();
                (of_path(&task_id, &path, &row), sha256)
            }
            None => {
                let file = scope.find_file(&call.agent.member, &task_id, &path).await?;
                self.seen.saw(&call.agent, &task_id, &path, &file.etag).await;
                let sha256 = file.sha256.clone();
                (json!(file), sha256)
            }
        };
        let contents = self.blobs.get(call.agent.tenant, &sha256).await?;
        let (content, encoding) = encoded(&contents);
        shown["taskId"] = task_id.into();
        shown["content"] = content.clone().into();
        shown["encoding"] = encoding.into();
        Ok(ToolOutput { text: content, structured: Some(shown) })
    }

    pub(super) async fn file_write(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: Write = call.read()?;
        let contents = match given.encoding.as_deref() {
            None | Some("utf-8" | "utf8") => Bytes::from(given.content),
            Some("base64") => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(given.content.trim());
                decoded.map(Bytes::from).map_err(|error| {
                    Refusal::new(Code::ValidationFailed, format!("`content` is not Base64: {error}"))
                })?
            }
            Some(_) => {
                return Err(Refusal::new(Code::ValidationFailed, "`encoding` is utf-8 or base64").into());
            }
        };
        let written = self.write(call, &given.task_id, &given.path, contents, given.expected, None).await?;
        Ok(answer(written))
    }

    /// Changes a file from the version that it has now, or that the call expects.
    pub(super) async fn file_edit(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let mut given: Edit = call.read()?;
        check_path(&given.path)?;
        let scope = self.db.tenant(call.agent.tenant);
        let file = scope.find_file(&call.agent.member, &given.task_id, &given.path).await?;
        let contents = self.blobs.get(call.agent.tenant, &file.sha256).await?;
        given.expected.check(&given.path, &file)?;
        let (path, most) = (given.path.clone(), self.settings.max_file_bytes);
        let (edits, patched) = (given.edits.take(), given.diff.take());
        let (new, changes) = worked_out(move || {
            let old = text(&path, &contents)?;
            let new = match (&patched, &edits) {
                (None, Some(edits)) => replace(old, edits, most)?,
                (Some(diff), None) => patch(old, diff)?,
                (None, None) | (Some(_), Some(_)) => {
                    return Err(Refusal::new(Code::ValidationFailed, "give either `edits` or `diff`"));
                }
            };
            let changes = diff(&format!("a/{path}"), &format!("b/{path}"), old, &new);
            Ok((new, changes))
        })
        .await?;
        // The edit fits the contents that were read: they need not have been read by the agent before.
        given.expected = Expected { expected_version: Some(file.version), etag: None, ..given.expected };
        let mut written =
            self.write(call, &given.task_id, &given.path, new.into(), given.expected, Some(&file)).await?;
        written["diff"] = json!(changes);
        let text = changes.unwrap_or_else(|| {
            format!(
                "version {} is written; too many lines lie between its changes to show them",
                written["version"]
            )
        });
        Ok(ToolOutput { text, structured: Some(written) })
    }

    pub(super) async fn file_delete(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let Delete { task_id, path, expected } = call.read()?;
        check_path(&path)?;
        let condition = self.condition(call, &task_id, &path, &expected).await;
        let write = FileWrite {
            path: path.clone(),
            sha256: String::new(),
            size: 0,
            deleted: true,
            condition,
            token: expected.token,
        };
        let done = self.db.tenant(call.agent.tenant).write_file(&call.agent.member, &task_id, write).await?;
        self.file_changed(call, &task_id, &path, done.seq);
        let mut deleted =
            json!({ "taskId": task_id, "path": path, "deleted": true, "version": done.value.version });
        self.mirror_into(&mut deleted, call.agent.tenant, &task_id, &path).await;
        Ok(answer(deleted))
    }

    pub(super) async fn file_list(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let List { task_id, prefix, after, limit } = call.read()?;
        let limit = limit.unwrap_or(MOST).clamp(1, MOST);
        let prefix = prefix.unwrap_or_default();
        let (files, next) = self.list_files(&call.agent, &task_id, &prefix, after.as_deref(), limit).await?;
        Ok(answer(json!({ "taskId": task_id, "files": files, "next": next })))
    }

    /// Returns a page of files by path, and the `after` of the next page.
    pub async fn list_files(
        &self,
        agent: &Agent,
        task: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u64,
    ) -> Result<(Vec<File>, Option<String>), Refusal> {
        check_prefix(prefix)?;
        if let Some(after) = after {
            check_path(after)?;
        }
        let scope = self.db.tenant(agent.tenant);
        let mut files = scope.list_files(&agent.member, task, prefix, after, limit + 1).await?;
        let more = files.len() as u64 > limit;
        files.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = files.last().filter(|_| more).map(|file| file.path.clone());
        Ok((files, next))
    }

    pub(super) async fn file_history(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let History { task_id, path, limit } = call.read()?;
        check_path(&path)?;
        let scope = self.db.tenant(call.agent.tenant);
        let limit = limit.unwrap_or(100).clamp(1, MOST);
        let versions = scope.file_history(&call.agent.member, &task_id, &path, limit).await?;
        Ok(answer(json!({ "taskId": task_id, "path": path, "versions": versions })))
    }

    /// Compares two versions: by default the current one with the one before.
    pub(super) async fn file_diff(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let Diff { task_id, path, from_version, to_version } = call.read()?;
        check_path(&path)?;
        let scope = self.db.tenant(call.agent.tenant);
        let newest = scope.file_history(&call.agent.member, &task_id, &path, 1).await?;
        let to = to_version.unwrap_or_else(|| newest.first().map_or(0, |row| row.version));
        let from = from_version.unwrap_or(to - 1);
        let old = self.version_text(call, &task_id, &path, from).await?;
        let new = self.version_text(call, &task_id, &path, to).await?;
        let names = [from, to].map(|version| format!("{path} (version {version})"));
        let changes = worked_out(move || {
            diff(&names[0], &names[1], &old, &new).ok_or_else(|| {
                let reason = "too many lines lie between the differences of the versions to compare them";
                Refusal::new(Code::ValidationFailed, reason)
                    .hint("`file_read` with `version` reads each of them")
            })
        })
        .await?;
        let structured =
            json!({ "taskId": task_id, "path": path, "fromVersion": from, "toVersion": to, "diff": changes });
        Ok(ToolOutput { text: changes, structured: Some(structured) })
    }

    /// Returns a file and its contents.
    pub async fn file_contents_of(
        &self,
        agent: &Agent,
        task: &str,
        path: &str,
    ) -> Result<(File, Bytes), Refusal> {
        check_path(path)?;
        let file = self.db.tenant(agent.tenant).find_file(&agent.member, task, path).await?;
        let contents = self.blobs.get(agent.tenant, &file.sha256).await?;
        Ok((file, contents))
    }

    async fn version_text(
        &self,
        call: &Call<'_>,
        task: &str,
        path: &str,
        version: i64,
    ) -> Result<String, Refusal> {
        if version == 0 {
            return Ok(String::new());
        }
        let scope = self.db.tenant(call.agent.tenant);
        let row = scope.find_version(&call.agent.member, task, path, version).await?;
        if row.deleted {
            return Ok(String::new());
        }
        let contents = self.blobs.get(call.agent.tenant, &row.sha256).await?;
        text(path, &contents).map(str::to_owned)
    }

    /// Stores a version of a file.
    pub(super) async fn write(
        &self,
        call: &Call<'_>,
        task: &str,
        path: &str,
        contents: Bytes,
        expected: Expected,
        read: Option<&File>,
    ) -> Result<Value, Refusal> {
        check_path(path)?;
        if contents.len() > self.settings.max_file_bytes {
            return Err(too_large(contents.len(), self.settings.max_file_bytes));
        }
        let tenant = call.agent.tenant;
        let scope = self.db.tenant(tenant);
        if read.is_none() {
            // Nothing is stored for a task that does not exist.
            scope.find_task(&call.agent.member, task).await?;
        }
        let condition = self.condition(call, task, path, &expected).await;
        let size = i64::try_from(contents.len()).unwrap_or(i64::MAX);
        let sha256 = self.blobs.put(tenant, contents).await?;
        let token = expected.token;
        let write = FileWrite { path: path.to_owned(), sha256, size, deleted: false, condition, token };
        let done = scope.write_file(&call.agent.member, task, write).await;
        let done = done.inspect_err(|refusal| self.figures.refused(refusal.code))?;
        self.seen.saw(&call.agent, task, path, &done.value.etag).await;
        self.file_changed(call, task, path, done.seq);
        let mut written = of_path(task, path, &done.value);
        written["taskId"] = task.into();
        self.mirror_into(&mut written, tenant, task, path).await;
        Ok(written)
    }

    async fn condition(&self, call: &Call<'_>, task: &str, path: &str, expected: &Expected) -> Condition {
        match (expected.expected_version, &expected.etag) {
            (Some(version), _) => Condition::Version(version),
            (None, Some(etag)) => Condition::Etag(etag.trim_matches('"').to_owned()),
            (None, None) => Condition::Seen(self.seen.etag(&call.agent, task, path).await),
        }
    }

    fn file_changed(&self, call: &Call<'_>, task: &str, path: &str, seq: i64) {
        self.hub.changed(Notice {
            key: (call.agent.tenant, task.into()),
            seq: Some(seq),
            about: About::FILES.and(About::LOGS),
            path: Some(path.into()),
        });
    }
}

/// Runs what takes the processor for a while in a thread of its own, so that no other call waits for it.
async fn worked_out<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "an edit failed");
        Err(Refusal::new(Code::Internal, "the edit could not be worked out"))
    })
}

fn of_path(task: &str, path: &str, version: &FileVersion) -> Value {
    let mut shown = json!(version);
    shown["path"] = path.into();
    shown["uri"] = file_uri(task, path).into();
    shown
}

fn text<'c>(path: &str, contents: &'c Bytes) -> Result<&'c str, Refusal> {
    std::str::from_utf8(contents).map_err(|_| {
        Refusal::new(
            Code::ValidationFailed,
            format!("`{path}` is not text, so it cannot be edited or compared"),
        )
        .hint("`file_write` with `encoding` base64 replaces it")
    })
}
