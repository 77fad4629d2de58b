//! Settings of all upstreams.

use std::path::PathBuf;
use std::time::Duration;

use crate::egress::{Egress, EgressSettings};
use crate::peer::gateway_client::ClientInfo;

#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// The program that has `exec-child`: this program itself.
    pub supervisor: PathBuf,
    /// Names of variables that children get from the gateway's own environment, besides `PATH`,
    /// `HOME`, `LANG`, `TZ` and `TMPDIR`, with their values. The composition root reads them.
    pub environment: Vec<(String, String)>,
    /// The longest line taken from a child, in bytes.
    pub line_cap: usize,
    /// The most bytes that wait for a child that does not read.
    pub write_cap: usize,
    /// How many children run at once; the longest idle one makes room.
    pub max_children: usize,
    /// How many requests wait for a place in one upstream.
    pub max_waiting: usize,
    /// How long a child may take to end by itself after end of input, and again after SIGTERM.
    pub stop_grace: Duration,
    /// The first pause after a second crash in a row; it doubles up to `backoff_cap`. Each has jitter
    /// of up to a quarter on top.
    pub backoff_base: Duration,
    pub backoff_cap: Duration,
    /// How many failures in a row open the circuit breaker.
    pub breaker_failures: u32,
    /// How long it stays open before one request may try.
    pub breaker_pause: Duration,
    /// How long a child may take for a ping when the breaker opened because of time-outs; one that
    /// does not answer is replaced.
    pub ping_patience: Duration,
    /// Lines kept of each child's stderr.
    pub log_lines: usize,
    /// The way to remote servers.
    pub egress: Egress,
    /// The same for servers of the operator's own configuration, whose addresses may be private.
    pub trusted_egress: Egress,
}

/// The variables that every child gets, when the gateway has them.
pub const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

impl PoolSettings {
    /// Who the gateway says it is.
    pub fn client(&self) -> ClientInfo {
        ClientInfo { name: "trunkline".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// The defaults, for a supervisor program and the variables to pass on.
    pub fn new(supervisor: PathBuf, environment: Vec<(String, String)>) -> Self {
        Self {
            supervisor,
            environment,
            line_cap: 16 << 20,
            write_cap: 16 << 20,
            max_children: 256,
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
