//! Application of a patch to a task's row, with the changes that readers of its events see.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::tasks::check_names;
use crate::collab::TaskPatch;
use crate::error::DbError;
use crate::rows::collab::tasks;
use crate::rows::some_json;
use crate::scope::refuse_nul_inside;

/// Longest value of a member in an event, bytes of its JSON; of a longer one the event has the length.
const LONGEST_TOLD: usize = 4096;

/// Members that a patch changes, by their names in JSON.
#[derive(Default)]
struct Changes(Map<String, Value>);

impl Changes {
    /// Puts the new value in the place of the old one, and notes it if it is another.
    fn set<T: PartialEq + Serialize>(&mut self, name: &str, old: &mut T, new: T) -> Result<(), DbError> {
        if *old == new {
            return Ok(());
        }
        self.note(name, &new)?;
        *old = new;
        Ok(())
    }

    fn note(&mut self, name: &str, value: &impl Serialize) -> Result<(), DbError> {
        let value = json!(value);
        refuse_nul_inside(&value)?;
        let bytes = value.to_string().len();
        let told = if bytes > LONGEST_TOLD { json!({ "bytes": bytes }) } else { value };
        self.0.insert(name.to_owned(), told);
        Ok(())
    }
}

/// Applies a patch to a row and to what the task depends on; returns the members that changed.
pub(super) fn apply(
    task: &mut tasks::Model,
    needs: &mut Vec<String>,
    patch: TaskPatch,
) -> Result<Map<String, Value>, DbError> {
    check_names(patch.depends_on.as_deref().unwrap_or_default(), &patch.participants)?;
    let mut changes = Changes::default();
    if let Some(title) = patch.title {
        changes.set("title", &mut task.title, title)?;
    }
    if let Some(description) = patch.description {
        changes.set("description", &mut task.description, description)?;
    }
    if let Some(status) = patch.status {
        changes.set("status", &mut task.status, status.as_str().to_owned())?;
    }
    if let Some(agent) = patch.assigned_to {
        changes.set("assignedTo", &mut task.assigned_to, agent)?;
    }
    if let Some(complexity) = patch.complexity {
        changes.set("complexity", &mut task.complexity, complexity)?;
    }
    if let Some(parent) = patch.parent {
        changes.set("parent", &mut task.parent, parent)?;
    }
    if let Some(labels) = patch.labels {
        changes.set("labels", &mut task.labels, json!(labels))?;
    }
    if let Some(mut new) = patch.depends_on {
        new.sort_unstable();
        new.dedup();
        changes.set("dependsOn", needs, new)?;
    }
    if let Some(result) = patch.result {
        changes.set("result", &mut task.result, some_json(result))?;
    }
    if let Some(access) = patch.access {
        changes.set("access", &mut task.access, access.as_str().to_owned())?;
    }
    if let Some(note) = &patch.note {
        changes.note("note", note)?;
    }
    if !patch.participants.is_empty() {
        changes.note("participants", &patch.participants)?;
    }
    Ok(changes.0)
}
