//! What the gateway keeps its rows and its shared state in, and whether this machine has it.

use std::path::PathBuf;

use crate::programs::find;

/// One pair of database and shared state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Backend {
    /// SQLite and state in the process: always there.
    Sqlite,
    /// PostgreSQL and Redis.
    Postgres,
}

impl Backend {
    pub const ALL: [Backend; 2] = [Backend::Sqlite, Backend::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Backend::Sqlite => "SQLite and memory",
            Backend::Postgres => "PostgreSQL and Redis",
        }
    }

    /// Whether the trials can run on it here; the error says what is missing.
    pub fn available(self) -> Result<(), String> {
        match self {
            Backend::Sqlite => Ok(()),
            Backend::Postgres => postgres_source().and(redis_source()).map(drop),
        }
    }
}

/// A server that somebody runs, or a program to start one with.
#[derive(Clone, Debug)]
pub enum Source {
    Url(String),
    Program(PathBuf),
}

/// `TEST_DATABASE_URL`, else the directory that holds PostgreSQL's programs.
pub fn postgres_source() -> Result<Source, String> {
    if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        return Ok(Source::Url(url));
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut further: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    further.sort();
    further.reverse();
    let initdb = find("initdb", &further).and_then(|path| path.canonicalize().ok());
    let directory = initdb.and_then(|path| path.parent().map(|parent| parent.to_owned()));
    directory
        .filter(|directory| directory.join("postgres").is_file())
        .map(Source::Program)
        .ok_or("TEST_DATABASE_URL is not set and PostgreSQL's programs are not on this machine".to_owned())
}

/// `TEST_REDIS_URL`, else the program `redis-server`.
pub fn redis_source() -> Result<Source, String> {
    if let Ok(url) = std::env::var("TEST_REDIS_URL") {
        return Ok(Source::Url(url));
    }
    find("redis-server", &[])
        .map(Source::Program)
        .ok_or("TEST_REDIS_URL is not set and redis-server is not on this machine".to_owned())
}
