//! The gateway under test, with all of its work on: authentication (no credential, no service), the
//! limit per agent, the record in SQLite and the access log, which goes to a file. Asked by REST only.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DbBackend, Statement};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::call::{self, Number, Tool};
use crate::client::{Connection, shown};
use crate::load::Target;
use crate::program::{Place, Program, size_of};

/// The JSON-RPC door.
pub const RPC: &str = "/mcp/rpc";
/// The echo server's tool behind the gateway.
pub const ECHO: Tool = Tool::Echo("echo__echo");

/// How long a gateway may take to write down what is left and stop.
const STOP: Duration = Duration::from_secs(60);

/// A gateway that runs.
pub struct Gateway<'a> {
    pub program: Program<'a>,
    pub address: SocketAddr,
    data: PathBuf,
}

/// What is on record after the end, of what was called.
#[derive(Debug)]
pub struct Kept {
    pub sent: u64,
    pub errors: u64,
    /// Rows in the database, and those of them that say `ok`.
    pub rows: u64,
    pub ok: u64,
    /// What the stop took, at which the last rows are written.
    pub stop: Duration,
    /// Bytes of the directory: database and journal.
    pub bytes: u64,
}

impl Kept {
    /// One row for every call, and each says how it went.
    pub fn is_complete(&self) -> bool {
        self.rows == self.sent && self.ok == self.sent - self.errors
    }
}

impl<'a> Gateway<'a> {
    /// Starts it on `NAME` of the place, and waits for the line that says where it listens.
    pub fn start(place: &'a Place, path: &Path, name: &str) -> Result<Gateway<'a>, String> {
        let (program, data) = Self::spawn(place, path, name, 0)?;
        let address = program.wait_for(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = line["address"].as_str().filter(|_| line["message"] == "listening")?;
            address.strip_prefix("http://")?.parse().ok()
        })?;
        Ok(Gateway { program, address, data })
    }

    /// Starts it on a port that is free now, and does not wait: its log says late that it listens.
    pub fn start_unwatched(place: &'a Place, path: &Path, name: &str) -> Result<Gateway<'a>, String> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| format!("no port is free: {error}"))?;
        let (program, data) = Self::spawn(place, path, name, address.port())?;
        Ok(Gateway { program, address, data })
    }

    fn spawn(place: &'a Place, path: &Path, name: &str, port: u16) -> Result<(Program<'a>, PathBuf), String> {
        let (data, temporary) = (place.directory(name)?, place.directory("tmp")?);
        let mut command = Command::new(path);
        command.env_clear().current_dir(&temporary);
        command.envs(["PATH", "HOME"].iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
        command.env("PORT", port.to_string()).env("METRICS_PORT", "0");
        command.env("DATA_DIR", &data).env("TMPDIR", &temporary).env("LOG_FORMAT", "json");
        // On, and never reached.
        command.env("RATE_LIMIT_MAX_REQUESTS", "1000000000").env("LOOPBACK_ROLE", "none");
        Ok((place.start(command, name)?, data))
    }

    /// A connection with the operator's key, which is made at first boot.
    pub fn operator(&self) -> Result<Connection, String> {
        Ok(Connection::to(self.address, Some(&self.operator_key()?)))
    }

    pub fn operator_key(&self) -> Result<String, String> {
        let file = self.data.join("operator.key");
        let key = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(key.trim().to_owned())
    }

    /// Registers this program's echo server.
    pub async fn register(&self, slug: &str) -> Result<(), String> {
        self.register_with(slug, &["echo"]).await
    }

    /// Registers this program in a role.
    pub async fn register_with(&self, slug: &str, role: &[&str]) -> Result<(), String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let body = json!({
            "slug": slug, "name": slug, "transport": "stdio", "command": own.to_string_lossy(), "args": role,
        });
        self.operator()?.make("/v1/mcp/servers", body).await.map(|_| ())
    }

    /// Makes an agent's key, and proves that it is needed and that it is counted.
    pub async fn agent_key(&self) -> Result<String, String> {
        let mut operator = self.operator()?;
        let agent = operator.make("/v1/agents", json!({ "slug": "load", "name": "load" })).await?;
        let body = json!({ "agentId": agent["id"], "name": "load", "role": "agent" });
        let key = operator.make("/v1/keys", body).await?;
        let key = key["secret"].as_str().ok_or("the new key has no secret")?.to_owned();
        let ping = || br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_vec();
        let mut nobody = Connection::to(self.address, None);
        let refused = nobody.send(Method::POST, RPC, ping()).await?;
        if refused.status != StatusCode::UNAUTHORIZED {
            return Err(format!("without a key: {} {}", refused.status, shown(&refused.body)));
        }
        let counted = Connection::to(self.address, Some(&key)).send(Method::POST, RPC, ping()).await?;
        if counted.status != StatusCode::OK || !counted.headers.contains_key("ratelimit") {
            return Err(format!("a ping with a key and a limit: {} {:?}", counted.status, counted.headers));
        }
        Ok(key)
    }

    /// What an agent calls through it.
    pub fn target(&self, name: &'static str, key: &str, tool: Tool) -> Arc<Target> {
        let key = Some(key.to_owned());
        Arc::new(Target { name, pid: self.program.pid(), address: self.address, path: RPC, key, tool })
    }

    /// Stops it, which writes down what is left; then counts the rows against the calls.
    pub fn stop_and_count(self, runtime: &Runtime, sent: u64, errors: u64) -> Result<Kept, String> {
        let data = self.data;
        let stop = self.program.stop(STOP)?;
        let (rows, ok) = runtime.block_on(count(&data)).map_err(|error| format!("the rows: {error}"))?;
        Ok(Kept { sent, errors, rows, ok, stop, bytes: size_of(&data) })
    }
}

/// One call, which must be answered rightly.
pub async fn call_once(connection: &mut Connection, tool: Tool, series: u64) -> Result<(), String> {
    let (body, mark) = call::make(tool, Number { series, agent: 0, call: 0 }, &"".into());
    let answer = connection.send(Method::POST, RPC, body).await?;
    mark.check(&answer)
}

async fn count(data: &Path) -> Result<(u64, u64), sea_orm::DbErr> {
    let mut options =
        ConnectOptions::new(format!("sqlite://{}?mode=ro", data.join("trunkline.db").display()));
    options.max_connections(1).sqlx_logging(false);
    let database = Database::connect(options).await?;
    let query = "SELECT COUNT(*) AS n, COALESCE(SUM(outcome = 'ok'), 0) AS ok FROM mcp_tool_executions";
    let row = database.query_one_raw(Statement::from_string(DbBackend::Sqlite, query)).await?;
    let row = row.ok_or_else(|| sea_orm::DbErr::RecordNotFound("no count".to_owned()))?;
    let number = |name| row.try_get::<i64>("", name).map(|number| u64::try_from(number).unwrap_or(0));
    Ok((number("n")?, number("ok")?))
}
