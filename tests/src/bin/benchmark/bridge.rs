//! The role `bridge`: the smallest gateway that works. HTTP in, one stdio child behind, ids rewritten so
//! that answers find their callers; no caller is known, nothing is limited, nothing is written down.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use crate::direct;
use crate::mcp::{Request, append};

/// Bytes that are written to the child at once, when as many wait.
const TOGETHER: usize = 256 << 10;

/// Who waits for which id; what they get is the answer from the member after its id.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>>;

#[derive(Deserialize)]
struct Answer<'a> {
    id: u64,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

pub async fn run() -> std::io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let (outbox, messages) = mpsc::unbounded_channel();
    let waiting = Waiting::default();
    tokio::spawn(write(stdin, messages));
    tokio::spawn(read(stdout, Arc::clone(&waiting)));
    let next = Arc::new(AtomicU64::new(1));
    direct::serve(move |message| {
        let (outbox, waiting, next) = (outbox.clone(), Arc::clone(&waiting), Arc::clone(&next));
        async move { pass(&message, &outbox, &waiting, &next).await.unwrap_or_default() }
    })
    .await
}

/// One message through the child and back, under an id of our own.
async fn pass(
    message: &Bytes,
    outbox: &mpsc::UnboundedSender<Vec<u8>>,
    waiting: &Waiting,
    next: &AtomicU64,
) -> Option<Vec<u8>> {
    let request: Request<'_> = serde_json::from_slice(message).ok()?;
    let id = request.id?.get();
    let params = request.params.map_or("{}", RawValue::get);
    let number = next.fetch_add(1, Ordering::Relaxed);
    let mut line = Vec::with_capacity(message.len() + 32);
    append(&mut line, &[r#"{"jsonrpc":"2.0","id":"#, &number.to_string(), r#","method":""#, &request.method]);
    append(&mut line, &[r#"","params":"#, params, "}\n"]);
    let (sender, answer) = oneshot::channel();
    waiting.lock().expect("nobody panics with it").insert(number, sender);
    outbox.send(line).ok()?;
    let rest = answer.await.ok()?;
    let mut out = Vec::with_capacity(rest.len() + 48);
    append(&mut out, &[r#"{"jsonrpc":"2.0","id":"#, id]);
    out.extend_from_slice(&rest);
    Some(out)
}

async fn write(mut stdin: ChildStdin, mut messages: mpsc::UnboundedReceiver<Vec<u8>>) -> std::io::Result<()> {
    while let Some(mut lines) = messages.recv().await {
        while lines.len() < TOGETHER
            && let Ok(line) = messages.try_recv()
        {
            lines.extend_from_slice(&line);
        }
        stdin.write_all(&lines).await?;
    }
    Ok(())
}

async fn read(stdout: ChildStdout, waiting: Waiting) -> std::io::Result<()> {
    let mut lines = BufReader::with_capacity(TOGETHER, stdout);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&line) {
            let caller = waiting.lock().expect("nobody panics with it").remove(&answer.id);
            let member = answer.result.map(|result| (r#","result":"#, result));
            let member = member.or_else(|| answer.error.map(|error| (r#","error":"#, error)));
            if let (Some(caller), Some((name, value))) = (caller, member) {
                let mut rest = Vec::new();
                append(&mut rest, &[name, value.get(), "}"]);
                // A caller that hung up wants no answer.
                let _ = caller.send(rest);
            }
        }
        line.clear();
    }
    Ok(())
}
