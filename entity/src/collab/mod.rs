//! Types of collaboration: tasks, leases, workspace files and the events of a task.

mod event;
mod file;
mod lease;
mod pattern;
mod task;

pub use event::{Event, EventKind, Ingested, NewStep, Numbered};
pub(crate) use file::etag;
pub use file::{Condition, File, FileVersion, FileWrite, PlacedFile};
pub use lease::{Claim, Claimed, Held, Lease, Waiting};
pub(crate) use pattern::overlap;
pub use task::{Access, Member, NewTask, Participant, Status, Task, TaskFilter, TaskPatch};

/// Result of a change, and the number of the task's newest event after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done<T> {
    pub value: T,
    pub seq: i64,
}
