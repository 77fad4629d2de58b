//! What queries of a large record take: `cargo run --release -p entity --example record_query [rows] [database URL]`.
//! Fills a SQLite file in a temporary directory, or the database of the URL, with executions of 30 servers, 600
//! tools and 40 agents, of which the first are called far more often than the last, and prints the median of five
//! runs of each query beside that of the newest page without a filter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::record::{
    Begin, Bucket, ExecutionFilter, Finish, GroupBy, Kind, RecordSettings, Recorder, ServerKey, digest,
};
use entity::{DatabaseSettings, Db, Seal};
use jiff::{SignedDuration, Timestamp};
use protocol::{AgentId, CallerKind, CredentialId, ExecutionId, Outcome, RequestId, ServerId, TenantId};
use sea_orm::ConnectionTrait;

const SERVERS: usize = 30;
const TOOLS: usize = 20;
const AGENTS: usize = 40;
const ENDS: [(Outcome, u64); 7] = [
    (Outcome::Ok, 940),
    (Outcome::ToolError, 30),
    (Outcome::Denied, 10),
    (Outcome::Limited, 10),
    (Outcome::TimedOut, 5),
    (Outcome::Unavailable, 4),
    (Outcome::Cancelled, 1),
];

#[tokio::main]
async fn main() {
    let rows = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().expect("a number of rows"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = || format!("sqlite:{}", dir.path().join("record.db").display());
    let db = open(&std::env::args().nth(2).unwrap_or_else(file)).await;
    let filled = fill(&db, dir.path(), rows).await;
    // PostgreSQL does this by itself, within a minute of so many new rows.
    db.connection().execute_unprepared("ANALYZE").await.expect("statistics of the planner");
    measure(&db, &filled).await;
}

struct Filled {
    tenant: TenantId,
    agents: Vec<AgentId>,
    half: Timestamp,
}

async fn fill(db: &Db, dir: &std::path::Path, rows: usize) -> Filled {
    let recorder = Recorder::open(db, RecordSettings::new(dir.join("journal"))).await.expect("open");
    let tenant = TenantId::new();
    let agents: Vec<AgentId> = (0..AGENTS).map(|_| AgentId::new()).collect();
    let servers: Vec<(ServerId, Arc<str>)> =
        (0..SERVERS).map(|number| (ServerId::new(), format!("server-{number}").into())).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (began, mut half) = (Instant::now(), Timestamp::now());
    for row in 0..rows {
        let server = random.early(SERVERS);
        let arguments = format!(r#"{{"path":"/files/{row}","text":"{}"}}"#, "x".repeat(random.below(400)));
        let begin = Begin {
            id: ExecutionId::new(),
            request: RequestId::new(),
            trace_id: None,
            tenant,
            agent: Some(agents[random.early(AGENTS)]),
            credential: Some(CredentialId::new()),
            caller_kind: CallerKind::ApiKey,
            kind: Kind::ToolsCall,
            server: servers[server].0,
            server_slug: servers[server].1.clone(),
            tool: format!("tool_{server}_{}", random.early(TOOLS)),
            started_at: Timestamp::now(),
            digest: digest(arguments.as_bytes()),
            argument_bytes: arguments.len() as u32,
            arguments: Some(arguments.into()),
        };
        let record = recorder.begin(begin).await.expect("begin");
        let duration = 50 + random.below(20_000) as u64;
        record.close(Finish { attempts: 1, ..Finish::bare(random.outcome(), duration) });
        if row == rows / 2 {
            half = Timestamp::now();
        }
        if row % 10_000 == 0 {
            recorder.flush().await.expect("flush");
        }
    }
    recorder.flush().await.expect("flush");
    println!("{rows} rows after {:.1} s", began.elapsed().as_secs_f64());
    recorder.shutdown().await;
    Filled { tenant, agents, half }
}

async fn measure(db: &Db, filled: &Filled) {
    let all = ExecutionFilter::default;
    let server = |slug: &str| Some(ServerKey::Slug(slug.to_owned()));
    let tool = |name: &str| Some(name.to_owned());
    let agent = |number: usize| Some(filled.agents[number]);
    let filters = [
        ("newest page", all()),
        ("a tool in use", ExecutionFilter { tool: tool("tool_0_0"), ..all() }),
        ("a rare tool", ExecutionFilter { tool: tool("tool_29_19"), ..all() }),
        ("a tool never called", ExecutionFilter { tool: tool("nothing"), ..all() }),
        ("a rare agent", ExecutionFilter { agent: agent(AGENTS - 2), ..all() }),
        ("a rare server", ExecutionFilter { server: server("server-28"), ..all() }),
        ("denied calls", ExecutionFilter { outcome: Some(Outcome::Denied), ..all() }),
        ("unknown calls: none", ExecutionFilter { outcome: Some(Outcome::Unknown), ..all() }),
        ("server, agent", ExecutionFilter { server: server("server-1"), agent: agent(AGENTS / 2), ..all() }),
        (
            "tool, agent, outcome",
            ExecutionFilter {
                tool: tool("tool_0_0"),
                agent: agent(0),
                outcome: Some(Outcome::Cancelled),
                ..all()
            },
        ),
        (
            "the older half, tool, agent",
            ExecutionFilter {
                started_before: Some(filled.half),
                tool: tool("tool_1_1"),
                agent: agent(1),
                ..all()
            },
        ),
    ];
    let rows = db.tenant(filled.tenant);
    let mut first = None;
    for (name, filter) in &filters {
        let took = median(|| async { drop(rows.executions(filter, 50, None).await.expect("a page")) }).await;
        let first = *first.get_or_insert(took);
        print(name, took, first);
    }
    let first = first.expect("there are filters");
    let everything = ExecutionFilter {
        started_after: Some(Timestamp::now().saturating_sub(SignedDuration::from_hours(24)).expect("a time")),
        ..all()
    };
    for (name, by) in [
        ("statistics by server and tool", GroupBy { server: true, tool: true, ..GroupBy::default() }),
        ("statistics by minute", GroupBy { bucket: Some(Bucket::Minute), ..GroupBy::default() }),
    ] {
        let took =
            median(|| async { drop(rows.execution_stats(&everything, by).await.expect("groups")) }).await;
        print(name, took, first);
    }
}

fn print(name: &str, took: Duration, first: Duration) {
    let ratio = took.as_secs_f64() / first.as_secs_f64();
    println!("{name:<32} {:>9.2} ms   {ratio:>8.1} times the newest page", took.as_secs_f64() * 1e3);
}

async fn median<F: Future<Output = ()>>(mut work: impl FnMut() -> F) -> Duration {
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        work().await;
        times.push(began.elapsed());
    }
    times.sort();
    times[2]
}

async fn open(url: &str) -> Db {
    let settings = DatabaseSettings {
        url: url.to_owned(),
        pool_min: 1,
        pool_max: 4,
        idle_timeout: Duration::from_secs(60),
        query_timeout: Duration::from_secs(30),
    };
    let seal = Seal::from_key_texts(&Seal::generate(), &[]).expect("seal");
    let db = Db::connect(&settings, seal).await.expect("connect");
    db.migrate().await.expect("migrate");
    db
}

/// Random numbers by xorshift, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    /// Returns a number below `end`, the first ones far more often than the last.
    fn early(&mut self, end: usize) -> usize {
        let part = self.below(1_000_000) as f64 / 1e6;
        ((1.0 - part).powf(-1.4) as usize - 1).min(end - 1)
    }

    fn outcome(&mut self) -> Outcome {
        let mut left = self.below(1_000) as u64;
        for (outcome, weight) in ENDS {
            match left.checked_sub(weight) {
                None => return outcome,
                Some(rest) => left = rest,
            }
        }
        Outcome::Ok
    }
}
