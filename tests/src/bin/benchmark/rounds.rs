//! The comparison: every load on every target in turn, several rounds, so that a machine that is slower
//! for a while is slower for all. What is told are medians; ratios are taken within a round.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::load::{End, Load, Sample, Target};

const AGENTS: [u64; 3] = [1, 16, 100];
pub const BYTES: [usize; 2] = [64, 100 * 1024];

/// How thorough.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: usize,
    pub warm_up: Duration,
    pub window: Duration,
}

/// One target under one load, in all rounds.
pub struct Cell {
    pub agents: u64,
    pub bytes: usize,
    pub target: &'static str,
    rounds: Vec<Figures>,
    pub errors: u64,
    pub first_error: Option<String>,
}

/// One measurement.
#[derive(Clone, Copy, Default, Debug)]
pub struct Figures {
    pub calls_per_second: f64,
    /// Of `direct` and of `bridge` in the same round under the same load.
    pub of_direct: f64,
    pub of_bridge: f64,
    /// Seconds.
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub cpu: f64,
    pub cpu_in_all: f64,
    /// Bytes.
    pub resident: f64,
}

/// Runs all rounds; also how many calls each target got. The first target is the ceiling, the second
/// the bridge.
pub fn run(runtime: &Runtime, targets: &[Arc<Target>], plan: Plan) -> Result<(Vec<Cell>, Vec<u64>), String> {
    let mut cells: Vec<Cell> = Vec::new();
    let mut sent = vec![0; targets.len()];
    let mut series = 0;
    for round in 1..=plan.rounds {
        let mut at = 0;
        for bytes in BYTES {
            for agents in AGENTS {
                eprintln!("round {round} of {}: {agents} agents, {bytes} bytes", plan.rounds);
                let mut beside = Vec::new();
                for (target, sent) in targets.iter().zip(&mut sent) {
                    series += 1;
                    let end = End::Time { warm_up: plan.warm_up, window: plan.window };
                    let sample = Load { series, agents, bytes, end }.run(runtime, target)?;
                    *sent += sample.sent;
                    beside.push(sample.calls_per_second);
                    if round == 1 {
                        cells.push(Cell::new(agents, bytes, target.name));
                    }
                    cells[at].add(sample, &beside);
                    at += 1;
                }
            }
        }
    }
    Ok((cells, sent))
}

impl Cell {
    fn new(agents: u64, bytes: usize, target: &'static str) -> Cell {
        Cell { agents, bytes, target, rounds: Vec::new(), errors: 0, first_error: None }
    }

    fn add(&mut self, sample: Sample, beside: &[f64]) {
        let calls_per_second = sample.calls_per_second;
        let of = |at: usize| beside.get(at).map_or(0.0, |other| calls_per_second / other.max(1.0));
        self.rounds.push(Figures {
            calls_per_second,
            of_direct: of(0),
            of_bridge: of(1),
            p50: sample.time(0.5).as_secs_f64(),
            p95: sample.time(0.95).as_secs_f64(),
            p99: sample.time(0.99).as_secs_f64(),
            cpu: sample.cpu_per_call.as_secs_f64(),
            cpu_in_all: sample.cpu_per_call_in_all.as_secs_f64(),
            resident: (sample.usage.resident + sample.usage.helpers) as f64,
        });
        self.errors += sample.errors;
        self.first_error = self.first_error.take().or(sample.first_error);
    }

    /// Each figure's median over the rounds.
    pub fn medians(&self) -> Figures {
        let of = |figure: fn(&Figures) -> f64| median(self.rounds.iter().map(figure).collect());
        Figures {
            calls_per_second: of(|figures| figures.calls_per_second),
            of_direct: of(|figures| figures.of_direct),
            of_bridge: of(|figures| figures.of_bridge),
            p50: of(|figures| figures.p50),
            p95: of(|figures| figures.p95),
            p99: of(|figures| figures.p99),
            cpu: of(|figures| figures.cpu),
            cpu_in_all: of(|figures| figures.cpu_in_all),
            resident: of(|figures| figures.resident),
        }
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}
