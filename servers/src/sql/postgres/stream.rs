//! Byte stream of a PostgreSQL connection that ends at a message over a limit, before it is held in memory: the
//! driver reads each message, and so each row, as a whole.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Longest message of a server, bytes.
pub const MOST_MESSAGE: usize = 8 << 20;

/// Length of a message over [`MOST_MESSAGE`].
#[derive(Debug, thiserror::Error)]
#[error("a message of the server has {0} bytes")]
pub struct TooLong(usize);

/// Flag of a connection that ended at such a message: its client learns only that it is closed.
pub type Overflow = Arc<AtomicBool>;

/// A stream whose messages are measured (PostgreSQL, "Message Formats": a type, a length that counts itself).
pub struct Measured<S> {
    inner: S,
    state: State,
    overflow: Overflow,
}

enum State {
    /// Nothing is measured: the bytes are those of TLS.
    Sealed,
    /// The server has still to answer whether it speaks TLS, with one byte.
    Asked,
    /// So many bytes of a message's head are read: its length so far.
    Head(usize, usize),
    /// So many bytes of the message are left.
    Body(usize),
}

impl<S> Measured<S> {
    /// Returns a stream on which TLS was asked for, or not.
    pub fn new(inner: S, asks_for_tls: bool, overflow: Overflow) -> Self {
        Self { inner, state: if asks_for_tls { State::Asked } else { State::Head(0, 0) }, overflow }
    }
}

impl State {
    /// Counts bytes that were read.
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let [first, rest @ ..] = bytes {
            match self {
                State::Sealed => return Ok(()),
                State::Asked => {
                    *self = if *first == b'S' { State::Sealed } else { State::Head(0, 0) };
                    bytes = rest;
                }
                State::Head(0, _) => {
                    *self = State::Head(1, 0);
                    bytes = rest;
                }
                State::Head(read, length) => {
                    let length = *length << 8 | usize::from(*first);
                    bytes = rest;
                    *self = match *read {
                        4 if length > MOST_MESSAGE => return Err(TooLong(length)),
                        4 => State::after_head(length.saturating_sub(4)),
                        read => State::Head(read + 1, length),
                    };
                }
                State::Body(left) => {
                    let taken = bytes.len().min(*left);
                    bytes = &bytes[taken..];
                    *self = State::after_head(*left - taken);
                }
            }
        }
        Ok(())
    }

    fn after_head(left: usize) -> Self {
        if left == 0 { State::Head(0, 0) } else { State::Body(left) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Measured<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.state.count(&buf.filled()[before..]).map_err(|error| {
            self.overflow.store(true, Ordering::Release);
            io::Error::other(error)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Measured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Measured<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// TLS connector whose streams are measured.
pub struct MeasuredTls<T>(pub T, pub Overflow);

impl<S, T> TlsConnect<S> for MeasuredTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
    T::Stream: 'static,
    T::Error: 'static,
{
    type Stream = Measured<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let (connected, overflow) = (self.0.connect(stream), self.1);
        Box::pin(async move { Ok(Measured::new(connected.await?, false, overflow)) })
    }
}

/// A socket of either kind.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method of the stream inside.
macro_rules! inner {
    ($socket:ident, $method:ident, $($argument:expr),*) => {
        match $socket.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inner!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        inner!(self, poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, poll_shutdown, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_measured_wherever_they_are_cut() {
        let mut bytes = Vec::new();
        for length in [4_u32, 5, 300, 4] {
            bytes.push(b'D');
            bytes.extend(length.to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xff, length as usize - 4));
        }
        for size in [1, 2, 3, 7, 1000] {
            let mut state = State::Head(0, 0);
            assert!(bytes.chunks(size).all(|chunk| state.count(chunk).is_ok()));
            assert!(matches!(state, State::Head(0, _)), "{size}");
        }
        let mut state = State::Asked;
        assert!(state.count(b"N").is_ok() && state.count(&bytes).is_ok());
        assert!(state.count(&[b'D', 0x00, 0x80, 0x00]).is_ok());
        assert!(state.count(&[0x01]).is_err());
        let mut sealed = State::Asked;
        assert!(sealed.count(b"S\x16\xff\xff\xff\xff\xff\xff").is_ok());
    }
}
