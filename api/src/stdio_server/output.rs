//! Standard output: whole JSON-RPC messages, one to a line, and nothing else. Who has something to say
//! waits while the client does not read.

use std::io::Write;
use std::time::{Duration, Instant};

use protocol::{Refusal, RequestId, jsonrpc};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Lines that wait for the client.
const WAITING: usize = 32;

/// The time between what is said during a request and its answer. The official TypeScript clients (sdk
/// 1.32, client 2.4) drop progress that they read at once with the answer.
const APART: Duration = Duration::from_millis(20);

pub struct Output {
    lines: mpsc::Sender<Line>,
    /// Cancelled when nobody reads any more.
    pub closed: CancellationToken,
}

struct Line {
    text: Vec<u8>,
    written: oneshot::Sender<Instant>,
}

/// A message on its way to the client.
pub struct Said(oneshot::Receiver<Instant>);

/// The thread that writes.
pub struct Writer(std::thread::JoinHandle<()>);

pub fn start() -> (Output, Writer) {
    let (lines, mut waiting) = mpsc::channel::<Line>(WAITING);
    let closed = CancellationToken::new();
    let nobody_reads = closed.clone();
    let thread = std::thread::Builder::new()
        .name("stdout".to_owned())
        .spawn(move || {
            let mut out = std::io::stdout().lock();
            while let Some(line) = waiting.blocking_recv() {
                if out.write_all(&line.text).and_then(|()| out.flush()).is_err() {
                    return nobody_reads.cancel();
                }
                // Most do not ask.
                line.written.send(Instant::now()).ok();
            }
        })
        .expect("the system starts a thread");
    (Output { lines, closed }, Writer(thread))
}

impl Writer {
    /// Waits until everything is written; a client that does not read is not waited for.
    pub async fn finish(self) {
        let written = tokio::task::spawn_blocking(|| drop(self.0.join()));
        drop(tokio::time::timeout(Duration::from_secs(1), written).await);
    }
}

impl Said {
    /// Waits until the client has had time to read it before the next line.
    pub async fn apart(self) {
        if let Ok(written) = self.0.await {
            tokio::time::sleep_until((written + APART).into()).await;
        }
    }
}

impl Output {
    /// Says a message. It is known to be JSON, where line ends stand between the tokens only.
    pub async fn say(&self, message: &[u8]) -> Said {
        let mut text = Vec::with_capacity(message.len() + 1);
        text.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        text.push(b'\n');
        let (written, said) = oneshot::channel();
        // Without a reader there is nobody to tell.
        drop(self.lines.send(Line { text, written }).await);
        Said(said)
    }

    /// Answers a request with an error.
    pub async fn error(&self, id: &str, error: &[u8]) {
        let mut message = Vec::new();
        jsonrpc::write_error(&mut message, id, error);
        self.say(&message).await;
    }

    /// Answers a request, or what cannot be read as one, with the reason why nothing comes of it.
    pub async fn refuse(&self, id: Option<&str>, refusal: &Refusal) {
        tracing::warn!(%refusal, "a message was refused");
        self.error(id.unwrap_or("null"), &jsonrpc::error_object(refusal, &RequestId::new())).await;
    }
}
