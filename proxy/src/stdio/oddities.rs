//! What a child does that it should not: tolerated, counted, and noted in its log, where a flood of
//! the same shows as a few lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::logs::LogRing;

pub struct Oddities {
    seen: AtomicU64,
    logs: Arc<LogRing>,
}

impl Oddities {
    pub fn new(logs: Arc<LogRing>) -> Self {
        Self { seen: AtomicU64::new(0), logs }
    }

    /// The first ten are noted, then every one whose number is a power of two.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen <= 10 {
            self.logs.note(text());
        } else if seen.is_power_of_two() {
            self.logs.note(format!("{} ({seen} such things so far)", text()));
        }
    }
}

/// The beginning of something that is too long to be shown.
pub fn excerpt(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]);
    if bytes.len() > 120 { format!("{shown}… ({} bytes)", bytes.len()) } else { shown.into_owned() }
}
