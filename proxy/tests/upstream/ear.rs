//! A listener that keeps what it hears.

use std::sync::Arc;

use parking_lot::Mutex;
use proxy::upstream::{Listener, ServerRequest};

use crate::app::until;

/// Keeps a bounded number of what it hears, and the questions it is asked.
#[derive(Default)]
pub struct Ear {
    pub told: Mutex<Vec<String>>,
    pub asked: Mutex<Vec<ServerRequest>>,
}

impl Listener for Ear {
    fn on_notification(&self, method: &str, params: Option<&str>) {
        let mut told = self.told.lock();
        if told.len() < 100 {
            told.push(format!("{method} {}", params.unwrap_or("-")));
        }
    }

    fn on_request(&self, question: ServerRequest) {
        self.asked.lock().push(question);
    }
}

impl Ear {
    pub fn new() -> Arc<Ear> {
        Arc::default()
    }

    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock())
    }

    /// Waits for the next question.
    pub async fn asked(&self) -> ServerRequest {
        until("it is asked", 5, || !self.asked.lock().is_empty()).await;
        self.asked.lock().remove(0)
    }
}
