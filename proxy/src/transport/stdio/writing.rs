//! Writing to a child: directly by the caller, or by a task that takes what many callers queued.

use std::sync::Arc;

use tokio::net::unix::pipe;

use super::outbox::PipeOutbox;
use crate::peer::duplex::DuplexConnection;

impl DuplexConnection<PipeOutbox> {
    /// Writes the claimed bytes and those queued meanwhile, without waiting.
    pub(super) fn write_without_waiting(&self, mut bytes: Vec<u8>, pipe: &pipe::Sender) {
        loop {
            let taken = match pipe.try_write(&bytes) {
                Ok(taken) => taken,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(_) => return self.shared.lock().outbox.input_closed.cancel(),
            };
            let mut shared = self.shared.lock();
            shared.outbox.advance(taken);
            if taken < bytes.len() {
                bytes.drain(..taken);
                shared.outbox.leave_over(bytes);
                return self.write_wanted.notify_one();
            }
            match shared.outbox.next(bytes) {
                Some(more) => bytes = more,
                None => return,
            }
        }
    }

    /// Writes reserved bytes, and waits while the pipe is full.
    pub async fn write_for_others(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.state.closed.cancelled() => return,
                () = self.write_wanted.notified() => {}
            }
            // Callers that are ready now queue theirs first, so that one write takes all messages.
            tokio::task::yield_now().await;
            let Some((mut bytes, pipe)) = self.shared.lock().outbox.take_reserved() else { continue };
            loop {
                let written = tokio::select! {
                    biased;
                    written = self.write_fully(&pipe, &bytes) => written,
                    () = self.state.closed.cancelled() => return,
                };
                if written.is_err() {
                    self.shared.lock().outbox.input_closed.cancel();
                    return;
                }
                match self.shared.lock().outbox.next(bytes) {
                    Some(more) => bytes = more,
                    None => break,
                }
            }
        }
    }

    async fn write_fully(&self, pipe: &pipe::Sender, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match pipe.try_write(bytes) {
                Ok(taken) => {
                    self.shared.lock().outbox.advance(taken);
                    bytes = &bytes[taken..];
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => pipe.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
