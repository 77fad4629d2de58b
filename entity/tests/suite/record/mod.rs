//! The record of executions from outside, on real SQLite, and on PostgreSQL when `TEST_DATABASE_URL`
//! names a server on which databases can be made.

#![expect(
    clippy::disallowed_methods,
    reason = "a test is told by its environment where PostgreSQL is, runs tasks beside itself, and starts the \
              process that it kills"
)]

mod begin_and_end;
mod killed;
mod outage;
mod reading;
mod store;
