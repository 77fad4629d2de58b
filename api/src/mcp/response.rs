//! Replies of the pipeline, before an endpoint formats them.

use std::time::Duration;

use bytes::Bytes;
use protocol::mcp::Era;
use protocol::{Code, ExecutionId, Outcome, Refusal, RequestId, jsonrpc};
use serde_json::value::RawValue;

use crate::mcp::context::Context;
use crate::pipeline::refused::RateLimitState;

/// All replies to one request.
pub struct Handled {
    pub rate_limit: RateLimitState,
    pub era: Era,
    pub replies: Replies,
}

pub enum Replies {
    /// None for a notification.
    One(Option<Reply>),
    /// In the order of the batch; notifications have left no reply.
    Many(Vec<Reply>),
}

/// The reply to one message.
pub struct Reply {
    /// The request's id as it was written; none if it could not be read.
    pub id: Option<Box<str>>,
    pub answer: Answer,
    /// Facts of a recorded call.
    pub facts: Option<Facts>,
    pub request: RequestId,
    /// The id of the session that this reply begins.
    pub session: Option<Box<str>>,
}

pub enum Answer {
    /// A raw `result`.
    Result(Bytes),
    /// A raw error object, from the upstream.
    Error(Bytes),
    Refused(Refusal),
}

/// Facts of a call, as in its record.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub execution: ExecutionId,
    pub outcome: Outcome,
    pub duration: Duration,
    /// Tokens, estimated: they are counted for the record only, later.
    pub tokens_in: u32,
    pub tokens_out: u32,
}

impl Reply {
    /// Returns a reply without facts and session.
    pub fn to(context: Context<'_>, id: Option<&RawValue>, answer: Answer) -> Self {
        let id = id.map(|id| id.get().into());
        Self { id, answer, facts: None, request: context.request, session: None }
    }

    /// Answers a request that its client cancelled.
    pub fn cancelled(context: Context<'_>, id: &RawValue) -> Self {
        let refusal = Refusal::new(Code::Cancelled, "the client took the request back");
        Self::to(context, Some(id), Answer::Refused(refusal))
    }

    pub fn error_code(&self) -> Option<i64> {
        match &self.answer {
            Answer::Result(_) => None,
            Answer::Error(error) => proxy::message::code(error),
            Answer::Refused(refusal) => Some(refusal.code.rpc().into()),
        }
    }

    /// Writes the JSON-RPC message, with null for an unread id.
    pub fn write(&self, out: &mut Vec<u8>) {
        let id = self.id.as_deref().unwrap_or("null");
        match &self.answer {
            Answer::Result(result) => jsonrpc::write_result(out, id, result),
            Answer::Error(error) => {
                jsonrpc::write_error(out, id, &proxy::message::with_request(error, &self.request));
            }
            Answer::Refused(refusal) => {
                jsonrpc::write_error(out, id, &jsonrpc::error_object(refusal, &self.request));
            }
        }
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.answer {
            Answer::Refused(refusal) => Some(refusal),
            Answer::Result(_) | Answer::Error(_) => None,
        }
    }
}
