//! Tasks and who works on them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An agent that acts in a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Name of the agent, or of its key: the holder of its leases and the author of its files.
    pub agent: String,
    /// Access to tasks restricted to participants: the operator's and the tenant's administrator's.
    pub sees_all: bool,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum $name { $(#[serde(rename = $text)] $variant,)* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text,)* } }

            /// Reads the word; hyphens count as underscores.
            pub fn read(text: &str) -> Option<Self> {
                let text = text.replace('-', "_");
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }
    };
}

words! {
    /// State of a task.
    Status {
        Pending "pending",
        InProgress "in_progress",
        Blocked "blocked",
        Review "review",
        Done "done",
        Failed "failed",
        Cancelled "cancelled",
    }
}

words! {
    /// Agents that find a task: every agent of the tenant, or its creator, its assignee and its participants.
    Access {
        Tenant "tenant",
        Participants "participants",
    }
}

/// A task. Optional members that are not set are left out.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub id: String,
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A word of [`Status`], unless another program wrote a different one.
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complexity: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub labels: Vec<String>,
    /// Tasks that must be done before this one is ready.
    pub depends_on: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    pub access: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Grows with each change of these members.
    pub version: i64,
    /// Number of the newest event.
    pub last_seq: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, PartialEq, Debug)]
pub struct NewTask {
    pub id: String,
    pub title: String,
    pub description: Option<String>,
    pub status: Status,
    pub assigned_to: Option<String>,
    pub complexity: Option<i32>,
    pub parent: Option<String>,
    pub labels: Vec<String>,
    pub depends_on: Vec<String>,
    pub access: Access,
    /// Agents that are participants from the beginning.
    pub participants: Vec<String>,
}

impl NewTask {
    pub fn new(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            description: None,
            status: Status::Pending,
            assigned_to: None,
            complexity: None,
            parent: None,
            labels: Vec::new(),
            depends_on: Vec::new(),
            access: Access::Tenant,
            participants: Vec::new(),
        }
    }
}

impl NewTask {
    /// Returns a task with the members that a patch sets.
    pub fn of(id: impl Into<String>, title: impl Into<String>, members: TaskPatch) -> Self {
        Self {
            description: members.description.flatten(),
            status: members.status.unwrap_or(Status::Pending),
            assigned_to: members.assigned_to.flatten(),
            complexity: members.complexity.flatten(),
            parent: members.parent.flatten(),
            labels: members.labels.unwrap_or_default(),
            depends_on: members.depends_on.unwrap_or_default(),
            access: members.access.unwrap_or(Access::Tenant),
            participants: members.participants,
            ..Self::new(id, title)
        }
    }
}

/// Changes of a task: `None` leaves a member, `Some(None)` removes it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TaskPatch {
    pub title: Option<String>,
    pub description: Option<Option<String>>,
    pub status: Option<Status>,
    pub assigned_to: Option<Option<String>>,
    pub complexity: Option<Option<i32>>,
    pub parent: Option<Option<String>>,
    pub labels: Option<Vec<String>>,
    pub depends_on: Option<Vec<String>>,
    pub result: Option<Option<Value>>,
    pub access: Option<Access>,
    /// Agents that become participants.
    pub participants: Vec<String>,
    /// The change is made only from this version.
    pub expected_version: Option<i64>,
    /// The change is made only from this status.
    pub expected_status: Option<Status>,
    /// Words for the readers of the task's events.
    pub note: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaskFilter {
    pub status: Option<Status>,
    pub assigned_to: Option<String>,
    pub parent: Option<String>,
    /// The newest tasks first, instead of the oldest.
    pub newest_first: bool,
}

/// An agent that joined a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    pub agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub joined_at: Timestamp,
    /// Time of the agent's last call in this task, to about 5 s.
    pub seen_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_at: Option<Timestamp>,
}
