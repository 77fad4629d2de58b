//! Resources of tasks: state, files, logs, workspace contents, agents.

use base64::Engine;
use entity::Page;
use entity::collab::{Member, TaskFilter};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use protocol::TenantId;
use protocol::provider::{Changed, ProviderError, Watch};
use serde_json::{Value, json};

use super::agent::Agent;
use super::hub::About;
use super::path::{check_path, check_task};
use super::{Collab, encoded};

/// Most tasks whose resources are listed; others are found by the templates.
const LISTED: u64 = 100;

/// Newest events that a log resource shows.
const EVENTS: u64 = 200;

/// Characters of a URI's path that stand for themselves (RFC 3986, section 3.3), and `/`.
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'@')
    .remove(b':');

const JSON: &str = "application/json";

/// A resource by its URI.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    State(String),
    Files(String),
    Logs(String),
    Whole(String),
    File(String, String),
    Agent(String),
}

impl Place {
    fn read(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        let decoded = percent_decode_str(rest).decode_utf8().ok()?;
        Some(match scheme {
            "tasks" => {
                let (task, part) = decoded.split_once('/')?;
                match part {
                    "state" => Place::State(task.to_owned()),
                    "files" => Place::Files(task.to_owned()),
                    "logs" => Place::Logs(task.to_owned()),
                    _ => return None,
                }
            }
            "logs" => Place::Logs(decoded.into_owned()),
            "collaboration" => Place::Whole(decoded.into_owned()),
            "workspace" => {
                let (task, path) = decoded.split_once('/')?;
                Place::File(task.to_owned(), path.to_owned())
            }
            "agents" => Place::Agent(decoded.strip_suffix("/status")?.to_owned()),
            _ => return None,
        })
    }

    fn task(&self) -> Option<&str> {
        match self {
            Place::State(task) | Place::Files(task) | Place::Logs(task) | Place::Whole(task) => Some(task),
            Place::File(task, _) => Some(task),
            Place::Agent(_) => None,
        }
    }

    fn about(&self) -> About {
        match self {
            Place::State(_) => About::TASK,
            Place::Files(_) | Place::File(..) => About::FILES,
            Place::Logs(_) => About::LOGS,
            Place::Whole(_) => About::TASK.and(About::FILES).and(About::LEASES).and(About::PEOPLE),
            Place::Agent(_) => About::TASK.and(About::LEASES).and(About::PEOPLE),
        }
    }
}

pub fn templates() -> Vec<Value> {
    [
        ("tasks://{taskId}/state", "task-state", "A task: title, status, assignee, result", Some(JSON)),
        ("tasks://{taskId}/files", "task-files", "The files of a task's workspace", Some(JSON)),
        ("tasks://{taskId}/logs", "task-logs", "The newest events of a task", Some(JSON)),
        ("logs://{taskId}", "logs", "The newest events of a task", Some(JSON)),
        ("workspace://{taskId}/{+path}", "workspace-file", "A file of a task's workspace", None),
        (
            "collaboration://{taskId}",
            "collaboration",
            "A task with participants, leases and files",
            Some(JSON),
        ),
        ("agents://{agentId}/status", "agent-status", "Tasks and leases of an agent", Some(JSON)),
    ]
    .into_iter()
    .map(|(uri, name, description, mime)| {
        let mut template = json!({ "uriTemplate": uri, "name": name, "description": description });
        if let Some(mime) = mime {
            template["mimeType"] = mime.into();
        }
        template
    })
    .collect()
}

impl Collab {
    /// Lists the resources of tasks that every agent of the tenant finds, the newest first.
    pub(super) async fn list_resources(&self, tenant: TenantId) -> Result<Vec<Value>, ProviderError> {
        let tasks = self.db.tenant(tenant).newest_tasks(LISTED).await?;
        let listed = tasks.iter().flat_map(|(id, title)| {
            let item = |uri: String, what: &str| {
                json!({ "uri": uri, "name": format!("{id} {what}"), "title": format!("{title}: {what}"),
                    "mimeType": JSON })
            };
            [
                item(format!("tasks://{id}/state"), "state"),
                item(format!("tasks://{id}/files"), "files"),
                item(format!("tasks://{id}/logs"), "logs"),
                item(format!("collaboration://{id}"), "collaboration"),
            ]
        });
        Ok(listed.collect())
    }

