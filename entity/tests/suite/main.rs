//! The rows from outside the crate, the same on every database: SQLite always, PostgreSQL when
//! `TEST_DATABASE_URL` names a server on which databases can be made.

#[macro_use]
mod ground;

mod audit;
mod configs;
mod opening;
mod people;
mod record;
mod sealing;
mod servers;
mod wall;
