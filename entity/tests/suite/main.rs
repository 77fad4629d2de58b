//! The rows from outside the crate, the same on every database: SQLite always, PostgreSQL when
//! `TEST_DATABASE_URL` names a server on which databases can be made; else those tests are ignored.

#![expect(
    clippy::disallowed_methods,
    reason = "a test is told by its environment where PostgreSQL is, runs tasks beside itself, and starts the \
              process that it kills"
)]

#[macro_use]
mod ground;

mod audit;
mod catalogs;
mod changes;
mod collab;
mod configs;
mod marketplace;
mod noted;
mod opening;
mod people;
mod record;
mod sealing;
mod servers;
mod sessions;
mod wall;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(record::killed::CHILD) {
        record::killed::child();
        return ExitCode::SUCCESS;
    }
    let tests = [
        audit::tests(),
        catalogs::tests(),
        changes::tests(),
        collab::tests(),
        configs::tests(),
        marketplace::tests(),
        noted::tests(),
        opening::tests(),
        people::tests(),
        record::tests(),
        sealing::tests(),
        servers::tests(),
        sessions::tests(),
        wall::tests(),
    ];
    let tests = tests.into_iter().flatten().collect();
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), tests).exit_code()
}
