//! A running gateway in a temporary directory, who may act on it, and its ends: SIGTERM, `kill -9`,
//! a start on the same `DATA_DIR`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::actor::{Actor, Address};
use crate::backend::Backend;
use crate::jwt;
use crate::proc;
use crate::process::{self, FailedStart, Process};
use crate::scratch::Scratch;
use crate::settings::Settings;
use crate::storage::Storage;
use crate::suite;

/// One gateway under test.
pub struct TestApp {
    process: Option<Process>,
    pub storage: Arc<Storage>,
    scratch: Scratch,
    settings: Settings,
    address: Address,
    client: reqwest::Client,
    secrets: Mutex<HashMap<String, String>>,
}

impl TestApp {
    /// Starts one; a gateway that does not come up fails the trial with all that it said.
    pub async fn start(backend: Backend, settings: Settings) -> TestApp {
        match Self::try_start(backend, settings).await {
            Ok(app) => app,
            Err(failed) => panic!("the gateway did not come up ({:?}):\n{}", failed.status, failed.output),
        }
    }

    pub async fn try_start(backend: Backend, settings: Settings) -> Result<TestApp, FailedStart> {
        Self::start_on(Arc::new(Storage::make(backend).await), Scratch::new("app"), settings).await
    }

    /// A second replica: the same database, Redis and secrets, its own `DATA_DIR`.
    pub async fn start_beside(&self, settings: Settings) -> TestApp {
        let scratch = Scratch::new("replica");
        std::fs::create_dir_all(scratch.join("data")).expect("its data directory can be made");
        for entry in std::fs::read_dir(self.data_dir()).expect("DATA_DIR can be read").flatten() {
            let (from, to) = (entry.path(), scratch.join("data").join(entry.file_name()));
            if from.is_file() && !from.to_string_lossy().contains(".db") && !is_lock(&from) {
                std::fs::copy(from, to).expect("a secret can be handed to the replica");
            }
        }
        match Self::start_on(self.storage.clone(), scratch, settings).await {
            Ok(app) => app,
            Err(failed) => panic!("the replica did not come up ({:?}):\n{}", failed.status, failed.output),
        }
    }

