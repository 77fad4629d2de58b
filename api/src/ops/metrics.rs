//! Prometheus metrics and their names. Labels have few values: a server is shown by its slug, at most
//! [`MAX_SERVERS`] of them, the rest as `other`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, Histogram, Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use protocol::Outcome;
use proxy::route::Verb;
use proxy::state::{Alone, StoreMemory};
use servers::collab::CollabFigures;

/// Most servers with metrics of their own.
const MAX_SERVERS: usize = 200;

/// Buckets in seconds, from a built-in tool to a call's time-out.
const BUCKETS: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Name, kind and meaning of a metric, as `docs/metrics.md` lists them.
pub struct Described {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub labels: &'static str,
}

macro_rules! metrics_list {
    ($($constant:ident $name:literal $kind:literal $labels:literal $help:literal;)*) => {
        $(const $constant: &str = $name;)*
        pub const METRICS: &[Described] = &[$(Described { name: $name, kind: $kind, help: $help, labels: $labels },)*];
    };
}

metrics_list! {
    OPERATION_SECONDS "mcp_operation_duration_seconds" "histogram" "server, operation, outcome" "Time of a call from the gateway's receipt to its answer.";
    OPERATIONS "mcp_operation_total" "counter" "server, operation, outcome" "Calls by their outcome.";
    TOKENS "mcp_token_usage_total" "counter" "server, direction" "Tokens of arguments (in) and results (out), estimated.";
    UPSTREAMS "mcp_upstream_state" "gauge" "state" "Upstreams by their state.";
    CHECKS "mcp_upstream_checks_total" "counter" "outcome" "Checks of servers by the gateway itself: ok, failed, or left_alone (in use, stopped, or in a pause after failures).";
    CHILDREN "mcp_upstream_children" "gauge" "" "Child processes that run now.";
    IN_FLIGHT "mcp_calls_in_flight" "gauge" "" "Calls that wait for an upstream now.";
    REFUSED "mcp_refused_total" "counter" "code" "Requests refused before or instead of a call, by code.";
    STREAM_BACKLOG "mcp_stream_backlog_bytes" "gauge" "" "Bytes of messages that wait for, or are kept for, readers of streams.";
    DROPPED "mcp_notifications_dropped_total" "counter" "" "Notifications that were not kept for a reader that is too slow or absent.";
    RECORD_BACKLOG "mcp_record_backlog" "gauge" "" "Calls on record that are not in the database yet.";
    RECORD_JOURNAL "mcp_record_journal_bytes" "gauge" "" "Bytes of the local journal.";
    POOL_SIZE "mcp_connection_pool_size" "gauge" "" "Database connections that are open.";
    POOL_IDLE "mcp_connection_pool_idle" "gauge" "" "Database connections that are idle.";
    DEPENDENCY_UP "mcp_dependency_up" "gauge" "dependency" "1 while the dependency answers, else 0.";
    SERVER_UP "mcp_builtin_server_up" "gauge" "server" "1 while a built-in server that is configured has what it needs, else 0.";
    ALONE "mcp_decided_alone_total" "counter" "what" "What this replica decided alone while Redis was away: limits, copies (sessions, read from the database instead), values (whose a task is, kept in memory).";
    SYNC_LAG "mcp_task_sync_lag_seconds" "gauge" "" "Longest time from a row of another program to its number, of the last such rows.";
    OUTBOX "mcp_task_outbox" "gauge" "" "Rows of other programs that wait for their numbers.";
    INGESTED "mcp_task_outbox_rows_total" "counter" "" "Rows of other programs that this replica numbered.";
    STEPS "mcp_log_steps_total" "counter" "" "Log steps that this replica stored.";
    STEP_TRANSACTIONS "mcp_log_step_transactions_total" "counter" "" "Database transactions that stored them.";
    STEPS_WAITING "mcp_log_steps_waiting" "gauge" "" "Log steps that wait for the next transaction.";
    LEASES "mcp_leases" "gauge" "" "Live leases of all replicas.";
    LEASE_WAITERS "mcp_lease_waiters" "gauge" "" "Claims of all replicas that wait for a lease.";
    REFUSED_WRITES "mcp_writes_refused_total" "counter" "reason" "Writes to workspaces that were refused: stale_token, lease_held or version_conflict.";
    FOLLOWERS "mcp_task_followers" "gauge" "" "Calls and streams that follow a task at this replica.";
    CONTENTS "mcp_task_cache_total" "counter" "result" "Contents of workspaces found in memory (hit), or read from their store (miss).";
    STATE_USED "mcp_state_memory_used_bytes" "gauge" "" "Memory that Redis uses.";
    STATE_ALLOWED "mcp_state_memory_allowed_bytes" "gauge" "" "Memory that Redis may use; 0 without a bound.";
    HTTP_SECONDS "http_request_duration_seconds" "histogram" "method, route, status" "Time of an HTTP request.";
    CPU_USER "process_cpu_user_seconds_total" "counter" "" "Processor time of this process in user mode, seconds.";
    CPU_SYSTEM "process_cpu_system_seconds_total" "counter" "" "Processor time of this process in the kernel, seconds.";
    RESIDENT "process_resident_memory_bytes" "gauge" "" "Resident memory of this process, bytes.";
    OPEN_FILES "process_open_fds" "gauge" "" "Open file descriptors of this process.";
    START_TIME "process_start_time_seconds" "gauge" "" "Start of this process, seconds since the epoch.";
}

