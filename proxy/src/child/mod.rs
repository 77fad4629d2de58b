//! Child processes: how one is started, supervised and ended. What it says is not read here.

use std::ffi::OsString;
use std::process::ExitCode;

/// The whole of `<program> exec-child`: runs one command under supervision until it or the gateway is
/// gone. `args` are those after `exec-child`. To be called before any thread or runtime is started.
pub fn supervise(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    drop(args.into_iter());
    todo!()
}
