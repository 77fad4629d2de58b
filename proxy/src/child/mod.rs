//! Child processes: start, supervision and end. Standard output is not read here.
//!
//! ```text
//! gateway ──control socket──► supervisor (`exec-child`) ──► the server's program ──► its own children
//!    └──────────────── stdin and stdout, direct ───────────────┘
//! ```
//!
//! The supervisor holds no data: it receives the child's two pipes over the control socket and passes them
//! on. When that socket closes, for whatever reason, it ends everything below it.

mod apply;
mod descendants;
mod ending;
mod lookup;
mod options;
mod process;
mod spawn;
mod supervise;

use std::ffi::OsString;
use std::process::ExitCode;

pub use ending::{Ending, Needed};
pub use process::{ChildHandle, ChildPlan, ChildProcess, ChildWatch};

/// Runs `<program> exec-child`: one command under supervision until it or the gateway is gone. `args` are
/// those after `exec-child`. Must be called before any thread or runtime is started.
///
/// Exits with the command's own status (128 and the signal's number when one ended it), 64 for wrong
/// arguments, 126 or 127 when the command cannot be run.
pub fn supervise(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match options::Options::parse(args) {
        Ok(options) if options.apply => Err((126, apply::become_command(&options))),
        Ok(options) => supervise::run(&options).map_err(|text| (70, text)),
        Err(text) => Err((64, text)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err((code, text)) => {
            eprintln!("trunkline: {text}");
            ExitCode::from(code)
        }
    }
}
