//! A fresh database for each test of the record.

use std::sync::Arc;
use std::time::Duration;

use entity::record::{
    Begin, DEFAULT_ARGUMENTS_CAP, Durability, Execution, ExecutionFilter, Finish, Kind, Pace, RecordSettings,
    Recorder, Redaction, digest,
};
use entity::{DatabaseSettings, Db, Seal};
use jiff::Timestamp;
use protocol::Outcome;
use protocol::{AgentId, CallerKind, ExecutionId, RequestId, ServerId, TenantId};
use sea_orm::ConnectionTrait;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::ground::{On, Stand, postgres_server};

pub struct Store {
    pub dir: TempDir,
    pub url: String,
    pub db: Db,
    pub tenant: TenantId,
}

impl Stand for Store {
    fn run<F: Future<Output = ()>>(runtime: Runtime, on: On, test: impl FnOnce(Self) -> F) {
        runtime.block_on(async {
            let store = match on {
                On::Sqlite => Store::sqlite().await,
                On::Postgres => Store::postgres(&postgres_server()).await,
            };
            test(store).await;
        });
    }
}

impl Store {
    async fn sqlite() -> Store {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("record.db").display());
        Store::at(dir, url).await
    }

    async fn postgres(server: &str) -> Store {
        let name = format!("record_{}", uuid::Uuid::now_v7().simple());
        let admin = connect(server).await;
        admin.connection().execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (place, _) = server.rsplit_once('/').unwrap();
        Store::at(tempfile::tempdir().unwrap(), format!("{place}/{name}")).await
    }

    async fn at(dir: TempDir, url: String) -> Store {
        let db = connect(&url).await;
        db.migrate().await.unwrap();
        Store { dir, url, db, tenant: TenantId::new() }
    }

    pub fn settings(&self) -> RecordSettings {
        RecordSettings::new(self.dir.path().join("journal"))
    }

    pub async fn recorder(&self) -> Recorder {
        Recorder::open(&self.db, self.settings()).await.unwrap()
    }

    pub async fn strict(&self) -> Recorder {
        let settings = RecordSettings { durability: Durability::Strict, ..self.settings() };
        Recorder::open(&self.db, settings).await.unwrap()
    }

    pub async fn find(&self, id: ExecutionId) -> Option<Execution> {
        self.db.tenant(self.tenant).find_execution(id).await.ok()
    }

    /// All of the tenant's executions, page by page.
    pub async fn all(&self) -> Vec<Execution> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let filter = ExecutionFilter::default();
            let page = self.db.tenant(self.tenant).executions(&filter, 200, cursor.as_deref()).await.unwrap();
            all.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return all;
            }
        }
    }

    /// Waits until the row says so.
    pub async fn until(&self, id: ExecutionId, outcome: Outcome) -> Execution {
        for _ in 0..500 {
            if let Some(execution) = self.find(id).await.filter(|found| found.outcome == outcome) {
                return execution;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} is not {outcome:?} on {}: {:?}", self.url, self.find(id).await);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let Some((_, name)) = self.url.rsplit_once('/').filter(|_| self.url.starts_with("postgres")) else {
            return;
        };
        let server = postgres_server();
        let statement = format!("DROP DATABASE {name} WITH (FORCE)");
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                connect(&server).await.connection().execute_unprepared(&statement).await.map(drop)
            })
        });
        // What cannot be removed stays; the test has its result.
        let _ = removal.join();
    }
}

pub async fn connect(url: &str) -> Db {
    let settings = DatabaseSettings {
        url: url.to_owned(),
        pool_min: 0,
        pool_max: 3,
        idle_timeout: Duration::from_secs(10),
        query_timeout: Duration::from_secs(5),
    };
    Db::connect(&settings, Seal::from_key_texts(&Seal::generate(), &[]).unwrap()).await.unwrap()
}

/// Heartbeats and deaths within a test's patience.
pub fn quick() -> Pace {
    Pace { heartbeat: Duration::from_millis(100), dead_after: Duration::from_millis(600), ..Pace::default() }
}

pub fn begin(tenant: TenantId) -> Begin {
    let arguments = br#"{"zone":"UTC","token":"hunter2"}"#;
    Begin {
        id: ExecutionId::new(),
        request: RequestId::new(),
        trace_id: Some([3; 16]),
        tenant,
        agent: Some(AgentId::new()),
        credential: None,
        caller_kind: CallerKind::Loopback,
        kind: Kind::ToolsCall,
        server: ServerId::new(),
        server_slug: Arc::from("time"),
        tool: "get_time".to_owned(),
        started_at: Timestamp::now(),
        arguments: Some(Redaction::default().arguments(arguments, DEFAULT_ARGUMENTS_CAP)),
        digest: digest(arguments),
        argument_bytes: arguments.len() as u32,
    }
}

pub fn fine() -> Finish {
    Finish { attempts: 1, result_bytes: 99, tokens_in: 4, tokens_out: 25, ..Finish::bare(Outcome::Ok, 1_500) }
}
