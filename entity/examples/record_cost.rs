//! What a recorded call costs: `cargo run --release -p entity --example record_cost [calls] [threads]
//! [argument bytes] [calls per second] [database URL]`. Without a rate (or 0), as fast as it goes; without
//! a URL, on a SQLite file in a temporary directory.
//!
//! Prints processor time per call of the whole process (callers, feeder, kernel), beside a yardstick
//! that does not depend on this code: one SHA-256 of 64 KiB.

use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::record::{Begin, Finish, Kind, RecordSettings, Recorder, Redaction, digest};
use entity::{DatabaseSettings, Db, Seal};
use jiff::Timestamp;
use protocol::Outcome;
use protocol::{AgentId, CallerKind, CredentialId, ExecutionId, RequestId, ServerId, TenantId};

fn main() {
    let url = std::env::args().nth(5);
    let mut arguments = std::env::args().skip(1).take(4).map(|text| text.parse::<usize>().expect("a number"));
    let calls = arguments.next().unwrap_or(1_000_000);
    let threads = arguments.next().unwrap_or(2);
    let bytes = arguments.next().unwrap_or(64);
    let rate = arguments.next().unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(measure(calls, threads, bytes, rate, url));
}

async fn measure(calls: usize, threads: usize, bytes: usize, rate: usize, url: Option<String>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = url.unwrap_or_else(|| format!("sqlite:{}", dir.path().join("cost.db").display()));
    let db = open(&url).await;
    let recorder = Recorder::open(&db, RecordSettings::new(dir.path().join("journal"))).await.expect("open");
    let yardstick = digestion(64 << 10);

    let (cpu, wall) = (processor_time(), Instant::now());
    let each = calls / threads;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..threads {
        let recorder = recorder.clone();
        callers.spawn(async move { call(&recorder, each, bytes, rate / threads).await });
    }
    callers.join_all().await;
    let called = wall.elapsed();
    while let Err(error) = recorder.flush().await {
        println!("not stored yet: {error}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (cpu, wall) = (processor_time() - cpu, wall.elapsed());

    let calls = each * threads;
    let per_call = cpu.as_secs_f64() * 1e6 / calls as f64;
    println!("calls {calls}, threads {threads}, argument bytes {bytes}");
    println!("processor time per call    {per_call:.2} us");
    println!("  as a part of a SHA-256 of 64 KiB ({yardstick:.2} us): {:.2}", per_call / yardstick);
    println!("  of which redaction       {:.3} us, digest {:.3} us", redaction(bytes), digestion(bytes));
    println!("calls per second           {:.0}", calls as f64 / wall.as_secs_f64());
    println!(
        "callers done after         {:.2} s, all stored after {:.2} s",
        called.as_secs_f64(),
        wall.as_secs_f64()
    );
    println!("memory                     {:.1} MB", resident_bytes() as f64 / 1e6);
    println!("status                     {:?}", recorder.status());
    recorder.shutdown().await;
    let left = std::fs::read_dir(dir.path().join("journal")).expect("journal").count();
    println!("files left in the journal  {left} (the lock and the replica's id)");
    idle(&db, dir.path()).await;
}

/// What an idle recorder costs.
async fn idle(db: &Db, dir: &std::path::Path) {
    let recorder = Recorder::open(db, RecordSettings::new(dir.join("journal"))).await.expect("open");
    call(&recorder, 1, 64, 0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = processor_time();
    tokio::time::sleep(Duration::from_secs(12)).await;
    println!("idle, processor time       {:.3} ms in 12 s", (processor_time() - cpu).as_secs_f64() * 1e3);
    recorder.shutdown().await;
}

async fn open(url: &str) -> Db {
    let settings = DatabaseSettings {
        url: url.to_owned(),
        pool_min: 1,
        pool_max: 4,
        idle_timeout: Duration::from_secs(60),
        query_timeout: Duration::from_secs(10),
    };
    let seal = Seal::from_key_texts(&Seal::generate(), &[]).expect("seal");
    let db = Db::connect(&settings, seal).await.expect("connect");
    db.migrate().await.expect("migrate");
    db
}

async fn call(recorder: &Recorder, calls: usize, bytes: usize, rate: usize) {
    let (tenant, agent, credential, server) =
        (TenantId::new(), AgentId::new(), CredentialId::new(), ServerId::new());
    let slug: Arc<str> = "echo".into();
    let arguments = arguments(bytes);
    let result = format!(r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#, "x".repeat(81));
    let start = Instant::now();
    for round in 0..calls {
        let begin = Begin {
            id: ExecutionId::new(),
            request: RequestId::new(),
            trace_id: None,
            tenant,
            agent: Some(agent),
            credential: Some(credential),
            caller_kind: CallerKind::ApiKey,
            kind: Kind::ToolsCall,
            server,
            server_slug: slug.clone(),
            tool: "echo".to_owned(),
            started_at: Timestamp::now(),
            arguments: Some(Redaction::default().arguments(arguments.as_bytes(), 4096)),
            digest: digest(arguments.as_bytes()),
            argument_bytes: arguments.len() as u32,
        };
        let record = recorder.begin(begin).await.expect("begin");
        let finish = Finish {
            queue_us: 3,
            upstream_us: 90,
            attempts: 1,
            result_bytes: 120,
            tokens_in: 16,
            tokens_out: 30,
            ..Finish::bare(Outcome::Ok, 120)
        };
        record.close_counting(finish, arguments.as_bytes(), result.as_bytes());
        if round % 64 == 0 {
            pause(start, round, rate).await;
        }
    }
}

fn arguments(bytes: usize) -> String {
    format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes.saturating_sub(11)))
}

fn redaction(bytes: usize) -> f64 {
    let (arguments, rules) = (arguments(bytes), Redaction::default());
    microseconds(|| {
        drop(std::hint::black_box(rules.arguments(std::hint::black_box(arguments.as_bytes()), 4096)))
    })
}

fn digestion(bytes: usize) -> f64 {
    let arguments = arguments(bytes);
    microseconds(|| {
        std::hint::black_box(digest(std::hint::black_box(arguments.as_bytes())));
    })
}

/// The mean of a thousand.
fn microseconds(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..1_000).for_each(|_| work());
    start.elapsed().as_secs_f64() * 1e3
}

/// Keeps to `rate` calls per second; 0 is no rate.
async fn pause(start: Instant, done: usize, rate: usize) {
    if rate == 0 {
        return tokio::task::yield_now().await;
    }
    let due = start + Duration::from_secs_f64(done as f64 / rate as f64);
    tokio::time::sleep_until(due.into()).await;
}

/// User and system time of all threads, from `/proc/self/stat` (proc(5)), in ticks of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("stat").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("statm") * 4096
}
