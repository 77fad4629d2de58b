//! Log lines, as JSON or for people. A line stands alone: level, message, service, timestamp and the event's
//! own fields. One thread gathers and writes lines, so that a caller never waits for the terminal; warnings
//! and errors are written at once.

use std::cell::Cell;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Time for which lines are gathered.
const GATHER: Duration = Duration::from_millis(20);

/// Most bytes that wait; while the reader of the output blocks, further lines are only counted, and their
/// number is written later.
const MAX_WAITING: usize = 8 << 20;

/// Destination of lines.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum To {
    #[default]
    Stdout,
    /// Used where standard output belongs to a protocol.
    Stderr,
}

/// Installs the logger; waiting lines are written when the guard is dropped.
pub fn install(log: &Log, to: To) -> Guard {
    let output = Arc::new(Output { to, ..Output::default() });
    let writer = Arc::clone(&output);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.run())
        .expect("the system starts a thread");
    let filter = tracing_subscriber::EnvFilter::try_new(&log.level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = Lines { output: Arc::clone(&output), format: log.format };
    tracing_subscriber::registry().with(filter).with(lines).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(panic = %panic, "a part of the gateway panicked")));
    Guard(output)
}

/// Returns true for a valid level or filter.
pub fn is_level(text: &str) -> bool {
    tracing_subscriber::EnvFilter::try_new(text).is_ok()
}

pub struct Guard(Arc<Output>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.write_out();
    }
}

#[derive(Default)]
struct Output {
    to: To,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// Held while writing, so that lines keep their order.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
}

impl Output {
    fn push(&self, line: &[u8], now: bool) {
        let mut waiting = self.waiting.lock();
        if waiting.bytes.len() + line.len() > MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if now {
            self.write_out();
        } else if first {
            self.arrived.notify_one();
        }
    }

    fn run(&self) {
        loop {
            let mut waiting = self.waiting.lock();
            while waiting.bytes.is_empty() {
                self.arrived.wait(&mut waiting);
            }
            drop(waiting);
            std::thread::sleep(GATHER);
            self.write_out();
        }
    }

    fn write_out(&self) {
        let _order = self.writing.lock();
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let mut out: Box<dyn std::io::Write> = match self.to {
            To::Stdout => Box::new(std::io::stdout().lock()),
            To::Stderr => Box::new(std::io::stderr().lock()),
        };
        let mut written = out.write_all(&waiting.bytes);
        if waiting.dropped > 0 {
            written = written.and_then(|()| {
                writeln!(out, "{} log lines were dropped: the output stood still", waiting.dropped)
            });
        }
        // Without a reader of the output, an error cannot be reported.
        drop(written.and_then(|()| out.flush()));
    }
}

struct Lines {
    output: Arc<Output>,
    format: LogFormat,
}

thread_local! {
    /// Buffer that each thread reuses for its lines.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Most bytes of a buffer that is kept after a long line.
const KEPT: usize = 16 << 10;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let at = jiff::Timestamp::now();
        let mut bytes = LINE.take();
        bytes.clear();
        let mut line = Line { bytes, json: self.format == LogFormat::Json };
        if line.json {
            line.put(format_args!(
                "{{\"level\":\"{}\",\"service\":\"trunkline\",\"timestamp\":\"{at:.3}\"",
                level_name(level)
            ));
            event.record(&mut line);
            line.bytes.extend_from_slice(b"}\n");
        } else {
            line.put(format_args!("{at:.3} {:5}", level_name(level).to_uppercase()));
            event.record(&mut line);
            line.bytes.push(b'\n');
        }
        self.output.push(&line.bytes, level <= Level::WARN);
        if line.bytes.capacity() <= KEPT {
            LINE.set(line.bytes);
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A line while its fields are written into it, in the event's order.
struct Line {
    bytes: Vec<u8>,
    json: bool,
}

impl Line {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        drop(self.bytes.write_fmt(text));
    }

    fn name(&mut self, field: &Field) {
        match (self.json, field.name()) {
            (true, name) => self.put(format_args!(",\"{name}\":")),
            (false, "message") => self.bytes.push(b' '),
            (false, name) => self.put(format_args!(" {name}=")),
        }
    }

    fn number(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        self.name(field);
        self.put(value);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        if self.json {
            drop(serde_json::to_writer(&mut self.bytes, value));
        } else if value.chars().any(char::is_control) {
            // A value with line breaks must not break the line.
            self.put(format_args!("{}", value.escape_debug()));
        } else {
            self.bytes.extend_from_slice(value.as_bytes());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.number(field, format_args!("{value}"));
        } else {
            self.record_str(field, &value.to_string());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
