//! Connections on which messages of both directions go over one stream: standard streams, WebSocket, HTTP
//! with SSE. The transports write what is queued and hand in what they read.

pub mod call;
pub mod connection;
pub mod incoming;
pub mod outbox;
pub mod pending;
pub mod standing;

pub use self::connection::DuplexConnection;
pub use self::incoming::Incoming;
pub use self::outbox::{Outbox, Outgoing, QueueOutbox};
