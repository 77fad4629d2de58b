//! What each test stands on: a fresh database with two tenants, on the backend under test.

use std::path::PathBuf;
use std::time::Duration;

use entity::{Actor, DatabaseSettings, Db, DbError, NewServer, NewTenant, Page, Seal, Transport};
use libtest_mimic::Trial;
use protocol::TenantId;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// The tests of a module: on `BOTH` backends, or only on `SQLITE` or `POSTGRES`.
macro_rules! tests {
    ($($on:ident: $($name:ident),+ $(,)?);+ $(;)?) => {
        pub fn tests() -> Vec<libtest_mimic::Trial> {
            let mut tests = Vec::new();
            $($(tests.extend(crate::ground::trials(crate::ground::$on, module_path!(), stringify!($name), $name));)+)+
            tests
        }
    };
}

/// What a test is given: made on a backend, and removed when the test has passed.
pub trait Stand: Sized + 'static {
    fn run<F: Future<Output = ()>>(runtime: Runtime, on: On, test: impl FnOnce(Self) -> F);
}

pub const BOTH: &[On] = &[On::Sqlite, On::Postgres];
pub const SQLITE: &[On] = &[On::Sqlite];
pub const POSTGRES: &[On] = &[On::Postgres];

pub fn trials<S: Stand, F: Future<Output = ()> + 'static>(
    on: &[On],
    module: &str,
    name: &str,
    test: fn(S) -> F,
) -> Vec<Trial> {
    on.iter().map(|on| trial(*on, module, name, test)).collect()
}

