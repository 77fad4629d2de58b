//! Exponential backoff with jitter, for everything that connects or starts again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The pauses before tries in a row: the first one, doubled up to the longest, each with jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// Returns the next pause.
    pub fn pause(&mut self) -> Duration {
        self.pause_from(self.first)
    }

    /// Returns the next pause where the other side names the first one, as an SSE stream does by `retry`.
    pub fn pause_from(&mut self, first: Duration) -> Duration {
        let pause = first.saturating_mul(1 << self.tries.min(20)).min(self.longest.max(first));
        self.tries += 1;
        with_jitter(pause)
    }

    /// Begins with the first pause again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Adds up to a quarter, so that what failed together does not come back in step.
pub fn with_jitter(pause: Duration) -> Duration {
    // The keys of the standard library's hash maps are random.
    let random = RandomState::new().hash_one(()) as u32;
    pause + pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_with_at_most_a_quarter_more() {
        let mut backoff = Backoff::new(Duration::from_secs(100), Duration::from_secs(300));
        for least in [100, 200, 300, 300] {
            let pause = backoff.pause().as_secs_f64();
            assert!((f64::from(least)..=f64::from(least) * 1.25).contains(&pause), "{pause} for {least}");
        }
        assert!(backoff.pause_from(Duration::from_secs(900)) >= Duration::from_secs(900));
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(125));
    }

    #[test]
    fn two_pauses_differ() {
        let pauses = [0; 8].map(|_| with_jitter(Duration::from_secs(1)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
