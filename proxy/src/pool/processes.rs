//! Processes of one server for one tenant, those that are starting included: a stop ends each of them and waits
//! for the last.

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio_util::sync::CancellationToken;

use crate::child::{ChildWatch, Needed};

#[derive(Default)]
pub struct Processes {
    state: Mutex<State>,
    /// Read lock during the creation of a process.
    making: RwLock<()>,
}

#[derive(Default)]
struct State {
    /// Cancelled from a stop to the next start.
    stopping: CancellationToken,
    running: Vec<ChildWatch>,
}

impl Processes {
    /// Returns a token that a stop cancels: no process is created from then on, and handshakes end.
    pub fn stopping(&self) -> CancellationToken {
        self.state.lock().stopping.clone()
    }

    /// Allows processes again after [`Processes::end`].
    pub fn allow(&self) {
        let mut state = self.state.lock();
        if state.stopping.is_cancelled() {
            state.stopping = CancellationToken::new();
        }
    }

    /// Returns a guard to be held until the new process is added; `None` while the server is stopped.
    pub async fn make(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let making = self.making.read().await;
        (!self.stopping().is_cancelled()).then_some(making)
    }

    pub fn add(&self, child: ChildWatch) {
        let mut state = self.state.lock();
        state.running.retain(|child| !child.is_over());
        state.running.push(child);
    }

    /// Ends handshakes in progress, and waits for the last process.
    pub async fn end(&self) -> Needed {
        self.state.lock().stopping.cancel();
        drop(self.making.write().await);
        let mut running = std::mem::take(&mut self.state.lock().running);
        running.retain(|child| !child.is_over());
        join_all(running.iter().map(ChildWatch::over)).await.into_iter().max().unwrap_or_default()
    }
}
