//! `server/discover` as the first request to a child whose era is unknown.

use std::time::{Duration, Instant};

use protocol::mcp::Era;
use protocol::{Code, Refusal};

use super::upstream::StartingChild;
use crate::peer::{Connection, handshake};
use crate::upstream::{Failure, Initialized};

/// Least time for a child to answer after it has read the request; a child that starts slowly has as long as
/// its start.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two checks that a child has read the request.
const LOOK: Duration = Duration::from_millis(50);

/// Outcome of `server/discover`.
#[derive(Debug)]
pub enum Discovered {
    /// The handshake of the modern era.
    Modern(Initialized),
    /// Any other answer; `by_modern` for an error that only a modern server sends.
    Refused { refusal: Refusal, by_modern: bool },
    /// The end or the silence of a child that has read the request, in words.
    Unanswered(String),
    /// The end or the silence of a child that has not read the request, or a stop of the server.
    NotStarted(Refusal),
}

impl StartingChild {
    /// Sends `server/discover`. A child that has read the request and does not answer in time is silent.
    pub async fn discover(&self, generation: u64, deadline: Instant) -> Discovered {
        let asking = self.unless_stopped(handshake::ask(&self.connection, Era::Modern, deadline));
        let answer = tokio::select! {
            // The first poll sends the request.
            biased;
            answer = asking => answer,
            failure = self.silence() => Err(failure),
        };
        match answer {
            Ok(answer) => {
                let server = self.connection.server();
                let by_modern = handshake::verdict(Era::Modern, server, answer.clone()).is_ok();
                match handshake::read(server, Era::Modern, answer, generation) {
                    Ok(initialized) => Discovered::Modern(initialized),
                    Err(failure) => {
                        Discovered::Refused { refusal: self.not_started(failure.refusal), by_modern }
                    }
                }
            }
            Err(failure) => self.without_answer(failure.refusal),
        }
    }

    fn without_answer(&self, refusal: Refusal) -> Discovered {
        let (has_read, is_open) = (self.has_read(), self.connection.state.is_open());
        match refusal.code {
            Code::ServerStopped => Discovered::NotStarted(refusal),
            Code::TimedOut if has_read => Discovered::Unanswered("silence".to_owned()),
            Code::TimedOut => Discovered::NotStarted(self.not_started(refusal)),
            // The answer cannot be read.
            _ if is_open => Discovered::Refused { refusal: self.not_started(refusal), by_modern: false },
            _ if has_read => Discovered::Unanswered(refusal.reason.into_owned()),
            _ => Discovered::NotStarted(self.not_started(refusal)),
        }
    }

    /// Returns true if the child has read all messages, or had at its end.
    fn has_read(&self) -> bool {
        self.connection.shared.lock().outbox.is_read()
    }

    /// Waits until the child has read the request, and then as long again, at least [`PATIENCE`].
    async fn silence(&self) -> Failure {
        let begun = Instant::now();
        while !self.has_read() {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(begun.elapsed().max(PATIENCE)).await;
        Failure { refusal: Refusal::new(Code::TimedOut, "it did not answer in time"), sent: true }
    }
}
