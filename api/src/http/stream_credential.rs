//! Credential of an open stream, checked again and again: a stream ends when its caller may not have it any
//! more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::request::Parts;
use jiff::Timestamp;
use protocol::Scope;

use crate::app::App;
use crate::authn::Owner;
use crate::http::request;

/// Longest time between two checks.
pub const CHECK_EVERY: Duration = Duration::from_secs(20);

/// Least time between two checks, however often the registry changes.
const BETWEEN_CHECKS: Duration = Duration::from_millis(500);

/// Time limit of a check; then messages go on, and the check is repeated later.
const CHECK_WITHIN: Duration = Duration::from_secs(1);

/// Time before a failed check is repeated.
const CHECK_AGAIN: Duration = Duration::from_secs(5);

pub struct StreamCredential {
    app: Arc<App>,
    parts: Arc<Parts>,
    scope: Scope,
    /// Notifies of registry changes, which may revoke the credential.
    registry: tokio::sync::watch::Receiver<()>,
    /// Time of the last check, and of the next one.
    checked: Option<Instant>,
    due: Instant,
}

impl StreamCredential {
    pub fn new(app: Arc<App>, parts: Arc<Parts>, scope: Scope) -> Self {
        let registry = app.gateway.upstreams.directory.registry();
        Self { app, parts, scope, registry, checked: None, due: Instant::now() }
    }

    /// Returns the time of the next check.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Waits for a change of the registry, which may bring the next check forward.
    pub async fn changed(&mut self) {
        match self.registry.changed().await {
            Ok(()) => self.registry.mark_changed(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Checks the credential if it is time; returns false if its owner may not have the stream any more. A
    /// check that cannot be made ends nothing.
    pub async fn is_still_allowed(&mut self, owner: Owner) -> bool {
        self.follow_registry();
        if self.due > Instant::now() {
            return true;
        }
        // Boxed, since each of many streams would reserve the space.
        let proof = request::proof(&self.app, &self.parts);
        let check = Box::pin(self.app.gateway.authn.check_again(&proof, owner, self.scope));
        let checked = tokio::time::timeout(CHECK_WITHIN, check).await;
        let now = Instant::now();
        self.checked = Some(now);
        match checked {
            Ok(Ok(until)) => {
                self.due = now + until.map_or(CHECK_EVERY, |until| CHECK_EVERY.min(left(until)));
                true
            }
            Ok(Err(refusal)) if matches!(refusal.code.http(), 401 | 403 | 404) => false,
            Ok(Err(_)) | Err(_) => {
                self.due = now + CHECK_AGAIN;
                true
            }
        }
    }

    /// Brings the next check forward after a change of the registry.
    fn follow_registry(&mut self) {
        if self.registry.has_changed().unwrap_or(false) {
            self.registry.mark_unchanged();
            let now = Instant::now();
            let soon = self.checked.map_or(now, |checked| now.max(checked + BETWEEN_CHECKS));
            self.due = self.due.min(soon);
        }
    }
}

/// Returns the time until a credential expires, to the next millisecond.
fn left(until: Timestamp) -> Duration {
    let left = Timestamp::now().duration_until(until);
    Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1)
}
