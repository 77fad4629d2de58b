//! An HTTP server of the tests: it answers each path as it is given, writes down what it was sent, and can
//! send bodies that no well-behaved server sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

pub enum Reply {
    /// A whole answer, then the end of the connection.
    Whole(Vec<u8>),
    /// A whole answer after a while.
    Late(Duration, Vec<u8>),
    /// A beginning and then the same bytes again and again, with a pause before each.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

type Handler = dyn Fn(&str) -> Reply + Send + Sync;

/// A running server.
#[derive(Clone)]
pub struct Site {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    sent: AtomicUsize,
}

impl Site {
    /// Starts a server at an address of loopback. The handler gets the path with its query.
    pub async fn start(host: &str, handler: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(host, move |request| handler(request.split(' ').nth(1).unwrap_or_default())).await
    }

    /// Starts a server whose handler gets the whole request.
    pub async fn start_with(host: &str, handler: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        let site = Self { address, seen: Arc::clone(&seen) };
        let (tasks, handler) = (TaskTracker::new(), Arc::new(handler) as Arc<Handler>);
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn(serve(stream, Arc::clone(&handler), Arc::clone(&seen)));
            }
        });
        site
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests so far, each with its head and body.
    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().clone()
    }

    /// Returns how often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.split(' ').nth(1) == Some(path)).count()
    }

    pub fn most_open(&self) -> usize {
        self.seen.most_open.load(Ordering::SeqCst)
    }

    /// Returns the bytes of endless bodies that were taken.
    pub fn sent(&self) -> usize {
        self.seen.sent.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, seen: Arc<Seen>) {
    let Some(request) = read(&mut stream).await else { return };
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_open.fetch_max(open, Ordering::SeqCst);
    seen.requests.lock().push(request.clone());
    match handler(&request) {
        Reply::Whole(answer) => {
            stream.write_all(&answer).await.ok();
        }
        Reply::Late(pause, answer) => {
            tokio::time::sleep(pause).await;
            stream.write_all(&answer).await.ok();
        }
        Reply::Endless(beginning, part, pause) => {
            let mut sent = stream.write_all(&beginning).await;
            while sent.is_ok() {
                tokio::time::sleep(pause).await;
                sent = stream.write_all(&part).await;
                seen.sent.fetch_add(part.len(), Ordering::SeqCst);
            }
        }
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut part = vec![0; 16 * 1024];
        let length = stream.read(&mut part).await.ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let declared = head.to_ascii_lowercase();
        let declared = declared.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= declared.unwrap_or(0) {
            return Some(text.into_owned());
        }
    }
}

/// Returns an answer with these header lines, each with its end.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
    Reply::Whole([head.as_bytes(), body].concat())
}

pub fn ok(kind: &str, body: impl AsRef<[u8]>) -> Reply {
    answer("200 OK", &format!("content-type: {kind}\r\n"), body.as_ref())
}

pub fn redirect(to: &str) -> Reply {
    answer("302 Found", &format!("location: {to}\r\nset-cookie: session=1\r\n"), b"")
}

pub fn missing() -> Reply {
    answer("404 Not Found", "", b"")
}
