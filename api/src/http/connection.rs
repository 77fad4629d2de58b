//! Accepted TCP connections: the time limit of a request's head, and the lingering close that lets a client
//! read the answer to an unread body. Knows no HTTP message.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use protocol::RequestId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// The connection and the id of a request, as its extension.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    pub peer: SocketAddr,
    pub request: RequestId,
}

/// Time from the first byte of a request's head to its end, and from a connection's start to its first
/// head.
pub const HEAD_WITHIN: Duration = Duration::from_secs(15);

/// Idle time of a kept connection. Clients keep theirs for up to 90 s, and a connection that is closed just
/// then fails a call.
const KEPT_FOR: Duration = Duration::from_secs(120);

/// Bounds of the lingering close (RFC 9112, section 9.6): time in all, time without a byte, and bytes.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_QUIET: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

/// Bytes read at once while lingering.
const SCRATCH: usize = 16 << 10;

/// A TCP connection as the HTTP server uses it.
pub struct Connection {
    stream: TcpStream,
    read: Arc<AtomicU64>,
    /// Cancelled when the gateway stops, which ends lingering.
    stopping: CancellationToken,
    lingering: Option<Lingering>,
}

struct Lingering {
    until: tokio::time::Instant,
    quiet: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Connection {
    pub fn new(stream: TcpStream, stopping: CancellationToken) -> Self {
        Self { stream, read: Arc::default(), stopping, lingering: None }
    }

    /// Makes the timer of this connection's request heads.
    pub fn head_timer(&self) -> HeadTimer {
        HeadTimer { read: Arc::clone(&self.read) }
    }

    /// Discards what still arrives until the peer ends, falls silent or exceeds a bound. A socket that is
    /// closed with unread bytes resets the connection, and the reset destroys an answer on its way.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| {
            let now = tokio::time::Instant::now();
            Lingering { until: now + LINGER, quiet: Box::pin(tokio::time::sleep(LINGER_QUIET)), bytes: 0 }
        });
        let mut scratch = [0; SCRATCH];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    lingering.bytes += buffer.filled().len();
                    if lingering.bytes >= LINGER_BYTES {
                        return Poll::Ready(());
                    }
                    let quiet = tokio::time::Instant::now() + LINGER_QUIET;
                    lingering.quiet.as_mut().reset(quiet.min(lingering.until));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return lingering.quiet.as_mut().poll(cx),
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if !self.stopping.is_cancelled() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// hyper's timer for request heads. hyper starts the timer with [`HEAD_WITHIN`] as soon as it waits for a
/// head; on a connection that served a request before, the limit holds from the head's first byte.
pub struct HeadTimer {
    read: Arc<AtomicU64>,
}

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let seen = self.read.load(Ordering::Relaxed);
        let idle = seen > 0;
        let deadline = if idle { deadline + (KEPT_FOR - HEAD_WITHIN) } else { deadline };
        let sleep = tokio::time::sleep_until(deadline.into());
        Box::pin(HeadSleep { sleep, idle, seen, read: Arc::clone(&self.read) })
    }
}

pin_project! {
    struct HeadSleep {
        #[pin]
        sleep: Sleep,
        idle: bool,
        seen: u64,
        read: Arc<AtomicU64>,
    }
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if *this.idle && this.read.load(Ordering::Relaxed) != *this.seen {
            *this.idle = false;
            this.sleep.as_mut().reset(tokio::time::Instant::now() + HEAD_WITHIN);
        }
        this.sleep.poll(cx)
    }
}

impl hyper::rt::Sleep for HeadSleep {}
