//! Last step before the server's program: this process sets its resource limits and death signal, and then
//! executes the program. The step runs between fork and exec, where safe Rust has no other place.

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};

use super::options::Options;
use super::spawn;

/// Executes the command; returns only with the reason of a failure.
pub fn become_command(options: &Options) -> String {
    match prepare(options) {
        Ok(()) => spawn::replace_with_command(options),
        Err(text) => text,
    }
}

fn prepare(options: &Options) -> Result<(), String> {
    // When the supervisor itself is killed, the program goes too, even if nobody is left to end it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("no death signal: {e}"))?;
    if let Some(parent) = options.parent
        && getppid().map(|pid| pid.as_raw_pid()) != Some(parent)
    {
        return Err("the supervisor is gone".to_owned());
    }
    let limits = options.limits;
    let memory = limits.memory_mb.map(|mb| mb.saturating_mul(1 << 20));
    limit(Resource::Nofile, "open files", limits.open_files)?;
    limit(Resource::Cpu, "processor time", limits.cpu_seconds)?;
    if let Some(dir) = &options.cwd {
        std::env::set_current_dir(dir)
            .map_err(|e| format!("cannot enter the directory {}: {e}", dir.display()))?;
    }
    // This limit comes last, since this process may allocate little from here on.
    limit(Resource::As, "memory", memory)
}

fn limit(resource: Resource, what: &str, value: Option<u64>) -> Result<(), String> {
    let Some(value) = value else { return Ok(()) };
    let new = Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(resource, new).map_err(|e| format!("cannot limit {what} to {value}: {e}"))
}
