//! Shared command connection to Redis: a task connects, watches and reconnects, so that a caller waits for
//! a lost connection for a bounded time and for a dead server not at all. PING is the only command sent
//! here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::super::StateError;
use super::connect::Connector;

/// Interval of probes on an idle connection.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Callers' end of the connection.
pub(super) struct Link {
    state: watch::Receiver<State>,
    signs: Arc<Signs>,
    timeout: Duration,
}

/// The keeper's end.
pub(super) struct Keeper {
    connector: Arc<Connector>,
    state: watch::Sender<State>,
    signs: Arc<Signs>,
}

/// Signals from callers to the keeper and to each other.
#[derive(Default)]
struct Signs {
    /// Number of the last connection that left a command unanswered; callers do not wait for it.
    silent: AtomicU64,
    /// Request to probe the server after a missing answer.
    doubt: Notify,
    /// Report of the server that it is not the master any more.
    moved: Notify,
}

#[derive(Clone)]
enum State {
    /// State before the first attempt ended.
    Connecting,
    /// The connection, and its number. A connection that answers again has a new number.
    Up(MultiplexedConnection, u64),
    Down {
        reason: String,
        since: jiff::Timestamp,
    },
}

/// Returns an unopened connection, and the task that will open it.
pub(super) fn link(connector: Arc<Connector>) -> (Link, Keeper) {
    let (sender, receiver) = watch::channel(State::Connecting);
    let signs = Arc::new(Signs::default());
    let link = Link { state: receiver, signs: signs.clone(), timeout: connector.timeout };
    (link, Keeper { connector, state: sender, signs })
}

impl Link {
    /// Sends a command and waits for its answer, both within the timeout.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StateError> {
        let run = |mut connection| async move { command.query_async(&mut connection).await };
        self.run(run).await
    }

    /// Runs `work` with the connection within the timeout.
    pub async fn run<T, F>(&self, work: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, StateError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + self.timeout;
        let (connection, number) = self.connection(deadline).await?;
        match timeout_at(deadline, work(connection)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if is_lost(&error) => {
                self.signs.is_silent(number);
                Err(unavailable(error.to_string()))
            }
            Ok(Err(error)) if is_away(&error) => Err(unavailable(error.to_string())),
            Ok(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                self.signs.silent.fetch_max(number, Ordering::Relaxed);
                self.signs.moved.notify_one();
                Err(unavailable(error.to_string()))
            }
            Ok(Err(error)) => Err(StateError::Unexpected { reason: error.to_string() }),
            Err(_) => {
                self.signs.is_silent(number);
                Err(unavailable(format!("Redis gave no answer within {:?}", self.timeout)))
            }
        }
    }

    /// Returns whether an operation would fail without being tried.
    pub fn is_down(&self) -> bool {
        self.signs.say_down(&self.state.borrow())
    }

    /// Waits for a connection with a higher number, and returns its number; for ever when the store is
    /// closed.
    pub async fn up_after(&self, number: u64) -> u64 {
        let mut state = self.state.clone();
        let is_newer = |state: &State| {
            matches!(state, State::Up(_, newer) if *newer > number) && !self.signs.say_down(state)
        };
        let found = match state.wait_for(is_newer).await.as_deref() {
            Ok(State::Up(_, number)) => Some(*number),
            Ok(_) | Err(_) => None,
        };
        match found {
            Some(number) => number,
            None => std::future::pending().await,
        }
    }

    async fn connection(&self, deadline: Instant) -> Result<(MultiplexedConnection, u64), StateError> {
        let fail = |reason: &str| Err(unavailable(reason.to_owned()));
        let silent = || fail("Redis gave no answer a moment ago, and is being tried");
        match &*self.state.borrow() {
            state @ State::Up(..) if self.signs.say_down(state) => return silent(),
            State::Up(connection, number) => return Ok((connection.clone(), *number)),
            State::Connecting | State::Down { .. } => {}
        }
        let mut state = self.state.clone();
        match timeout_at(deadline, state.wait_for(|state| !matches!(state, State::Connecting))).await {
            Ok(Ok(state)) => match &*state {
                State::Up(connection, number) => Ok((connection.clone(), *number)),
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

impl Signs {
    /// Marks a connection as silent: callers do not wait for it until the keeper has probed it.
    fn is_silent(&self, number: u64) {
        self.silent.fetch_max(number, Ordering::Relaxed);
        self.doubt.notify_one();
    }

    fn say_down(&self, state: &State) -> bool {
        match state {
            State::Connecting => false,
            State::Up(_, number) => *number <= self.silent.load(Ordering::Relaxed),
            State::Down { .. } => true,
        }
    }
}

impl Keeper {
    /// Keeps the connection until stopped.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut number = 0;
        loop {
            let connection = self.connector.connect(open, |reason| self.report_down(reason)).await;
            tracing::info!("connected to Redis");
            let reason = self.watch(connection, &mut number).await;
            self.report_down(reason);
        }
    }

    /// Watches until the connection no longer answers, and returns the reason.
    async fn watch(&self, mut connection: MultiplexedConnection, number: &mut u64) -> String {
        let mut answers_again = true;
        loop {
            if answers_again {
                *number += 1;
                self.state.send_replace(State::Up(connection.clone(), *number));
            }
            tokio::select! {
                () = sleep(HEARTBEAT) => {}
                () = self.signs.doubt.notified() => {}
                () = self.signs.moved.notified() => return "the server is not the master any more".to_owned(),
            }
            let ping = redis::cmd("PING");
            match timeout(self.connector.timeout, ping.query_async::<()>(&mut connection)).await {
                Ok(Ok(())) => answers_again = *number <= self.signs.silent.load(Ordering::Relaxed),
                Ok(Err(error)) if !is_lost(&error) => {
                    tracing::debug!(%error, "Redis answers PING with an error");
                    answers_again = false;
                }
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("no answer within {:?}", self.connector.timeout),
            }
        }
    }

    fn report_down(&self, reason: String) {
        self.state.send_if_modified(|state| {
            let since = match state {
                State::Down { since, .. } => *since,
                State::Connecting | State::Up(..) => {
                    tracing::warn!(reason, "Redis cannot be reached; trying again until it can");
                    jiff::Timestamp::now()
                }
            };
            *state = State::Down { reason, since };
            true
        });
    }
}

async fn open(client: Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(1024);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Returns whether the error makes this connection unusable.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

/// Returns whether the server cannot serve now: it loads its data, or waits for its master.
fn is_away(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, TryAgain};
    matches!(error.kind(), ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | TryAgain))
}

pub(super) fn unavailable(reason: String) -> StateError {
    StateError::Unavailable { reason, since: jiff::Timestamp::now() }
}