    /// Starts one in a directory that the trial has prepared (`data` in it becomes `DATA_DIR`).
    pub async fn start_on(
        storage: Arc<Storage>,
        scratch: Scratch,
        settings: Settings,
    ) -> Result<TestApp, FailedStart> {
        std::fs::create_dir_all(scratch.join("tmp")).expect("its temporary directory can be made");
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(100))
            .pool_max_idle_per_host(256)
            .build()
            .expect("a client can be built");
        let address = Arc::new(RwLock::new(String::new()));
        let secrets = Mutex::new(HashMap::new());
        let mut app = TestApp { process: None, storage, scratch, settings, address, client, secrets };
        app.try_boot().await?;
        Ok(app)
    }

    async fn try_boot(&mut self) -> Result<(), FailedStart> {
        let process = Process::start(self.command(&[])).await?;
        *self.address.write().expect("nobody panics with the address") = process.address.clone();
        self.process = Some(process);
        Ok(())
    }

    /// The program with this app's environment, and a command such as `["config", "check"]`.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut all: Vec<String> = Vec::new();
        if let Some(file) = &self.settings.file {
            let path = self.scratch.join("trunkline.toml");
            std::fs::write(&path, file).expect("the configuration file can be written");
            all.extend(["--config".to_owned(), path.display().to_string()]);
        }
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        process::command(&all, &self.environment(), self.scratch.path())
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut environment = vec![
            ("PORT".to_owned(), "0".to_owned()),
            ("METRICS_PORT".to_owned(), "0".to_owned()),
            ("DATA_DIR".to_owned(), self.data_dir().display().to_string()),
            ("LOG_FORMAT".to_owned(), "json".to_owned()),
            ("TMPDIR".to_owned(), self.mark().display().to_string()),
        ];
        let mut put = |name: &str, value: &str| environment.push((name.to_owned(), value.to_owned()));
        if let Some(url) = &self.storage.database_url {
            put("DATABASE_URL", url);
        }
        if let Some(url) = &self.storage.redis_url {
            put("REDIS_URL", url);
        }
        // A check is a request that a trial has not made.
        put("HEALTH_CHECK_INTERVAL_MS", "0");
        if !self.settings.stock_limits {
            put("RATE_LIMIT_MAX_REQUESTS", "0");
        }
        // The trial's own come last, so that they win.
        self.settings.environment.iter().for_each(|(name, value)| put(name, value));
        environment
    }

    /// What it was started with, for another one of its kind.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn data_dir(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// A directory for files of the trial.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    pub fn metrics_url(&self) -> String {
        self.process().metrics.clone().expect("the line `listening` names the metrics address")
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the gateway runs")
    }

    /// Nobody: a caller on loopback without a credential.
    pub fn anonymous_from_loopback(&self) -> Actor {
        Actor::new(self.client.clone(), self.address.clone())
    }

    pub fn with_key(&self, secret: &str) -> Actor {
        self.anonymous_from_loopback().header("x-mcp-key", secret)
    }

    pub fn with_bearer(&self, token: &str) -> Actor {
        self.anonymous_from_loopback().header("authorization", format!("Bearer {token}"))
    }

    /// The operator: with the key made at first boot, else with a token of `JWT_SECRET`.
    pub fn as_operator(&self) -> Actor {
        if let Ok(key) = std::fs::read_to_string(self.data_dir().join("operator.key")) {
            return self.with_key(key.trim());
        }
        match self.settings.environment.get("JWT_SECRET") {
            Some(secret) => self.with_bearer(&jwt::operator_token(secret)),
            None => self.anonymous_from_loopback(),
        }
    }

    /// An agent of the tenant `default` with a key of its own.
    pub async fn as_agent(&self, slug: &str) -> Actor {
        self.keyed(&format!("agent {slug}"), async {
            let operator = self.as_operator();
            let agent = operator.post("/v1/agents", json!({ "slug": slug, "name": slug })).await.json_of(201);
            json!({ "agentId": agent["id"], "name": slug, "role": "agent" })
        })
        .await
    }

    /// The administrator of a tenant, which is made at first use.
    pub async fn as_tenant_admin(&self, slug: &str) -> Actor {
        self.keyed(&format!("admin {slug}"), async {
            json!({ "tenantId": self.tenant(slug).await, "name": "admin", "role": "tenant-admin" })
        })
        .await
    }

    /// The operator acting for a tenant, which is made at first use.
    pub async fn as_operator_for(&self, slug: &str) -> Actor {
        self.as_operator().header("x-tenant-id", self.tenant(slug).await)
    }

    /// The id of a tenant, which is made at first use.
    pub async fn tenant(&self, slug: &str) -> String {
        let operator = self.as_operator();
        let name = format!("tenant {slug}");
        if let Some(id) = self.remembered(&name) {
            return id;
        }
        let listed = operator.get("/v1/tenants?pageSize=100").await.json_of(200);
        let found = listed["items"].as_array().into_iter().flatten().find(|tenant| tenant["slug"] == slug);
        let tenant = match found {
            Some(tenant) => tenant.clone(),
            None => operator.post("/v1/tenants", json!({ "slug": slug, "name": slug })).await.json_of(201),
        };
        let id = tenant["id"].as_str().expect("a tenant has an id").to_owned();
        self.remember(name, id.clone());
        id
    }

    async fn keyed(&self, name: &str, body: impl Future<Output = Value>) -> Actor {
        if let Some(secret) = self.remembered(name) {
            return self.with_key(&secret);
        }
        let (secret, _) = self.as_operator().make_key(body.await).await;
        self.remember(name.to_owned(), secret.clone());
        self.with_key(&secret)
    }

    fn remembered(&self, name: &str) -> Option<String> {
        self.secrets.lock().expect("nobody panics with the secrets").get(name).cloned()
    }

    fn remember(&self, name: String, value: String) {
        self.secrets.lock().expect("nobody panics with the secrets").insert(name, value);
    }

    /// The gateway's process and all that it started, however deep.
    pub fn processes(&self) -> Vec<proc::Process> {
        proc::marked_with(&self.mark())
    }

    /// Only what it started.
    pub fn children(&self) -> Vec<proc::Process> {
        let own = self.process.as_ref().map(Process::pid);
        self.processes().into_iter().filter(|process| Some(process.pid) != own).collect()
    }

    /// Waits until nothing of this app lives; what still does after that fails the trial.
    pub async fn nothing_survives(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        let mut quiet = 0;
        while quiet < 2 {
            let left = self.processes();
            quiet = if left.is_empty() { quiet + 1 } else { 0 };
            assert!(quiet > 0 || Instant::now() < until, "still alive after {at_most:?}: {left:#?}");
            tokio::time::sleep(proc::SETTLING).await;
        }
    }

    /// `kill -9`, and the end of the process.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().expect("the gateway runs");
        process.signal(Signal::KILL);
        process.wait(Duration::from_secs(10)).await.expect("a killed process ends");
    }

    /// SIGTERM, and how the process ended.
    pub async fn terminate(&mut self, at_most: Duration) -> ExitStatus {
        let mut process = self.process.take().expect("the gateway runs");
        process.signal(Signal::TERM);
        match process.wait(at_most).await {
            Some(status) => status,
            None => panic!("not ended {at_most:?} after SIGTERM:\n{}", process.lines().join("\n")),
        }
    }

    /// Starts it again on the same `DATA_DIR`, with other settings when given.
    pub async fn boot(&mut self, settings: Option<Settings>) {
        if let Some(settings) = settings {
            self.settings = settings;
        }
        if let Err(failed) = self.try_boot().await {
            panic!("the gateway did not come up again ({:?}):\n{}", failed.status, failed.output);
        }
    }

    fn mark(&self) -> PathBuf {
        self.scratch.join("tmp")
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(process) = &self.process
            && std::thread::panicking()
        {
            suite::note_last_lines(&process.lines());
        }
        self.process = None;
        for left in self.processes() {
            proc::signal(left.pid, Signal::KILL);
        }
    }
}

fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock" || extension == "pid")
}
