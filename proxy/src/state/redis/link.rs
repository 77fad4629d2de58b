//! The one connection to Redis for commands: kept by a task that connects, watches and connects again,
//! so that a caller waits for a lost connection for a bounded time and for a dead server not at all.
//! It knows no command but PING.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::super::StateError;
use super::address::Source;

/// How often an idle connection is tried.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long one attempt to connect may take; asking several sentinels takes several steps.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Pauses between attempts: doubled from the first to the last.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Callers' end of the connection.
pub(super) struct Link {
    state: watch::Receiver<State>,
    signs: Arc<Signs>,
    timeout: Duration,
}

/// The keeper's end.
pub(super) struct Keeper {
    source: Arc<Source>,
    state: watch::Sender<State>,
    signs: Arc<Signs>,
    timeout: Duration,
}

/// What callers tell the keeper.
#[derive(Default)]
struct Signs {
    /// An answer did not come: try whether the server still answers.
    doubt: Notify,
    /// The server said that it is not the master any more.
    moved: Notify,
}

#[derive(Clone)]
enum State {
    /// Before the first attempt ended, or just after a connection was lost.
    Connecting,
    Up(MultiplexedConnection),
    Down {
        reason: String,
        since: jiff::Timestamp,
    },
}

/// A connection that is not made yet, and the task that will make it.
pub(super) fn link(source: Arc<Source>, timeout: Duration) -> (Link, Keeper) {
    let (sender, receiver) = watch::channel(State::Connecting);
    let signs = Arc::new(Signs::default());
    let link = Link { state: receiver, signs: signs.clone(), timeout };
    (link, Keeper { source, state: sender, signs, timeout })
}

impl Link {
    /// Sends a command and waits for its answer, both within the timeout.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StateError> {
        let run = |mut connection| async move { command.query_async(&mut connection).await };
        self.run(run).await
    }

    /// Does something with the connection within the timeout.
    pub async fn run<T, F>(&self, work: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, StateError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + self.timeout;
        let connection = self.connection(deadline).await?;
        match timeout_at(deadline, work(connection)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if is_lost(&error) => {
                self.signs.doubt.notify_one();
                Err(unavailable(error.to_string()))
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                self.signs.moved.notify_one();
                Err(unavailable(error.to_string()))
            }
            Ok(Err(error)) => Err(StateError::Unexpected { reason: error.to_string() }),
            Err(_) => {
                self.signs.doubt.notify_one();
                Err(unavailable(format!("Redis gave no answer within {:?}", self.timeout)))
            }
        }
    }

    async fn connection(&self, deadline: Instant) -> Result<MultiplexedConnection, StateError> {
        let fail = |reason: &str| Err(unavailable(reason.to_owned()));
        if let State::Up(connection) = &*self.state.borrow() {
            return Ok(connection.clone());
        }
        let mut state = self.state.clone();
        match timeout_at(deadline, state.wait_for(|state| !matches!(state, State::Connecting))).await {
            Ok(Ok(state)) => match &*state {
                State::Up(connection) => Ok(connection.clone()),
                State::Down { reason, since } => {
                    Err(StateError::Unavailable { reason: reason.clone(), since: *since })
                }
                State::Connecting => fail("Redis is being connected"),
            },
            Ok(Err(_)) => fail("the gateway is stopping"),
            Err(_) => fail(&format!("no connection to Redis within {:?}", self.timeout)),
        }
    }
}

impl Keeper {
    /// Keeps the connection until stopped.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut pause = PAUSE.0;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    tracing::info!("connected to Redis");
                    pause = PAUSE.0;
                    self.state.send_replace(State::Up(connection.clone()));
                    let reason = self.watch(connection).await;
                    tracing::warn!(reason, "the connection to Redis is lost");
                    self.state.send_replace(State::Connecting);
                }
                Err(reason) => {
                    self.report_down(reason);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        let connecting = async {
            let client = self.source.client().await?;
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        match timeout(self.patience(), connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {:?}", self.patience())),
        }
    }

    /// A single server is given up as fast as a caller would; sentinels are asked in turn.
    fn patience(&self) -> Duration {
        match *self.source {
            Source::Server(_) => self.timeout,
            Source::Sentinels(_) => CONNECT,
        }
    }

    /// Returns with the reason when the connection no longer answers.
    async fn watch(&self, mut connection: MultiplexedConnection) -> String {
        loop {
            tokio::select! {
                () = sleep(HEARTBEAT) => {}
                () = self.signs.doubt.notified() => {}
                () = self.signs.moved.notified() => return "the server is not the master any more".to_owned(),
            }
            let ping = redis::cmd("PING");
            match timeout(self.timeout, ping.query_async::<()>(&mut connection)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !is_lost(&error) => {
                    tracing::debug!(%error, "Redis answers PING with an error")
                }
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("no answer within {:?}", self.timeout),
            }
        }
    }

    fn report_down(&self, reason: String) {
        self.state.send_if_modified(|state| {
            let since = match state {
                State::Down { since, .. } => *since,
                State::Connecting | State::Up(_) => {
                    tracing::warn!(reason, "Redis cannot be reached; trying again until it can");
                    jiff::Timestamp::now()
                }
            };
            *state = State::Down { reason, since };
            true
        });
    }
}

/// Whether this connection is of no more use.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

pub(super) fn unavailable(reason: String) -> StateError {
    StateError::Unavailable { reason, since: jiff::Timestamp::now() }
}
