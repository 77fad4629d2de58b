//! Agents in closed loops: each has one connection, makes a call, checks the answer and makes the next.
//! Their speed, and what the target used meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::runtime::Runtime;

use crate::call::{self, Number, Tool};
use crate::client::Connection;
use crate::usage::{self, Usage};

/// What is measured.
pub struct Target {
    pub name: &'static str,
    pub pid: u32,
    pub address: SocketAddr,
    pub path: &'static str,
    pub key: Option<String>,
    pub tool: Tool,
}

/// How many agents call how large, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Different for each load, so that no mark comes twice.
    pub series: u64,
    pub agents: u64,
    pub bytes: usize,
    pub end: End,
}

#[derive(Clone, Copy, Debug)]
pub enum End {
    /// What finishes within `window` after `warm_up` is measured.
    Time { warm_up: Duration, window: Duration },
    /// Each agent makes so many calls, all of which are measured.
    Calls(u64),
}

/// What came out.
pub struct Sample {
    pub calls_per_second: f64,
    /// Times of the measured calls, sorted.
    pub times: Vec<Duration>,
    /// Processor time used during the window, and until all work was done, per call.
    pub cpu_per_call: Duration,
    pub cpu_per_call_in_all: Duration,
    /// At the end of the window, or when all work was done.
    pub usage: Usage,
    pub sent: u64,
    pub errors: u64,
    pub first_error: Option<String>,
}

#[derive(Default)]
struct Tally {
    sent: u64,
    errors: u64,
    first_error: Option<String>,
    times: Vec<Duration>,
}

/// When an agent begins and ends.
#[derive(Clone, Copy)]
struct Stint {
    from: Instant,
    to: Instant,
    most: u64,
}

/// After a failure an agent waits, so that a server that refuses at once is not flooded.
const AFTER_FAILURE: Duration = Duration::from_millis(5);

/// How long a target may go on working after the last answer.
const SETTLING: Duration = Duration::from_secs(8);

impl Load {
    /// Runs the agents. They live on the runtime; this thread only looks at the clock and the target.
    pub fn run(self, runtime: &Runtime, target: &Arc<Target>) -> Result<Sample, String> {
        let padding: Arc<str> = "x".repeat(self.bytes).into();
        let mut connections = Vec::new();
        for _ in 0..self.agents {
            let mut connection = Connection::to(target.address, target.key.as_deref());
            runtime.block_on(connection.open())?;
            connections.push(connection);
        }
        let before = usage::cpu_of(target.pid);
        let now = Instant::now();
        let stint = match self.end {
            End::Time { warm_up, window } => {
                Stint { from: now + warm_up, to: now + warm_up + window, most: u64::MAX }
            }
            End::Calls(most) => Stint { from: now, to: now + Duration::from_secs(600), most },
        };
        let agents: Vec<_> = (0..)
            .zip(connections)
            .map(|(agent, connection)| {
                let (target, padding) = (Arc::clone(target), Arc::clone(&padding));
                runtime.spawn(work(connection, target, self.series, agent, padding, stint))
            })
            .collect();
        let (mut at_start, mut at_end, mut took) = (before, before, Duration::ZERO);
        let mut usage = Usage::default();
        if let End::Time { window, .. } = self.end {
            std::thread::sleep(stint.from.saturating_duration_since(Instant::now()));
            at_start = usage::cpu_of(target.pid);
            std::thread::sleep(stint.to.saturating_duration_since(Instant::now()));
            (at_end, took, usage) = (usage::cpu_of(target.pid), window, usage::of(target.pid));
        }
        let mut all = Tally::default();
        for agent in agents {
            all.add(runtime.block_on(agent).map_err(|error| format!("an agent: {error}"))?);
        }
        if let End::Calls(_) = self.end {
            (at_end, took) = (usage::cpu_of(target.pid), stint.from.elapsed());
        }
        let settled = settle(target.pid);
        if let End::Calls(_) = self.end {
            usage = usage::of(target.pid);
        }
        all.times.sort_unstable();
        let measured = all.times.len() as u64;
        Ok(Sample {
            calls_per_second: measured as f64 / took.as_secs_f64(),
            cpu_per_call: per_call(at_end.saturating_sub(at_start), measured),
            cpu_per_call_in_all: per_call(settled.saturating_sub(before), all.sent),
            times: all.times,
            usage,
            sent: all.sent,
            errors: all.errors,
            first_error: all.first_error,
        })
    }
}

impl Sample {
    /// The time that this part of the calls did not exceed.
    pub fn time(&self, part: f64) -> Duration {
        let rank = (self.times.len() as f64 * part).ceil() as usize;
        self.times.get(rank.clamp(1, self.times.len().max(1)) - 1).copied().unwrap_or_default()
    }
}

async fn work(
    mut connection: Connection,
    target: Arc<Target>,
    series: u64,
    agent: u64,
    padding: Arc<str>,
    stint: Stint,
) -> Tally {
    let mut tally = Tally::default();
    let mut begun = Instant::now();
    while begun < stint.to && tally.sent < stint.most {
        let number = Number { series, agent, call: tally.sent };
        let (body, mark) = call::make(target.tool, number, &padding);
        tally.sent += 1;
        let answer = connection.send(Method::POST, target.path, body).await;
        let ended = Instant::now();
        match answer.and_then(|answer| mark.check(&answer)) {
            Ok(()) => {
                if (stint.from..stint.to).contains(&ended) {
                    tally.times.push(ended - begun);
                }
                begun = ended;
            }
            Err(error) => {
                tally.errors += 1;
                tally.first_error.get_or_insert(error);
                tokio::time::sleep(AFTER_FAILURE).await;
                begun = Instant::now();
            }
        }
    }
    tally
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.errors += other.errors;
        self.times.extend(other.times);
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Waits until the target has nothing left to do, such as rows to write: it would take processor time
/// from the next target. Its processor time then.
fn settle(pid: u32) -> Duration {
    let until = Instant::now() + SETTLING;
    let (mut last, mut calm) = (usage::cpu_of(pid), 0);
    while calm < 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(60));
        let now = usage::cpu_of(pid);
        // One tick is the finest that is counted.
        calm = if now.saturating_sub(last) <= Duration::from_millis(10) { calm + 1 } else { 0 };
        last = now;
    }
    last
}

fn per_call(time: Duration, calls: u64) -> Duration {
    time.div_f64(calls.max(1) as f64)
}
