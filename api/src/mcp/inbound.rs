//! Inbound requests, as an endpoint hands them to the pipeline.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{Refusal, RequestId};

use crate::authn::Proof;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::McpHeaders;
use crate::mcp::request::RequestBatch;
use crate::pipeline::refused::Refused;
use crate::session::stream::Stream;

/// A request as an endpoint received it.
pub struct Inbound<'a, B> {
    pub request: RequestId,
    /// The credentials and the address of the caller.
    pub proof: Proof<'a>,
    /// The body, not read before the caller is known.
    pub body: B,
    pub reader: &'a Reader,
    pub endpoint: &'a Endpoint,
    pub headers: McpHeaders<'a>,
    /// The stream for messages before the answer; none at endpoints that answer with JSON only.
    pub stream: Option<&'a Arc<Stream>>,
    pub trace: Option<[u8; 16]>,
    /// True if lists of one server leave out what strict clients refuse.
    pub strict: bool,
}

/// Reader of a body with at most so many messages.
pub type Reader =
    dyn for<'b> Fn(&Endpoint, &'b [u8], usize) -> Result<RequestBatch<'b>, Refused> + Send + Sync;

/// The body of a request, not read yet.
pub trait UnreadBody: Send {
    /// Returns true if the body is announced as small enough to be read although its request may be refused.
    fn is_small(&self) -> bool;

    /// Reads the body, which must be JSON.
    fn read(self) -> impl Future<Output = Result<Bytes, Refusal>> + Send;
}