/// Installs the recorder; once per process.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), BUCKETS)
                .expect("there are buckets");
            let handle = builder.install_recorder().expect("no other recorder is set up");
            describe();
            // Registered at the start: a figure that is 0 or not known is shown too.
            counter!(DROPPED).absolute(0);
            for outcome in CHECK_OUTCOMES {
                counter!(CHECKS, "outcome" => outcome).absolute(0);
            }
            for name in [LEASES, LEASE_WAITERS, STATE_USED, STATE_ALLOWED] {
                gauge!(name).set(0.0);
            }
            handle
        })
        .clone()
}

fn describe() {
    for metric in METRICS.iter().filter(|metric| !metric.name.starts_with("process_")) {
        let unit = if metric.name.ends_with("_bytes") { Unit::Bytes } else { Unit::Count };
        match metric.kind {
            "counter" => metrics::describe_counter!(metric.name, unit, metric.help),
            "gauge" => metrics::describe_gauge!(metric.name, unit, metric.help),
            _ => metrics::describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
    }
}

/// Counts a finished call.
pub fn operation(
    server: &str,
    verb: Verb,
    outcome: Outcome,
    took: Duration,
    tokens_in: u32,
    tokens_out: u32,
) {
    with_handles(server, verb, outcome, |handles| {
        handles.calls.increment(1);
        handles.seconds.record(took.as_secs_f64());
        handles.tokens_in.increment(tokens_in.into());
        handles.tokens_out.increment(tokens_out.into());
    });
}

/// Outcomes of a check, as a label.
pub const CHECK_OUTCOMES: [&str; 3] = ["ok", "failed", "left_alone"];

/// Counts a check of a server; `None` for one that was left alone.
pub fn checked(is_good: Option<bool>) {
    let [ok, failed, left_alone] = CHECK_OUTCOMES;
    let outcome = match is_good {
        Some(true) => ok,
        Some(false) => failed,
        None => left_alone,
    };
    counter!(CHECKS, "outcome" => outcome).increment(1);
}

/// Counts a refusal.
pub fn refused(code: protocol::Code) {
    counter!(REFUSED, "code" => code.as_str()).increment(1);
}

/// Counts a dropped notification.
pub fn notification_dropped() {
    counter!(DROPPED).increment(1);
}

/// Counts a finished HTTP request. `route` is a pattern, never a path.
pub fn http(method: &'static str, route: &str, status: u16, took: Duration) {
    type Routes = HashMap<Box<str>, HashMap<(&'static str, u16), Histogram>>;
    static KNOWN: OnceLock<ArcSwap<Routes>> = OnceLock::new();
    let known = KNOWN.get_or_init(ArcSwap::default);
    if let Some(histogram) = known.load().get(route).and_then(|route| route.get(&(method, status))) {
        return histogram.record(took.as_secs_f64());
    }
    let histogram = histogram!(HTTP_SECONDS, "method" => method, "route" => route.to_owned(), "status" => status.to_string());
    histogram.record(took.as_secs_f64());
    known.rcu(|known| {
        let mut known = Routes::clone(known);
        known.entry(route.into()).or_default().insert((method, status), histogram.clone());
        known
    });
}

/// Gauges read at each scrape.
pub struct Scrape {
    pub upstreams: Vec<(&'static str, usize)>,
    pub children: usize,
    pub in_flight: usize,
    pub stream_backlog: usize,
    pub record_backlog: usize,
    pub record_journal_bytes: u64,
    pub pool_size: u32,
    pub pool_idle: u32,
    pub dependencies: Vec<(&'static str, bool)>,
    pub servers: Vec<(&'static str, bool)>,
    pub alone: Alone,
    pub collab: CollabFigures,
    /// Memory of Redis.
    pub state_memory: Option<StoreMemory>,
}

impl Scrape {
    pub fn publish(&self) {
        #[expect(clippy::cast_precision_loss, reason = "metrics are shown as floating point anyway")]
        let set = |name: &'static str, value: u64| gauge!(name).set(value as f64);
        for (state, count) in &self.upstreams {
            gauge!(UPSTREAMS, "state" => *state).set(u32::try_from(*count).unwrap_or(u32::MAX));
        }
        set(CHILDREN, self.children as u64);
        set(IN_FLIGHT, self.in_flight as u64);
        set(STREAM_BACKLOG, self.stream_backlog as u64);
        set(RECORD_BACKLOG, self.record_backlog as u64);
        set(RECORD_JOURNAL, self.record_journal_bytes);
        set(POOL_SIZE, self.pool_size.into());
        set(POOL_IDLE, self.pool_idle.into());
        let collab = &self.collab;
        gauge!(SYNC_LAG).set(collab.sync_lag.as_secs_f64());
        set(OUTBOX, collab.outbox);
        counter!(INGESTED).absolute(collab.ingested);
        counter!(STEPS).absolute(collab.steps.steps);
        counter!(STEP_TRANSACTIONS).absolute(collab.steps.transactions);
        set(STEPS_WAITING, collab.steps.waiting as u64);
        if let Some((leases, waiters)) = collab.leases {
            set(LEASES, leases);
            set(LEASE_WAITERS, waiters);
        }
        for (reason, count) in collab.refused {
            counter!(REFUSED_WRITES, "reason" => reason).absolute(count);
        }
        set(FOLLOWERS, collab.followers as u64);
        for (result, count) in [("hit", collab.cache_hits), ("miss", collab.cache_misses)] {
            counter!(CONTENTS, "result" => result).absolute(count);
        }
        if let Some(memory) = self.state_memory {
            set(STATE_USED, memory.used);
            set(STATE_ALLOWED, memory.allowed);
        }
        let Alone { limits, copies, values } = self.alone;
        for (what, count) in [("limits", limits), ("copies", copies), ("values", values)] {
            counter!(ALONE, "what" => what).absolute(count);
        }
        for (dependency, up) in &self.dependencies {
            gauge!(DEPENDENCY_UP, "dependency" => *dependency).set(if *up { 1.0 } else { 0.0 });
        }
        for (server, up) in &self.servers {
            gauge!(SERVER_UP, "server" => *server).set(if *up { 1.0 } else { 0.0 });
        }
    }
}

/// Returns the process's own metrics, as lines of the text format: processor time has a fraction, which a
/// counter of the recorder has not.
pub fn process_lines() -> String {
    let Some(process) = Process::read() else { return String::new() };
    let values = [
        (CPU_USER, process.user_seconds),
        (CPU_SYSTEM, process.system_seconds),
        (RESIDENT, process.resident_bytes),
        (OPEN_FILES, process.open_files),
        (START_TIME, process.started_at),
    ];
    let mut lines = String::new();
    for (name, value) in values {
        if let Some(metric) = METRICS.iter().find(|metric| metric.name == name) {
            lines.push_str(&format!(
                "# HELP {name} {}\n# TYPE {name} {}\n{name} {value}\n\n",
                metric.help, metric.kind
            ));
        }
    }
    lines
}

/// The handles of one server, operation and outcome: a lookup by labels at each call would cost more than
/// counting.
struct Handles {
    calls: Counter,
    seconds: Histogram,
    tokens_in: Counter,
    tokens_out: Counter,
}

type Known = HashMap<Box<str>, HashMap<(u8, Outcome), Arc<Handles>>>;

fn with_handles(server: &str, verb: Verb, outcome: Outcome, count: impl FnOnce(&Handles)) {
    static KNOWN: OnceLock<ArcSwap<Known>> = OnceLock::new();
    let known = KNOWN.get_or_init(ArcSwap::default);
    let key = (verb as u8, outcome);
    {
        let map = known.load();
        if let Some(handles) = map.get(server).and_then(|server| server.get(&key)) {
            return count(handles);
        }
        if map.len() >= MAX_SERVERS && !map.contains_key(server) && server != "other" {
            drop(map);
            return with_handles("other", verb, outcome, count);
        }
    }
    let operation = match verb {
        Verb::CallTool => "tools/call",
        Verb::ReadResource => "resources/read",
        Verb::GetPrompt => "prompts/get",
        Verb::Complete => "completion/complete",
        Verb::Pass => "other",
    };
    let name = server.to_owned();
    let labels = [
        ("server", name.clone()),
        ("operation", operation.to_owned()),
        ("outcome", outcome.as_str().to_owned()),
    ];
    let handles = Arc::new(Handles {
        calls: counter!(OPERATIONS, &labels),
        seconds: histogram!(OPERATION_SECONDS, &labels),
        tokens_in: counter!(TOKENS, "server" => name.clone(), "direction" => "in"),
        tokens_out: counter!(TOKENS, "server" => name, "direction" => "out"),
    });
    count(&handles);
    known.rcu(|known| {
        let mut known = HashMap::clone(known);
        known.entry(server.into()).or_default().insert(key, Arc::clone(&handles));
        known
    });
}

/// Resource usage of this process (proc(5)).
struct Process {
    user_seconds: f64,
    system_seconds: f64,
    resident_bytes: f64,
    open_files: f64,
    started_at: f64,
}

impl Process {
    fn read() -> Option<Process> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        Some(Process {
            user_seconds: number(11)? / ticks,
            system_seconds: number(12)? / ticks,
            resident_bytes: number(21)? * rustix::param::page_size() as f64,
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            started_at: boot + number(19)? / ticks,
        })
    }
}

/// Returns the text of `docs/metrics.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# Figures for Prometheus\n\nServed on the metrics port (9090 by default) at `/metrics`. \
         Made by `trunkline metrics`; a test compares this list with what a running gateway shows.\n\n\
         | Name | Kind | Labels | Meaning |\n| --- | --- | --- | --- |\n",
    );
    for metric in METRICS {
        let labels = if metric.labels.is_empty() { "–" } else { metric.labels };
        text.push_str(&format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind, metric.help));
    }
    text
}