    pub(super) async fn resource_contents(
        &self,
        agent: &Agent,
        uri: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        let place = Place::read(uri).ok_or(ProviderError::NotFound)?;
        if let Some(task) = place.task() {
            check_task(task)?;
        }
        let (scope, member) = (self.db.tenant(agent.tenant), &agent.member);
        let shown = match &place {
            Place::State(task) => json!(scope.find_task(member, task).await?),
            Place::Files(task) => {
                json!({ "taskId": task, "files": scope.list_files(member, task, "", None, 1000).await? })
            }
            Place::Logs(task) => {
                let (events, newest) = scope.last_events(member, task, EVENTS).await?;
                json!({ "taskId": task, "events": events, "newest": newest })
            }
            Place::Whole(task) => json!({
                "task": scope.find_task(member, task).await?,
                "participants": scope.participants(member, task).await?,
                "leases": scope.leases(member, Some(task)).await?,
                "files": scope.list_files(member, task, "", None, 1000).await?,
            }),
            Place::Agent(of) => {
                let filter =
                    TaskFilter { assigned_to: Some(of.clone()), newest_first: true, ..TaskFilter::default() };
                let tasks = scope.list_tasks(member, &filter, Page::new(1, 100)).await?.items;
                let leases = scope.leases_of(member, of).await?;
                json!({ "agentId": of, "tasks": tasks, "leases": leases })
            }
            Place::File(task, path) => return self.file_contents(agent, uri, task, path).await,
        };
        Ok(vec![json!({ "uri": uri, "mimeType": JSON, "text": shown.to_string() })])
    }

    async fn file_contents(
        &self,
        agent: &Agent,
        uri: &str,
        task: &str,
        path: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        check_path(path)?;
        let file = self.db.tenant(agent.tenant).find_file(&agent.member, task, path).await?;
        self.seen.saw(agent, task, path, &file.etag).await;
        let contents = self.blobs.get(agent.tenant, &file.sha256).await?;
        let version = json!({ "version": file.version, "etag": file.etag, "author": file.author });
        Ok(vec![match encoded(&contents) {
            (text, "utf-8") => {
                json!({ "uri": uri, "mimeType": "text/plain", "text": text, "_meta": version })
            }
            _ => {
                let blob = base64::engine::general_purpose::STANDARD.encode(&contents);
                json!({ "uri": uri, "mimeType": "application/octet-stream", "blob": blob, "_meta": version })
            }
        }])
    }

    /// Watches a resource of a task that every agent of the tenant finds.
    pub(super) async fn watch_uri(
        &self,
        tenant: TenantId,
        uri: &str,
        changed: Changed,
    ) -> Result<Watch, ProviderError> {
        let place = Place::read(uri).ok_or(ProviderError::NotFound)?;
        let path = match &place {
            Place::File(_, path) => {
                check_path(path)?;
                Some(path.as_str())
            }
            _ => None,
        };
        let Some(task) = place.task() else {
            return Ok(Watch::new(self.hub.watch(tenant, None, place.about(), None, changed)));
        };
        check_task(task)?;
        // Followed, so that a lost message is made up for.
        let follower = self.hub.follow((tenant, task.into()));
        let guard = self.hub.watch(tenant, Some(task), place.about(), path, changed);
        let anyone = Member { agent: String::new(), sees_all: false };
        follower.begin_at(self.db.tenant(tenant).find_task(&anyone, task).await?.last_seq);
        Ok(Watch::new((guard, follower)))
    }
}

/// Returns the URI of a file of a workspace.
pub fn file_uri(task: &str, path: &str) -> String {
    format!("workspace://{task}/{}", utf8_percent_encode(path, &PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_read_back() {
        let file = file_uri("t", "a b/ü%.txt");
        assert_eq!(file, "workspace://t/a%20b/%C3%BC%25.txt");
        for (uri, place) in [
            ("tasks://t/state", Some(Place::State("t".to_owned()))),
            ("tasks://t/files", Some(Place::Files("t".to_owned()))),
            ("tasks://t/logs", Some(Place::Logs("t".to_owned()))),
            ("logs://t", Some(Place::Logs("t".to_owned()))),
            ("collaboration://t", Some(Place::Whole("t".to_owned()))),
            ("agents://ada/status", Some(Place::Agent("ada".to_owned()))),
            (&file, Some(Place::File("t".to_owned(), "a b/ü%.txt".to_owned()))),
            ("tasks://t/other", None),
            ("tasks://t", None),
            ("agents://ada", None),
            ("file:///etc/passwd", None),
            ("workspace", None),
        ] {
            assert_eq!(Place::read(uri), place, "{uri}");
        }
    }
}
