//! What one app keeps its rows and shared state in: its own database and its own Redis database, or
//! the SQLite file under its `DATA_DIR`. Shared by the replicas of an app, gone with the last one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};

use crate::backend::{Backend, Source, postgres_source, redis_source};
use crate::postgres::PostgresServer;
use crate::redis_server::{DATABASES, RedisServer};

/// The settings that point a gateway to its storage.
pub struct Storage {
    pub backend: Backend,
    pub database_url: Option<String>,
    pub redis_url: Option<String>,
    /// The database to drop at the end.
    database: Option<String>,
}

impl Storage {
    pub async fn make(backend: Backend) -> Storage {
        match backend {
            Backend::Sqlite => Storage { backend, database_url: None, redis_url: None, database: None },
            Backend::Postgres => {
                let database = format!("trunkline_test_{}", uuid::Uuid::now_v7().simple());
                administer(&format!("CREATE DATABASE {database}")).await;
                let database_url = Some(in_database(admin_url(), &database));
                Storage { backend, database_url, redis_url: Some(redis_url()), database: Some(database) }
            }
        }
    }

    /// A connection of the trial's own, to look at the rows as an operator could.
    pub async fn connect(&self, data_dir: &std::path::Path) -> DatabaseConnection {
        let url = self.database_url.clone().unwrap_or_else(|| {
            let file = std::fs::read_dir(data_dir)
                .expect("DATA_DIR can be read")
                .flatten()
                .map(|entry| entry.path())
                .find(|path| is_sqlite(path))
                .expect("DATA_DIR holds a SQLite file");
            format!("sqlite://{}?mode=ro", file.display())
        });
        connect(&url).await
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let Some(database) = self.database.take() else { return };
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let statement = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            runtime.expect("a runtime can be made").block_on(administer(&statement));
        });
        let _ = dropping.join();
    }
}

fn is_sqlite(path: &std::path::Path) -> bool {
    use std::io::Read;
    let mut head = [0; 15];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && &head == b"SQLite format 3"
}

async fn administer(statement: &str) {
    let connection = connect(admin_url()).await;
    connection.execute_unprepared(statement).await.expect("the test user may make and drop databases");
    let _ = connection.close().await;
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap_or_else(|error| panic!("{url} cannot be reached: {error}"))
}

/// The URL of a database that may make others.
fn admin_url() -> &'static str {
    static SERVER: OnceLock<(String, Option<PostgresServer>)> = OnceLock::new();
    let (url, _server) = SERVER.get_or_init(|| match postgres_source().expect("checked before") {
        Source::Url(url) => (url, None),
        Source::Program(programs) => {
            let server = PostgresServer::start(&programs, &[]).unwrap_or_else(|error| panic!("{error}"));
            (server.url("postgres"), Some(server))
        }
    });
    url
}

fn redis_url() -> String {
    static SERVER: OnceLock<(String, u32, Option<RedisServer>)> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (url, databases, _server) = SERVER.get_or_init(|| match redis_source().expect("checked before") {
        // Somebody else's has 16 by default; keys carry the tenant's id, so sharing one does no harm.
        Source::Url(url) => (url, 16, None),
        Source::Program(program) => {
            let server = RedisServer::start(&program).unwrap_or_else(|error| panic!("{error}"));
            (format!("redis://127.0.0.1:{}", server.port), DATABASES, Some(server))
        }
    });
    let start = if *databases == DATABASES { 0 } else { std::process::id() };
    let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % databases;
    in_database(url, &number.to_string())
}

/// The same URL with another database (the path).
fn in_database(url: &str, database: &str) -> String {
    let (before, query) = url.split_once('?').map_or((url, None), |(before, query)| (before, Some(query)));
    let authority = before.find("://").map_or(0, |at| at + 3);
    let end = before[authority..].find('/').map_or(before.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &before[..end])
}