/// Ignored where its backend is missing, or failed if `TRUNKLINE_REQUIRE_BACKENDS` is 1.
fn trial<S: Stand, F: Future<Output = ()> + 'static>(
    on: On,
    module: &str,
    name: &str,
    test: fn(S) -> F,
) -> Trial {
    let backend = match on {
        On::Sqlite => "sqlite",
        On::Postgres => "postgres",
    };
    let missing = on == On::Postgres && std::env::var("TEST_DATABASE_URL").is_err();
    let required = std::env::var("TRUNKLINE_REQUIRE_BACKENDS").is_ok_and(|value| value == "1");
    let module = module.trim_start_matches("suite::");
    let trial = Trial::test(format!("{module}::{backend}::{name}"), move || {
        if missing {
            return Err("TEST_DATABASE_URL is not set".into());
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        S::run(runtime.worker_threads(2).enable_all().build()?, on, test);
        Ok(())
    });
    trial.with_ignored_flag(missing && !required)
}

/// The server on which databases are made; tests that need it are ignored without it.
pub fn postgres_server() -> String {
    std::env::var("TEST_DATABASE_URL").expect("a test on PostgreSQL runs where there is one")
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
}

pub struct Ground {
    pub db: Db,
    pub settings: DatabaseSettings,
    /// The text of the master key.
    pub key: String,
    pub ours: TenantId,
    pub theirs: TenantId,
    pub actor: Actor,
}

impl Stand for Ground {
    fn run<F: Future<Output = ()>>(runtime: Runtime, on: On, test: impl FnOnce(Self) -> F) {
        let place = runtime.block_on(Place::make(on));
        let settings = place.settings();
        runtime.block_on(async move { test(Ground::new(settings).await).await });
        drop(runtime);
        place.remove();
    }
}

impl Ground {
    async fn new(settings: DatabaseSettings) -> Ground {
        let key = Seal::generate();
        let db = Db::connect(&settings, Seal::from_key_texts(&key, &[]).unwrap()).await.unwrap();
        db.migrate().await.unwrap();
        let ours = db.ensure_default_tenant().await.unwrap().id;
        let actor = Actor { ip: Some([192, 0, 2, 7].into()), ..Actor::gateway(ours) };
        let other = NewTenant { slug: "other".to_owned(), name: "Other".to_owned() };
        let theirs = db.operator().create_tenant(other, &actor).await.unwrap().id;
        Ground { db, settings, key, ours, theirs, actor }
    }

    /// The change makes exactly one audit event, of this action and target, and one bump.
    pub async fn changes<T>(&self, action: &str, change: impl Future<Output = Result<T, DbError>>) -> T {
        let (events, count) = self.counts().await;
        let result = change.await.unwrap();
        assert_eq!(self.counts().await, (events + 1, count + 1), "{action}");
        let newest = self.db.operator().audit_events(Page::new(1, 1)).await.unwrap().items.remove(0);
        assert_eq!(newest.action, action);
        result
    }

    /// The change makes one audit event, and no bump.
    pub async fn only_audits<T>(&self, action: &str, change: impl Future<Output = Result<T, DbError>>) -> T {
        let (events, count) = self.counts().await;
        let result = change.await.unwrap();
        assert_eq!(self.counts().await, (events + 1, count), "{action}");
        let newest = self.db.operator().audit_events(Page::new(1, 1)).await.unwrap().items.remove(0);
        assert_eq!(newest.action, action);
        result
    }

    /// Neither an audit event nor a bump.
    pub async fn changes_nothing<T>(&self, change: impl Future<Output = T>) -> T {
        let before = self.counts().await;
        let result = change.await;
        assert_eq!(self.counts().await, before);
        result
    }

    async fn counts(&self) -> (u64, i64) {
        let events = self.db.operator().audit_events(Page::new(1, 1)).await.unwrap().total;
        (events, self.newest_change().await)
    }

    pub async fn newest_change(&self) -> i64 {
        self.db.changes_since(0).await.unwrap().map_or(0, |changes| changes.newest)
    }

    /// Plain SQL beside the doors.
    pub async fn execute(&self, sql: &str) {
        self.db.connection().execute_unprepared(sql).await.unwrap();
    }

    /// One column of all rows, as bytes.
    pub async fn blobs(&self, sql: &str) -> Vec<Option<Vec<u8>>> {
        let statement = Statement::from_string(self.backend(), sql);
        let rows = self.db.connection().query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    pub fn backend(&self) -> DbBackend {
        match self.db.backend() {
            entity::Backend::Sqlite => DbBackend::Sqlite,
            entity::Backend::Postgres => DbBackend::Postgres,
        }
    }
}

/// A stdio server with a secret in its environment.
pub fn stdio(slug: &str) -> NewServer {
    let mut new = NewServer::new(slug.parse().unwrap(), slug, Transport::Stdio).env([("TOKEN", "hunter2")]);
    new.settings.command = Some("uvx".to_owned());
    new.settings.args = vec!["mcp-server-time".to_owned(), "--local-timezone=UTC".to_owned()];
    new
}

/// Where the database of one test lies.
pub enum Place {
    File(PathBuf),
    Database { server: String, name: String },
}

impl Place {
    pub async fn make(on: On) -> Place {
        let name = format!("trunkline_{}", Uuid::now_v7().simple());
        match on {
            On::Sqlite => {
                let folder = std::env::temp_dir().join(name);
                std::fs::create_dir(&folder).unwrap();
                Place::File(folder)
            }
            On::Postgres => {
                let server = postgres_server();
                admin(&server, &format!("CREATE DATABASE {name}")).await;
                Place::Database { server, name }
            }
        }
    }

    pub fn settings(&self) -> DatabaseSettings {
        let url = match self {
            Place::File(folder) => format!("sqlite:{}", folder.join("a db.sqlite").display()),
            Place::Database { server, name } => with_database(server, name),
        };
        settings(url)
    }

    /// A test that failed leaves its database for whoever looks for the reason.
    pub fn remove(self) {
        match self {
            Place::File(folder) => std::fs::remove_dir_all(folder).unwrap(),
            Place::Database { server, name } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(admin(&server, &format!("DROP DATABASE {name} WITH (FORCE)")));
            }
        }
    }
}

pub fn settings(url: String) -> DatabaseSettings {
    let time = Duration::from_secs(10);
    DatabaseSettings { url, pool_min: 0, pool_max: 5, idle_timeout: time, query_timeout: time }
}

async fn admin(server: &str, sql: &str) {
    let db = sea_orm::Database::connect(server).await.unwrap();
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

/// The same server's URL with another database.
fn with_database(server: &str, name: &str) -> String {
    let (address, query) = server.split_once('?').map_or((server, ""), |(address, query)| (address, query));
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find('/').map_or(address.len(), |at| host + at);
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{}/{name}{separator}{query}", &address[..end])
}
