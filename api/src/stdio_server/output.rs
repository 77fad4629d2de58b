//! Standard output: whole JSON-RPC messages, one to a line, and nothing else. A task that writes waits while
//! the client does not read.

use std::io::Write;
use std::time::{Duration, Instant};

use protocol::{Refusal, RequestId, jsonrpc};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The most lines that wait for the client.
const WAITING: usize = 32;

/// The time between a message during a request and the answer. The official TypeScript clients (sdk 1.32,
/// client 2.4) drop progress that they read at once with the answer.
const APART: Duration = Duration::from_millis(20);

pub struct Output {
    lines: mpsc::Sender<Line>,
    /// Cancelled when nothing is written any more: the client has closed its end, or the output is complete.
    pub closed: CancellationToken,
}

struct Line {
    text: Vec<u8>,
    written: oneshot::Sender<Instant>,
}

/// A message on its way to the client.
pub struct Written(oneshot::Receiver<Instant>);

impl Written {
    /// Waits until the client has had time to read the message before the next line.
    pub async fn apart(self) {
        if let Ok(written) = self.0.await {
            tokio::time::sleep_until((written + APART).into()).await;
        }
    }
}

impl Output {
    /// Starts the thread that writes.
    pub fn start() -> Output {
        let (lines, mut waiting) = mpsc::channel::<Line>(WAITING);
        let closed = CancellationToken::new();
        let end = closed.clone().drop_guard();
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                let _end = end;
                let mut out = std::io::stdout().lock();
                while let Some(line) = waiting.blocking_recv() {
                    if out.write_all(&line.text).and_then(|()| out.flush()).is_err() {
                        return;
                    }
                    // Most senders do not ask.
                    line.written.send(Instant::now()).ok();
                }
            })
            .expect("the system starts a thread");
        Output { lines, closed }
    }

    /// Writes a message. The message is known to be JSON, where line ends stand between the tokens only.
    pub async fn write(&self, message: &[u8]) -> Written {
        let mut text = Vec::with_capacity(message.len() + 1);
        text.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        text.push(b'\n');
        let (written, receiver) = oneshot::channel();
        // Without a reader there is nothing to do.
        self.lines.send(Line { text, written }).await.ok();
        Written(receiver)
    }

    /// Answers a request with an error.
    pub async fn error(&self, id: &str, error: &[u8]) {
        let mut message = Vec::new();
        jsonrpc::write_error(&mut message, id, error);
        self.write(&message).await;
    }

    /// Answers a request, or a line that cannot be read, with a refusal.
    pub async fn refuse(&self, id: Option<&str>, refusal: &Refusal) {
        tracing::warn!(%refusal, "a message was refused");
        self.error(id.unwrap_or("null"), &jsonrpc::error_object(refusal, &RequestId::new())).await;
    }
}
