//! Real child processes, good and bad, behind a real pool. This one binary is the test runner, the
//! supervisor (`exec-child`), every kind of child (`fixture`), and a gateway to be killed (`host`).
#![expect(clippy::disallowed_methods, reason = "tests start processes and tasks themselves")]

mod app;
mod builtin;
mod ear;
mod eras;
mod first_start;
mod fixture;
mod host;
mod life;
mod listening;
mod process;
mod provider;
mod subscriptions;
mod wire;

use std::future::Future;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "exec-child").is_some() {
        return proxy::child::supervise(args);
    }
    if args.next_if(|arg| arg == "fixture").is_some() {
        return fixture::run(args.map(|arg| arg.to_string_lossy().into_owned()).collect());
    }
    if args.next_if(|arg| arg == "host").is_some() {
        return host::run(args.next().as_deref().and_then(|part| part.to_str()));
    }
    let tests = [
        wire::tests(),
        listening::tests(),
        life::tests(),
        eras::tests(),
        first_start::tests(),
        subscriptions::tests(),
        process::tests(),
        builtin::tests(),
        provider::tests(),
    ];
    let tests = tests.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A test with a runtime of its own.
fn test<F: Future<Output = ()> + 'static>(name: &str, body: impl Fn() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(body());
        Ok(())
    })
}
