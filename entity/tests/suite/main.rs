//! The rows from outside the crate, the same on every database: SQLite always, PostgreSQL when
//! `TEST_DATABASE_URL` names a server on which databases can be made.

#![expect(
    clippy::disallowed_methods,
    reason = "a test is told by its environment where PostgreSQL is, runs tasks beside itself, and starts the \
              process that it kills"
)]

#[macro_use]
mod ground;

mod audit;
mod changes;
mod configs;
mod noted;
mod opening;
mod people;
mod record;
mod sealing;
mod servers;
mod sessions;
mod wall;
