//! All processes of one server for one tenant, those that only find out its era included: so that a stop
//! reaches each of them, and is said when the last one is gone.

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio_util::sync::CancellationToken;

use crate::child::{ChildWatch, Needed};

#[derive(Default)]
pub struct Processes {
    state: Mutex<State>,
    /// Held to read while a process is being made.
    making: RwLock<()>,
}

#[derive(Default)]
struct State {
    /// Cancelled from a stop to the next start.
    stopping: CancellationToken,
    running: Vec<ChildWatch>,
}

impl Processes {
    /// Is cancelled at a stop: no process is made from then on, and handshakes give up.
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

    /// A guard to keep until the process that is being made is added. None while it is stopped.
    pub async fn make(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let making = self.making.read().await;
        (!self.stopping().is_cancelled()).then_some(making)
    }

    pub fn add(&self, child: ChildWatch) {
        let mut state = self.state.lock();
        state.running.retain(|child| !child.is_over());
        state.running.push(child);
    }

    /// Ends handshakes that are under way, and waits until no process is left.
    pub async fn end(&self) -> Needed {
        self.state.lock().stopping.cancel();
        drop(self.making.write().await);
        let mut running = std::mem::take(&mut self.state.lock().running);
        running.retain(|child| !child.is_over());
        join_all(running.iter().map(ChildWatch::over)).await.into_iter().max().unwrap_or_default()
    }
}
