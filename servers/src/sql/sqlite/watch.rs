//! Watch over a running SQLite statement: deadline, cancellation, temporary files and memory, looked at from
//! the progress handler, which runs on the statement's own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Limits;
use crate::sql::{Bounds, Kind, SqlError};

/// Instructions of SQLite's virtual machine between two looks. Each may handle a value of the greatest length.
const STEPS: i32 = 100;

/// Time between two looks at the counters of the kernel.
const PACE: Duration = Duration::from_millis(5);

/// Cause of an interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Deadline = 1,
    Cancelled = 2,
    Temporary = 3,
    Memory = 4,
}

/// Watch over one statement of a connection.
pub struct Watch(Arc<AtomicU8>);

impl Watch {
    pub fn begin(connection: &Connection, limits: Limits, bounds: &Bounds) -> Result<Self, SqlError> {
        let cause = Arc::new(AtomicU8::new(0));
        let mut look = Look {
            deadline: bounds.deadline,
            cancellation: bounds.cancellation.clone(),
            written: limits.temporary_bytes.saturating_add(written_bytes()),
            resident: limits.memory_bytes.saturating_add(resident_bytes()),
            next: Instant::now() + PACE,
        };
        let found = Arc::clone(&cause);
        let handler = move || match look.find() {
            None => false,
            Some(cause) => {
                found.store(cause as u8, Ordering::Relaxed);
                true
            }
        };
        connection
            .progress_handler(STEPS, Some(handler))
            .map_err(|error| SqlError::new(Kind::Failed, error.to_string()))?;
        Ok(Self(cause))
    }

    /// Returns the cause for which the statement was interrupted.
    pub fn cause(&self) -> Option<Cause> {
        let cause = self.0.load(Ordering::Relaxed);
        [Cause::Deadline, Cause::Cancelled, Cause::Temporary, Cause::Memory]
            .into_iter()
            .find(|known| *known as u8 == cause)
    }
}

struct Look {
    deadline: Instant,
    cancellation: protocol::provider::Cancellation,
    /// Most bytes written by this thread.
    written: u64,
    /// Most resident bytes of this process.
    resident: u64,
    next: Instant,
}

impl Look {
    fn find(&mut self) -> Option<Cause> {
        let now = Instant::now();
        if now >= self.deadline {
            return Some(Cause::Deadline);
        }
        if self.cancellation.is_cancelled() {
            return Some(Cause::Cancelled);
        }
        if now < self.next {
            return None;
        }
        self.next = now + PACE;
        if written_bytes() > self.written {
            return Some(Cause::Temporary);
        }
        (resident_bytes() > self.resident).then_some(Cause::Memory)
    }
}

/// Returns the bytes that this thread has written. A guarded statement writes nothing but temporary files.
fn written_bytes() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let line = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Returns the resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
