//! The benchmark: how fast the gateway passes calls on, beside the same calls without a gateway and
//! through the smallest bridge that works, and what it uses. See `docs/performance.md`. Without a role
//! it measures; with one (`echo`, `direct`, `bridge`, `keeper`) it is a part of the measurement.
//! It knows the gateway from outside only.

mod bridge;
mod call;
mod client;
mod direct;
mod echo;
mod gateway;
mod keeper;
mod life;
mod lists;
mod load;
mod mcp;
mod million;
mod program;
mod report;
mod rounds;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use call::Tool;
use gateway::Gateway;
use load::Target;
use program::Place;
use rounds::Plan;

const USAGE: &str = "\
usage: benchmark [--quick] [--million] [--lists] [--gateway PATH]

  --quick         shorter rounds: under 40 s instead of 3 minutes, and less exact
  --million       a million calls through one gateway, its memory after each 100,000
  --lists         lists of all tools, filtered for an agent and not
  --gateway PATH  the program to measure; otherwise `trunkline` beside this program
                  (cargo build --release -p api)

Markdown goes to standard output, progress to standard error. The exit code is 1 when an answer was
wrong or a call is not on record.";

struct Options {
    quick: bool,
    million: bool,
    lists: bool,
    gateway: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("echo") => echo::run().map_err(|error| error.to_string()),
        Some("direct") => block_on(direct::run()),
        Some("bridge") => block_on(bridge::run()),
        Some("keeper") => {
            keeper::run();
            Ok(())
        }
        Some(_) | None => {
            let all_well = options(&arguments).and_then(|options| measure(&options));
            return match all_well {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(problem) => {
                    eprintln!("benchmark: {problem}");
                    ExitCode::from(2)
                }
            };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benchmark: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(role: impl Future<Output = std::io::Result<()>>) -> Result<(), String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(role).map_err(|error| error.to_string())
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut options =
        Options { quick: false, million: false, lists: false, gateway: own.with_file_name("trunkline") };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--million" => options.million = true,
            "--lists" => options.lists = true,
            "--gateway" => options.gateway = arguments.next().ok_or("--gateway wants a path")?.into(),
            "--help" | "-h" => return Err(USAGE.to_owned()),
            other => return Err(format!("{other} is not known\n{USAGE}")),
        }
    }
    options.gateway = options.gateway.canonicalize().map_err(|error| {
        let path = options.gateway.display();
        format!("{path}: {error}; build it with `cargo build --release -p api`, or name it with --gateway")
    })?;
    Ok(options)
}

/// Measures what is asked for; whether every answer was right and every call is on record.
fn measure(options: &Options) -> Result<bool, String> {
    let begun = Instant::now();
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    println!("{}", report::head(&options.gateway));
    let place = Place::make()?;
    let all_well = if options.lists {
        print!("{}", report::lists(&lists::run(&runtime, &place, &options.gateway)?));
        true
    } else if options.million {
        let million = million::run(&runtime, &place, &options.gateway)?;
        print!("{}", report::million(&million));
        million.kept.errors == 0 && million.kept.is_complete()
    } else {
        let starts = life::starts(&runtime, &place, &options.gateway, if options.quick { 3 } else { 7 })?;
        let idle = life::idle(&runtime, &place, &options.gateway)?;
        let all_well = compare(&runtime, &place, options)?;
        print!("{}{}", report::starts(&starts), report::idle(&idle));
        all_well
    };
    eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
    Ok(all_well)
}

fn compare(runtime: &Runtime, place: &Place, options: &Options) -> Result<bool, String> {
    let plan = match options.quick {
        true => Plan { rounds: 2, warm_up: Duration::from_millis(100), window: Duration::from_millis(300) },
        false => Plan { rounds: 3, warm_up: Duration::from_millis(300), window: Duration::from_millis(1300) },
    };
    let (direct, direct_address) = place.start_role("direct")?;
    let (bridge, bridge_address) = place.start_role("bridge")?;
    let gateway = Gateway::start(place, &options.gateway, "gateway")?;
    runtime.block_on(gateway.register("echo"))?;
    let key = runtime.block_on(gateway.agent_key())?;
    let beside = |name, program: &program::Program<'_>, address| {
        // The same headers for everybody: they are bytes that have to be read.
        let key = Some(key.clone());
        Arc::new(Target { name, pid: program.pid(), address, path: "/mcp", key, tool: Tool::Echo("echo") })
    };
    let targets = [
        beside("direct", &direct, direct_address),
        beside("bridge", &bridge, bridge_address),
        gateway.target("gateway, stdio echo", &key, gateway::ECHO),
        gateway.target("gateway, in-process", &key, Tool::Add),
    ];
    let (cells, sent) = rounds::run(runtime, &targets, plan)?;
    let errors = |cells: &[rounds::Cell], of: &str| -> u64 {
        cells.iter().filter(|cell| cell.target.starts_with(of)).map(|cell| cell.errors).sum()
    };
    let kept = gateway.stop_and_count(runtime, sent[2] + sent[3], errors(&cells, "gateway"))?;
    print!("{}{}", report::comparison(&cells, plan), report::kept(&kept));
    Ok(errors(&cells, "") == 0 && kept.is_complete())
}
