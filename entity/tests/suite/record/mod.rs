//! The record of executions from outside, on real SQLite, and on PostgreSQL when `TEST_DATABASE_URL`
//! names a server on which databases can be made.

mod begin_and_end;
mod killed;
mod outage;
mod reading;
mod store;
