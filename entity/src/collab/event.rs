//! Events of a task, numbered without gaps from 1.

use std::time::Duration;

use jiff::Timestamp;
use protocol::TenantId;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// An event of a task. `kind` is a word of [`EventKind`], unless another program wrote a different one.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub seq: i64,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Members by kind: a step's are those that the agent gave.
    pub data: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    pub at: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EventKind {
    TaskCreated,
    TaskUpdated,
    /// A change of the task's row that another program made.
    TaskChangedOutside,
    Joined,
    Left,
    LeaseGranted,
    LeaseReleased,
    LeaseExpired,
    LeaseForced,
    FileWritten,
    FileDeleted,
    Step,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::TaskCreated => "task_created",
            EventKind::TaskUpdated => "task_updated",
            EventKind::TaskChangedOutside => "task_changed_outside",
            EventKind::Joined => "joined",
            EventKind::Left => "left",
            EventKind::LeaseGranted => "lease_granted",
            EventKind::LeaseReleased => "lease_released",
            EventKind::LeaseExpired => "lease_expired",
            EventKind::LeaseForced => "lease_forced",
            EventKind::FileWritten => "file_written",
            EventKind::FileDeleted => "file_deleted",
            EventKind::Step => "step",
        }
    }
}

/// A step for the log of a task.
#[derive(Clone, PartialEq, Debug)]
pub struct NewStep {
    pub tenant: TenantId,
    pub task: String,
    pub agent: String,
    pub sees_all: bool,
    /// The same id again, in the same task, is the same step.
    pub step_id: String,
    pub data: Value,
}

/// A stored step: its number, or that of the same step stored before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbered {
    pub seq: i64,
    pub repeated: bool,
}

/// A task whose rows of other programs now are events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ingested {
    pub tenant: TenantId,
    pub task: String,
    pub seq: i64,
    /// Number of the rows.
    pub rows: usize,
    /// Time from the first of the rows until now.
    pub lag: Duration,
    /// Ids of the rows that are steps or other events; a change of the task's row has none.
    pub events: Vec<Uuid>,
}
