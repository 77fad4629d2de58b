//! What a call through the pool to a stdio child costs this process, beside the plainest way to do it:
//! a channel in front of the child's input, a line reader behind its output, nothing bounded.
//!
//! `cargo run --release -p proxy --example stdio_cost -- [--seconds N] [--bytes N] [--tasks N,N]
//! COMMAND [ARG…]`, where the command is an MCP server on stdio with a tool `echo` that takes `text`.
#![expect(clippy::disallowed_methods, reason = "the plain way starts its child and its tasks itself")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::mcp::Era;
use protocol::{ServerId, TenantId};
use proxy::pool::{Pool, PoolKey, PoolSettings};
use proxy::selected::Selected;
use proxy::server::{Launch, ServerSpec, StdioLaunch};
use proxy::upstream::{Params, UpstreamRequest};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};

struct Options {
    seconds: u64,
    bytes: usize,
    tasks: Vec<usize>,
    only: String,
    command: Vec<String>,
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "exec-child").is_some() {
        return proxy::child::supervise(args);
    }
    let mut options =
        Options { seconds: 3, bytes: 64, tasks: vec![1, 16, 100], only: String::new(), command: Vec::new() };
    let mut args = args.map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_default();
        match arg.as_str() {
            "--seconds" => options.seconds = value().parse().unwrap_or(3),
            "--bytes" => options.bytes = value().parse().unwrap_or(64),
            "--only" => options.only = value(),
            "--tasks" => options.tasks = value().split(',').filter_map(|n| n.parse().ok()).collect(),
            _ => {
                options.command = std::iter::once(arg).chain(args).collect();
                break;
            }
        }
    }
    if options.command.is_empty() {
        eprintln!("an echo server's command is missing, such as `mcpbench stdio`");
        return ExitCode::from(64);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(compare(options)),
        Err(error) => eprintln!("no runtime: {error}"),
    }
    ExitCode::SUCCESS
}

async fn compare(options: Options) {
    println!("{:>6} {:>9} {:>12} {:>12} {:>14}", "tasks", "bytes", "way", "calls/s", "our µs/call");
    for tasks in &options.tasks {
        let mut rates = Vec::new();
        for way in ["plain", "pool"] {
            if !options.only.is_empty() && options.only != way {
                continue;
            }
            let (rate, cost) = match way {
                "plain" => measure(plain(&options).await, *tasks, &options).await,
                _ => measure(pooled(&options), *tasks, &options).await,
            };
            println!("{tasks:>6} {:>9} {way:>12} {rate:>12.0} {cost:>14.2}", options.bytes);
            rates.push((rate, cost));
        }
        if let [(plain, plain_cost), (pool, pool_cost)] = rates[..] {
            println!("{:>41.2} × {:>12.2} ×", pool / plain, pool_cost / plain_cost);
        }
    }
}

/// Something that answers one echo call.
trait Echo: Send + Sync + 'static {
    fn call(&self, params: &str) -> impl Future<Output = usize> + Send;
}

async fn measure(echo: impl Echo, tasks: usize, options: &Options) -> (f64, f64) {
    let echo = Arc::new(echo);
    let params = format!(r#"{{"name":"echo","arguments":{{"text":"{}"}}}}"#, "x".repeat(options.bytes));
    let params: Arc<str> = params.into();
    echo.call(&params).await;
    let (begun, before) = (Instant::now(), processor_time());
    let until = begun + Duration::from_secs(options.seconds);
    let calls = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..tasks)
        .map(|_| {
            let (echo, params, calls) = (echo.clone(), params.clone(), calls.clone());
            let least = options.bytes;
            tokio::spawn(async move {
                while Instant::now() < until {
                    assert!(echo.call(&params).await >= least, "a short answer");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    let calls = calls.load(Ordering::Relaxed) as f64;
    let spent = (processor_time() - before).as_secs_f64();
    (calls / begun.elapsed().as_secs_f64(), spent * 1e6 / calls)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Pooled {
    pool: Pool,
    key: PoolKey,
    spec: Arc<ServerSpec>,
}

fn pooled(options: &Options) -> Pooled {
    let settings = PoolSettings::new(PathBuf::from("/proc/self/exe"), Vec::new());
    let launch = StdioLaunch {
        command: options.command[0].clone(),
        args: options.command[1..].to_vec(),
        env: BTreeMap::new(),
        cwd: None,
        limits: Default::default(),
    };
    let spec = ServerSpec {
        id: ServerId::new(),
        owner: None,
        slug: "echo".parse().expect("a slug"),
        name: "Echo".to_owned(),
        version: None,
        description: None,
        category: None,
        launch: Launch::Stdio(launch),
        variant: 0,
        revision: 1,
        enabled: true.into(),
        timeout: Duration::from_secs(30).into(),
        start_timeout: Duration::from_secs(60).into(),
        idle_timeout: Duration::from_secs(600).into(),
        max_concurrency: 0.into(),
        retries: 0.into(),
        era: None,
        found: None,
    };
    let key = PoolKey::shared(TenantId::new(), &spec, Era::Legacy);
    Pooled { pool: Pool::new(settings, Vec::new()), key, spec: Arc::new(spec) }
}

impl Echo for Pooled {
    async fn call(&self, params: &str) -> usize {
        let deadline = Instant::now() + self.spec.timeout.value;
        let params = Params::raw(params.as_bytes());
        let request = UpstreamRequest::new("tools/call", params, deadline);
        match self.pool.request(&Selected::for_gateway(self.spec.clone(), self.key), request).await {
            Ok(delivered) => match delivered.answer {
                proxy::upstream::UpstreamAnswer::Result(result) => result.len(),
                proxy::upstream::UpstreamAnswer::Error(error) => panic!("{error:?}"),
            },
            Err(refusal) => panic!("{refusal}"),
        }
    }
}

struct Plain {
    messages: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>>,
    next: AtomicU64,
    _child: tokio::process::Child,
}

async fn plain(options: &Options) -> Plain {
    let mut child = tokio::process::Command::new(&options.command[0])
        .args(&options.command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the command");
    let mut stdin = child.stdin.take().expect("piped");
    let stdout = child.stdout.take().expect("piped");
    let (messages, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(mut bytes) = queue.recv().await {
            while bytes.len() < 256 * 1024 {
                match queue.try_recv() {
                    Ok(more) => bytes.extend_from_slice(&more),
                    Err(_) => break,
                }
            }
            if stdin.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>> = Arc::default();
    let answered = waiting.clone();
    tokio::spawn(async move {
        #[derive(Deserialize)]
        struct Answer<'a> {
            id: u64,
            #[serde(borrow)]
            result: &'a RawValue,
        }
        let mut output = BufReader::with_capacity(256 * 1024, stdout);
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line).await, Ok(1..)) {
            if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&line)
                && let Some(waiter) = answered.lock().remove(&answer.id)
            {
                waiter.send(answer.result.get().as_bytes().to_vec()).ok();
            }
            line.clear();
        }
    });
    Plain { messages, waiting, next: AtomicU64::new(1), _child: child }
}

impl Echo for Plain {
    async fn call(&self, params: &str) -> usize {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let message =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{params}}}\n");
        let (answer, waiter) = oneshot::channel();
        self.waiting.lock().insert(id, answer);
        self.messages.send(message.into_bytes()).expect("the writer");
        waiter.await.expect("an answer").len()
    }
}
