//! A million calls through one gateway: its memory after each hundred thousand, and the rows at the end.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::gateway::{ECHO, Gateway, Kept};
use crate::load::{End, Load, Sample};
use crate::program::Place;

const AGENTS: u64 = 16;
const STEP: u64 = 100_000;
const STEPS: u64 = 10;

/// No further step is begun after this.
const AT_MOST: Duration = Duration::from_secs(420);

/// The state after each step, and what is on record.
pub struct Million {
    pub steps: Vec<(u64, Sample)>,
    pub kept: Kept,
}

pub fn run(runtime: &Runtime, place: &Place, path: &Path) -> Result<Million, String> {
    let gateway = Gateway::start(place, path, "million")?;
    runtime.block_on(gateway.register("echo"))?;
    let key = runtime.block_on(gateway.agent_key())?;
    let target = gateway.target("gateway", &key, ECHO);
    let begun = Instant::now();
    let mut steps = Vec::new();
    let (mut sent, mut errors) = (0, 0);
    for series in 1..=STEPS {
        if begun.elapsed() > AT_MOST {
            eprintln!("stopped after {sent} calls: {AT_MOST:?} are over");
            break;
        }
        let load = Load { series, agents: AGENTS, bytes: 64, end: End::Calls(STEP / AGENTS) };
        let mut sample = load.run(runtime, &target)?;
        sample.times = Vec::new();
        (sent, errors) = (sent + sample.sent, errors + sample.errors);
        eprintln!("{sent} calls");
        steps.push((sent, sample));
    }
    Ok(Million { steps, kept: gateway.stop_and_count(runtime, sent, errors)? })
}
