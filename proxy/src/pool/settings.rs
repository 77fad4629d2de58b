//! Settings of the operator for all upstreams.

use std::path::PathBuf;
use std::time::Duration;

use crate::egress::{Egress, EgressSettings};
use crate::peer::gateway_client::ClientInfo;

#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Path of this program, for its `exec-child` command.
    pub supervisor: PathBuf,
    /// Names and values of variables that children get besides those of [`PASSED_ON`]. The composition root
    /// reads them from the gateway's environment.
    pub environment: Vec<(String, String)>,
    /// The longest line taken from a child, in bytes.
    pub line_cap: usize,
    /// The most bytes queued for a child that does not read.
    pub write_cap: usize,
    /// The most children at once; a new one replaces the longest idle one.
    pub max_children: usize,
    /// The most children that start at the same time, at least 1.
    pub start_concurrency: usize,
    /// The most requests that wait for one upstream.
    pub max_waiting: usize,
    /// Time for a child to end after end of input, and again after SIGTERM.
    pub stop_grace: Duration,
    /// The first pause after a second crash in a row; each further one doubles, up to `backoff_cap`. Jitter
    /// adds up to a quarter.
    pub backoff_base: Duration,
    pub backoff_cap: Duration,
    /// The number of failures in a row that opens the circuit breaker.
    pub breaker_failures: u32,
    /// Time until an open breaker admits a trial request.
    pub breaker_pause: Duration,
    /// Time for a child to answer a ping after time-outs opened the breaker, before it is replaced.
    pub ping_patience: Duration,
    /// The number of stderr lines kept per server.
    pub log_lines: usize,
    /// Egress client for remote servers.
    pub egress: Egress,
    /// Egress client for servers of the operator's configuration, which may have private addresses.
    pub trusted_egress: Egress,
}

/// Variables that every child gets from the gateway's environment.
pub const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

impl PoolSettings {
    /// Returns the gateway's `clientInfo`.
    pub fn client(&self) -> ClientInfo {
        ClientInfo { name: "trunkline".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Returns the defaults, for a supervisor program and the variables to pass on.
    pub fn new(supervisor: PathBuf, environment: Vec<(String, String)>) -> Self {
        Self {
            supervisor,
            environment,
            line_cap: 16 << 20,
            write_cap: 16 << 20,
            max_children: 256,
            // Starts are processor work for the most part.
            start_concurrency: std::thread::available_parallelism().map_or(2, |cores| cores.get() * 2),
            max_waiting: 1000,
            stop_grace: Duration::from_secs(2),
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(30),
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(10),
            ping_patience: Duration::from_secs(5),
            log_lines: 500,
            egress: Egress::new(EgressSettings::default()),
            trusted_egress: Egress::new(EgressSettings::default()),
        }
    }
}
