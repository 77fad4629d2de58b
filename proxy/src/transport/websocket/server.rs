//! WebSocket of a client of the gateway (RFC 6455): it gets text messages, and may only send control frames.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Time for one message to be written.
const WRITE: Duration = Duration::from_secs(30);

/// Largest message of a client, bytes: it has nothing to say.
const TAKEN: usize = 4096;

pub struct ServerSocket<S>(WebSocketStream<S>);

/// A connection that ended, or does not take its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed;

/// Returns `Sec-WebSocket-Accept` for a key.
pub fn accept(key: &[u8]) -> String {
    derive_accept_key(key)
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerSocket<S> {
    /// Takes over a connection after its handshake.
    pub async fn new(io: S) -> Self {
        let config = WebSocketConfig::default().max_message_size(Some(TAKEN)).max_frame_size(Some(TAKEN));
        Self(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
    }

    pub async fn send(&mut self, text: String) -> Result<(), Closed> {
        self.write(Message::Text(text.into())).await
    }

    pub async fn ping(&mut self) -> Result<(), Closed> {
        self.write(Message::Ping(Bytes::new())).await
    }

    /// Reads until the client closes the connection; answers pings meanwhile.
    pub async fn closed(&mut self) {
        while let Some(Ok(message)) = self.0.next().await {
            if message.is_close() {
                return;
            }
        }
    }

    /// Closes the connection in order.
    pub async fn close(mut self) {
        tokio::time::timeout(Duration::from_secs(1), self.0.close(None)).await.ok();
    }

    async fn write(&mut self, message: Message) -> Result<(), Closed> {
        match tokio::time::timeout(WRITE, self.0.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }
}
