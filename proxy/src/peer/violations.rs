//! Log of a server's protocol violations, which are tolerated and counted; a flood of them takes few lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::logs::LogRing;

pub struct ViolationLog {
    seen: AtomicU64,
    logs: Arc<LogRing>,
}

impl ViolationLog {
    pub fn new(logs: Arc<LogRing>) -> Self {
        Self { seen: AtomicU64::new(0), logs }
    }

    /// Notes the first ten, then every one whose number is a power of two.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen <= 10 {
            self.logs.note(text());
        } else if seen.is_power_of_two() {
            self.logs.note(format!("{} ({seen} violations so far)", text()));
        }
    }
}
