//! A gateway with nothing to do: how long it takes to be there, and what it holds while it waits.

use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use memchr::memmem;
use tokio::runtime::Runtime;

use crate::call::Tool;
use crate::client::{Connection, shown};
use crate::gateway::{ECHO, Gateway, RPC, call_once};
use crate::program::Place;
use crate::rounds::median;
use crate::usage::{self, Usage};

/// From the start of the process to the first answered call; seconds.
pub struct Starts {
    pub fresh: f64,
    pub existing: f64,
    /// The call goes to a stdio server, which has to start too.
    pub with_child: f64,
    pub runs: usize,
}

/// What twenty registered servers cost.
pub struct Idle {
    pub registered: Usage,
    /// All of them running, after the first list of their tools.
    pub running: Usage,
    pub first_list: Duration,
}

pub const SERVERS: usize = 20;

/// How long a gateway is left alone before its memory is read.
const REST: Duration = Duration::from_millis(1500);

const AT_MOST: Duration = Duration::from_secs(20);

/// Starts a gateway three times on each of several directories: a fresh one; the same one again; and
/// again, calling the server that was registered meanwhile.
pub fn starts(runtime: &Runtime, place: &Place, path: &Path, runs: usize) -> Result<Starts, String> {
    eprintln!("start to first answer, {runs} times");
    let (mut fresh, mut existing, mut with_child) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let name = format!("start-{run}");
        let (gateway, took) = start(runtime, place, path, &name, Tool::Add)?;
        fresh.push(took);
        gateway.program.stop(AT_MOST)?;
        let (gateway, took) = start(runtime, place, path, &name, Tool::Add)?;
        existing.push(took);
        runtime.block_on(gateway.register("echo"))?;
        gateway.program.stop(AT_MOST)?;
        let (gateway, took) = start(runtime, place, path, &name, ECHO)?;
        with_child.push(took);
        gateway.program.stop(AT_MOST)?;
    }
    Ok(Starts { fresh: median(fresh), existing: median(existing), with_child: median(with_child), runs })
}

fn start<'a>(
    runtime: &Runtime,
    place: &'a Place,
    path: &Path,
    name: &str,
    tool: Tool,
) -> Result<(Gateway<'a>, f64), String> {
    let begun = Instant::now();
    let gateway = Gateway::start_unwatched(place, path, name)?;
    while let Err(error) = runtime.block_on(first_call(&gateway, tool)) {
        if begun.elapsed() > AT_MOST || !tests::proc::is_running(gateway.program.pid()) {
            return Err(format!("{name} does not answer: {error}\n{}", gateway.program.last_lines()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((gateway, begun.elapsed().as_secs_f64()))
}

async fn first_call(gateway: &Gateway<'_>, tool: Tool) -> Result<(), String> {
    call_once(&mut gateway.operator()?, tool, 0).await
}

/// Registers the servers, lets the gateway rest, has all of them started, and lets it rest again.
pub fn idle(runtime: &Runtime, place: &Place, path: &Path) -> Result<Idle, String> {
    eprintln!("memory with {SERVERS} servers");
    let gateway = Gateway::start(place, path, "idle")?;
    for number in 0..SERVERS {
        runtime.block_on(gateway.register(&format!("echo-{number}")))?;
    }
    let rested = || {
        std::thread::sleep(REST);
        usage::of(gateway.program.pid())
    };
    let registered = rested();
    let begun = Instant::now();
    runtime.block_on(list_all(&mut gateway.operator()?))?;
    let first_list = begun.elapsed();
    let running = rested();
    gateway.program.stop(AT_MOST)?;
    Ok(Idle { registered, running, first_list })
}

/// Lists every server's tools, for which all of them must run.
async fn list_all(connection: &mut Connection) -> Result<(), String> {
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#.to_vec();
    let answer = connection.send(Method::POST, RPC, body).await?;
    match memmem::find_iter(&answer.body, b"__echo\"").count() {
        SERVERS => Ok(()),
        listed => Err(format!("{listed} of {SERVERS} servers are listed: {}", shown(&answer.body))),
    }
}
