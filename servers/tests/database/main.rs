//! The server `database` on a real PostgreSQL: attacks, roles and values. PostgreSQL is the server of
//! `TEST_DATABASE_URL`, where databases and roles can be made, or one that is started from its programs; where
//! there is neither, the tests are ignored, or fail if `TRUNKLINE_REQUIRE_BACKENDS` is 1.

#![expect(
    clippy::disallowed_methods,
    reason = "a test is told by its environment where PostgreSQL is, starts it, and runs tasks beside itself"
)]

mod attacks;
mod ground;
mod roles;
mod server;
mod tls;
mod tools;
mod values;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use ground::Ground;

fn main() -> ExitCode {
    let tests = [attacks::tests(), roles::tests(), values::tests(), tools::tests(), tls::tests()];
    let conclusion = libtest_mimic::run(&Arguments::from_args(), tests.into_iter().flatten().collect());
    server::stop();
    conclusion.exit_code()
}

/// Returns a trial with a database of its own; ignored where there is no PostgreSQL.
fn trial<F: Future<Output = ()> + 'static>(name: &str, test: fn(Ground) -> F) -> Trial {
    let missing = server::missing();
    let is_required = std::env::var("TRUNKLINE_REQUIRE_BACKENDS").is_ok_and(|value| value == "1");
    let is_ignored = missing.is_some() && !is_required;
    let trial = Trial::test(name.to_owned(), move || {
        if let Some(reason) = missing {
            return Err(format!("not run: {reason}").into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let ground = Ground::new().await;
            let database = ground.database.clone();
            test(ground).await;
            ground::remove(&database).await;
        });
        Ok(())
    });
    trial.with_ignored_flag(is_ignored)
}
