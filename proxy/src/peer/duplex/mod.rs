//! Duplex connections, on which messages of both directions share one stream: standard streams, WebSocket,
//! HTTP with SSE. Transports write queued messages and hand in received ones.

pub mod call;
pub mod connection;
pub mod incoming;
pub mod outbox;
pub mod pending;
pub mod standing;

pub use self::connection::DuplexConnection;
pub use self::incoming::Incoming;
pub use self::outbox::{Outbox, Outgoing, QueueOutbox};
