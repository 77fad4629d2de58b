//! A pool to test, and the shortest ways to ask it something.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::mcp::Era;
use protocol::provider::ToolProvider;
use protocol::{Code, Refusal, ServerId, TenantId};
use proxy::pool::{Delivered, Pool, PoolKey, PoolSettings, UpstreamStatus};
use proxy::selected::Selected;
use proxy::server::{Launch, ServerSpec, StdioLaunch};
use proxy::upstream::{Listener, Params, UpstreamAnswer, UpstreamRequest};
use serde_json::{Value, json};

pub struct App {
    pub pool: Pool,
    pub tenant: TenantId,
}

/// One server of an app.
#[derive(Clone)]
pub struct Server {
    pub pool: Pool,
    pub key: PoolKey,
    pub spec: Arc<ServerSpec>,
}

pub fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

impl App {
    pub fn new() -> App {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut PoolSettings)) -> App {
        Self::made(change, Vec::new())
    }

    pub fn with_builtins(builtins: Vec<Arc<dyn ToolProvider>>) -> App {
        Self::made(|_| {}, builtins)
    }

    fn made(change: impl FnOnce(&mut PoolSettings), builtins: Vec<Arc<dyn ToolProvider>>) -> App {
        let path = ("PATH".to_owned(), std::env::var("PATH").unwrap());
        let mut settings = PoolSettings::new(this_program(), vec![path]);
        settings.stop_grace = Duration::from_millis(500);
        settings.backoff_base = Duration::from_millis(200);
        change(&mut settings);
        App { pool: Pool::new(settings, builtins), tenant: TenantId::new() }
    }

    /// A server that runs `fixture` with these words.
    pub fn fixture(&self, words: &[&str]) -> Server {
        self.fixture_with(words, |_| {})
    }

    pub fn fixture_with(&self, words: &[&str], change: impl FnOnce(&mut ServerSpec)) -> Server {
        let mut args = vec!["fixture"];
        args.extend(words);
        self.command(&this_program().to_string_lossy(), &args, change)
    }

    pub fn command(&self, command: &str, args: &[&str], change: impl FnOnce(&mut ServerSpec)) -> Server {
        let launch = StdioLaunch {
            command: command.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: BTreeMap::from([("FIXTURE".to_owned(), "yes".to_owned())]),
            cwd: None,
            limits: Default::default(),
        };
        let mut spec = ServerSpec {
            id: ServerId::new(),
            owner: Some(self.tenant),
            slug: "fixture".parse().unwrap(),
            name: "Fixture".to_owned(),
            version: None,
            description: None,
            category: None,
            launch: Launch::Stdio(launch),
            variant: 0,
            revision: 1,
            enabled: true.into(),
            timeout: Duration::from_secs(10).into(),
            start_timeout: Duration::from_secs(10).into(),
            idle_timeout: Duration::from_secs(600).into(),
            max_concurrency: 0.into(),
            retries: 0.into(),
            era: None,
            found: None,
        };
        change(&mut spec);
        let key = PoolKey::shared(self.tenant, &spec, Era::Legacy);
        Server { pool: self.pool.clone(), key, spec: Arc::new(spec) }
    }
}

impl Server {
    pub async fn deliver(
        &self,
        tool: &str,
        arguments: Value,
        within: Duration,
    ) -> Result<Delivered, Refusal> {
        let params = json!({ "name": tool, "arguments": arguments }).to_string();
        self.request("tools/call", &params, within).await
    }

    pub fn selected(&self) -> Selected {
        Selected::for_gateway(self.spec.clone(), self.key)
    }

    pub async fn request(&self, method: &str, params: &str, within: Duration) -> Result<Delivered, Refusal> {
        let request = UpstreamRequest::new(method, Params::raw(params.as_bytes()), Instant::now() + within);
        self.pool.request(&self.selected(), request).await
    }

    /// The same server asked in another era.
    pub fn in_era(&self, era: Era) -> Server {
        Server { key: PoolKey { era, ..self.key }, ..self.clone() }
    }

    /// A call of a tool while which somebody listens.
    pub async fn call_heard(
        &self,
        tool: &str,
        arguments: Value,
        listener: Arc<dyn Listener>,
        progress: Option<u64>,
    ) -> Result<Delivered, Refusal> {
        let params = json!({ "name": tool, "arguments": arguments }).to_string();
        let deadline = Instant::now() + Duration::from_secs(5);
        let request = UpstreamRequest::new("tools/call", Params::raw(params.as_bytes()), deadline);
        let request = UpstreamRequest { listener: Some(&listener), progress, ..request };
        self.pool.request(&self.selected(), request).await
    }

    /// What a tool answers with, read as JSON.
    pub async fn see(&self, tool: &str) -> Value {
        serde_json::from_str(&self.call(tool, json!({})).await.unwrap()).unwrap()
    }

    /// Makes the child write these lines, after it has answered the request to do so, which is in flight no
    /// more then.
    pub async fn make_say(&self, lines: &str) {
        let answer = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"text":"said"}]}}"#;
        self.call("raw", json!({ "text": format!("{answer}\n{lines}\n") })).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// The text that a tool answers with, within five seconds.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<String, Refusal> {
        let delivered = self.deliver(tool, arguments, Duration::from_secs(5)).await?;
        match delivered.answer {
            UpstreamAnswer::Result(result) => {
                let result: Value = serde_json::from_slice(&result).unwrap();
                Ok(result["content"][0]["text"].as_str().unwrap().to_owned())
            }
            UpstreamAnswer::Error(error) => panic!("{error:?}"),
        }
    }

    pub async fn echo(&self, text: &str) -> Result<String, Refusal> {
        self.call("echo", json!({ "text": text })).await
    }

    /// Asserts that it answers now.
    pub async fn assert_well(&self) {
        assert_eq!(self.echo("well").await.unwrap(), "well");
    }

    pub fn status(&self) -> UpstreamStatus {
        self.pool.status(self.key.tenant, self.key.server, None)
    }

    pub fn log(&self) -> String {
        let lines = self.pool.logs(self.key.tenant, self.key.server, 1000);
        lines.iter().map(|line| format!("{}: {}\n", line.stream, line.text)).collect()
    }
}

pub fn refused<T>(result: Result<T, Refusal>, code: Code, part: &str) -> Refusal {
    let refusal = result.err().expect("a refusal");
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.reason.contains(part), "{refusal} does not say {part:?}");
    refusal
}

/// Waits until something is so, at most this many seconds.
pub async fn until(what: &str, seconds: u64, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < patience, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process lives; one that is dead and only waits for its parent does not.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}
