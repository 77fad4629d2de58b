//! MCP server on standard streams: one JSON-RPC message a line, clients of the legacy and the modern era,
//! concurrent requests, progress and cancellation (MCP 2025-11-25, basic/transports, "stdio").

mod era;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::jsonrpc::{self, Body, Incoming, Malformed, Message};
use protocol::mcp::{meta, method};
use protocol::provider::{Cancellation, Progress, RequestContext, ToolProvider};
use protocol::{Code, TenantId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers::{Answers, Problem, no_method};
use era::{Head, Rejected, in_revision, modern};

/// Longest message, bytes.
const MAX_LINE: usize = 16 << 20;

/// Most messages of a batch, which only the revision 2025-03-26 has.
const MAX_BATCH: usize = 100;

/// Most requests that are answered at the same time; others wait.
const MAX_CONCURRENT: usize = 32;

/// Most lines that wait for a slow reader.
const MAX_QUEUED: usize = 256;

/// Time limit of a request.
const PATIENCE: Duration = Duration::from_secs(300);

/// Time for requests in flight after the end of the input.
const GRACE: Duration = Duration::from_secs(5);

/// Methods that only the legacy era has.
const LEGACY_ONLY: [&str; 5] =
    [method::INITIALIZE, method::PING, method::SET_LEVEL, method::SUBSCRIBE, method::UNSUBSCRIBE];

/// Serves a provider on standard input and output until the input ends.
///
/// # Errors
/// A failure of the streams.
pub async fn serve_stdio(provider: Arc<dyn ToolProvider>) -> io::Result<()> {
    serve(provider, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Serves a provider on two streams until the input ends.
///
/// # Errors
/// A failure of the streams.
pub async fn serve(
    provider: Arc<dyn ToolProvider>,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let (lines, queue) = mpsc::channel(MAX_QUEUED);
    let server = Arc::new(Server {
        answers: Answers::new(provider),
        tenant: TenantId::new(),
        lines,
        in_flight: Mutex::default(),
        places: Semaphore::new(MAX_CONCURRENT),
    });
    let tasks = TaskTracker::new();
    let writer = tasks.spawn(write_lines(queue, output));
    let read = server.read_lines(input, &tasks).await;
    // The writer ends when the last request has dropped its sender.
    let waiting = Arc::downgrade(&server);
    drop(server);
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        if let Some(server) = waiting.upgrade() {
            server.in_flight.lock().values().for_each(CancellationToken::cancel);
        }
        tasks.wait().await;
    }
    writer.await.map_err(io::Error::other)??;
    read
}

async fn write_lines(
    mut queue: mpsc::Receiver<String>,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut lines = Vec::new();
    while queue.recv_many(&mut lines, MAX_QUEUED).await > 0 {
        for line in lines.drain(..) {
            output.write_all(line.as_bytes()).await?;
            output.write_all(b"\n").await?;
        }
        output.flush().await?;
    }
    Ok(())
}

struct Server {
    answers: Answers,
    /// The one tenant of the process.
    tenant: TenantId,
    lines: mpsc::Sender<String>,
    /// Ends of the requests in flight, by raw id.
    in_flight: Mutex<HashMap<String, CancellationToken>>,
    places: Semaphore,
}

impl Server {
    async fn read_lines(
        self: &Arc<Self>,
        input: impl AsyncRead + Unpin,
        tasks: &TaskTracker,
    ) -> io::Result<()> {
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        loop {
            line.clear();
            let most = MAX_LINE as u64 + 1;
            if (&mut input).take(most).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            if line.len() > MAX_LINE {
                let message = format!("a message has at most {MAX_LINE} bytes");
                self.send(error_line(None, Code::InvalidRequest.rpc(), &message)).await;
                skip_line(&mut input).await?;
                continue;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match jsonrpc::parse(&line, MAX_BATCH) {
                Ok(Body::Single(Incoming::Message(message))) => self.take(&message, tasks),
                Ok(Body::Single(Incoming::Response(_))) => {}
                Ok(Body::Batch(messages)) => {
                    let messages = messages.into_iter().map(ToOwned::to_owned).collect();
                    let server = Arc::clone(self);
                    tasks.spawn(async move { server.answer_batch(messages).await });
                }
                Err(malformed) => self.send(malformed_line(&malformed)).await,
            }
        }
    }

    /// Begins to answer a request; carries a notification out.
    fn take(self: &Arc<Self>, message: &Message<'_>, tasks: &TaskTracker) {
        let Some(id) = message.id else { return self.notified(message) };
        let (id, asked) = (id.to_owned(), message.method.clone().into_owned());
        let params = message.params.map(ToOwned::to_owned);
        let end = CancellationToken::new();
        self.in_flight.lock().insert(id.get().to_owned(), end.clone());
        let server = Arc::clone(self);
        tasks.spawn(async move {
            // A request that was cancelled has no answer (MCP 2025-11-25, basic/utilities/cancellation).
            let answered = end.run_until_cancelled(server.answer(&id, &asked, params.as_deref())).await;
            server.in_flight.lock().remove(id.get());
            if let Some(line) = answered {
                server.send(line).await;
            }
        });
    }

    fn notified(&self, message: &Message<'_>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Cancelled<'a> {
            #[serde(borrow)]
            request_id: &'a RawValue,
        }
        let params = message.params.map(RawValue::get).unwrap_or("{}");
        if message.method == method::CANCELLED
            && let Ok(Cancelled { request_id }) = serde_json::from_str(params)
            && let Some(end) = self.in_flight.lock().get(request_id.get())
        {
            end.cancel();
        }
    }

    /// Answers the messages of a batch, in their order.
    async fn answer_batch(&self, messages: Vec<Box<RawValue>>) {
        let mut answers = Vec::new();
        for message in &messages {
            match jsonrpc::parse_message(message) {
                Ok(Incoming::Message(message)) => match message.id {
                    Some(id) => answers.push(self.answer(id, &message.method, message.params).await),
                    None => self.notified(&message),
                },
                Ok(Incoming::Response(_)) => {}
                Err(malformed) => answers.push(malformed_line(&malformed)),
            }
        }
        if !answers.is_empty() {
            self.send(format!("[{}]", answers.join(","))).await;
        }
    }

    /// Returns the line that answers a request.
    async fn answer(&self, id: &RawValue, asked: &str, params: Option<&RawValue>) -> String {
        let answered = match Head::read(params) {
            Ok(head) => self.answer_in_era(id, asked, params, &head).await,
            Err(problem) => Err(problem),
        };
        match answered {
            Ok(result) => format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#,
                id.get(),
                String::from_utf8_lossy(&result)
            ),
            Err(Rejected { problem: Problem(code, message), data }) => match data {
                None => error_line(Some(id), code, &message),
                Some(data) => {
                    let error = json!({ "code": code, "message": message, "data": data });
                    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.get())
                }
            },
        }
    }

    async fn answer_in_era(
        &self,
        id: &RawValue,
        asked: &str,
        params: Option<&RawValue>,
        head: &Head,
    ) -> Result<Bytes, Rejected> {
        let is_modern = head.check(asked)?;
        if is_modern && LEGACY_ONLY.contains(&asked) {
            return Err(no_method(asked).into());
        }
        if asked == method::LISTEN && is_modern {
            return self.listen(id).await;
        }
        if asked == method::INITIALIZE {
            return Ok(in_revision(self.answers.initialize(), head.revision()));
        }
        let result = self.ask(asked, params, head).await?;
        Ok(if is_modern { modern(&self.answers, asked, result) } else { result })
    }

    async fn ask(&self, asked: &str, params: Option<&RawValue>, head: &Head) -> Result<Bytes, Problem> {
        let closed = || Problem(Code::Internal.rpc(), "the server stops".to_owned());
        let _place = self.places.acquire().await.map_err(|_| closed())?;
        let over = Over(Cancellation::default());
        let token = head.progress_token();
        let progress = |progress: Progress<'_>| self.notify_progress(token, progress);
        let (settings, secrets) = (json!({}), BTreeMap::new());
        let context = RequestContext {
            tenant: self.tenant,
            caller: None,
            deadline: Instant::now() + PATIENCE,
            cancellation: over.0.clone(),
            progress: &progress,
            settings: &settings,
            secrets: &secrets,
        };
        let params = params.map_or("{}", RawValue::get);
        let answered = self.answers.answer(&context, asked, params.as_bytes());
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(answered) => answered,
            Err(_) => {
                let message = format!("`{asked}` took more than {} s", PATIENCE.as_secs());
                Err(Problem(Code::TimedOut.rpc(), message))
            }
        }
    }

    /// Acknowledges a subscription to nothing, since lists of a process do not change, and keeps it open until
    /// it is cancelled (MCP 2026-07-28, basic/patterns/subscriptions).
    async fn listen(&self, id: &RawValue) -> Result<Bytes, Rejected> {
        let params =
            format!(r#"{{"notifications":{{}},"_meta":{{"{}":{}}}}}"#, meta::SUBSCRIPTION_ID, id.get());
        self.send(notification(method::ACKNOWLEDGED, &params)).await;
        std::future::pending().await
    }

    /// Sends progress unless the client reads too slowly for it.
    fn notify_progress(&self, token: Option<&Value>, progress: Progress<'_>) {
        let Some(token) = token else { return };
        let mut params = json!(progress);
        params[meta::PROGRESS_TOKEN] = token.clone();
        if self.lines.try_send(notification(method::PROGRESS, &params.to_string())).is_err() {
            tracing::debug!("progress was dropped: the client reads too slowly");
        }
    }

    /// Queues a line; without a reader nobody waits for it.
    async fn send(&self, line: String) {
        if self.lines.send(line).await.is_err() {
            tracing::debug!("an answer was dropped: the output is closed");
        }
    }
}

/// Flag of a request, set when its future is dropped.
struct Over(Cancellation);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn malformed_line(malformed: &Malformed<'_>) -> String {
    error_line(malformed.id, malformed.refusal.code.rpc(), &malformed.refusal.reason)
}

fn error_line(id: Option<&RawValue>, code: i32, message: &str) -> String {
    let error = json!({ "code": code, "message": message });
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.map_or("null", RawValue::get))
}

/// Skips the rest of a line.
async fn skip_line(input: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<()> {
    loop {
        let held = input.fill_buf().await?;
        let (length, is_over) = match held.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (held.len(), held.is_empty()),
        };
        input.consume(length);
        if is_over {
            return Ok(());
        }
    }
}
