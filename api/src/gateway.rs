//! What happens to a message, in order. Each stage is a line here and a module elsewhere: who, how
//! often, what, where, may they, write it down, call, close the record. This file knows the stages;
//! it does not know HTTP, SQL, Redis or child processes.

use std::sync::Arc;
use std::time::Instant;

use protocol::{Caller, Refusal, RequestId};
use proxy::catalog::Catalog;
use proxy::pool::Pool;

use crate::ask::{self, Ask, Call};
use crate::authn::{Authn, Proof};
use crate::directory::Directory;
use crate::limits::{Bucket, Limits, Pace};
use crate::local::Local;
use crate::recorder::Recorder;
use crate::reply::{Handled, Reply};

/// The pipeline and what its stages need.
pub struct Gateway {
    pub authn: Authn,
    pub limits: Limits,
    pub directory: Directory,
    pub catalog: Arc<Catalog>,
    pub recorder: Recorder,
    pub pool: Pool,
    pub local: Local,
    pub max_batch: usize,
}

/// A message as a door received it.
pub struct Inbound<'a> {
    pub request: RequestId,
    /// What the connection and its headers say about the caller.
    pub proof: Proof<'a>,
    pub payload: Payload<'a>,
    pub trace: Option<[u8; 16]>,
}

/// What a door hands in: JSON-RPC as it was written, or one call that the door has read.
pub enum Payload<'a> {
    JsonRpc(&'a [u8]),
    Call(Call<'a>),
}

/// One caller's request, while its messages are served.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub caller: &'a Arc<Caller>,
    pub request: RequestId,
    pub trace: Option<[u8; 16]>,
}

impl Gateway {
    /// Serves what came in by any door. An error means that nothing was looked at: the caller was
    /// not known, came too often, or sent something that is not a message.
    pub async fn handle(&self, inbound: Inbound<'_>) -> Result<Handled, Refused> {
        // Who: everything after this line happens in one tenant's name.
        let caller = self.authn.identify(&inbound.proof).await?;
        caller.require(protocol::Scope::ToolsCall)?;

        // How often: before parsing, so that a flood costs no more than this.
        let pace = self.limits.admit(&caller, Bucket::Mcp, 1).await?;

        // What: only the envelope, names and cursors are read; the rest stays as it was written.
        let asked = ask::read(inbound.payload, self.max_batch).map_err(|refused| refused.paced(pace))?;
        let pace = self.limits.admit_rest(&caller, pace, asked.len()).await?;

        let context = Context { caller: &caller, request: inbound.request, trace: inbound.trace };
        let replies = asked.each(|ask| self.serve(context, ask)).await;
        Ok(Handled { pace, replies })
    }

    /// Serves one message of a known caller.
    async fn serve(&self, context: Context<'_>, ask: Ask<'_>) -> Reply {
        match ask {
            Ask::Call(call) => self.call(context, call).await,
            Ask::List(list) => self.local.list(context, &self.directory, list).await,
            Ask::Local(local) => self.local.answer(context, &self.directory, local).await,
            Ask::Wrong(wrong) => wrong,
        }
    }

    /// Calls one upstream. No record, no call; closing the record never fails the reply.
    async fn call(&self, context: Context<'_>, call: Call<'_>) -> Reply {
        let started = Instant::now();

        // Where: the name becomes a server and that server's own name.
        let deadline = started + self.directory.longest_wait(&call);
        let route = match self.directory.resolve(context.caller, &self.catalog, &call, deadline).await {
            Ok(route) => route,
            Err(refusal) => return call.refused(context, refusal),
        };

        // May they: the permit is what the next steps need; a refusal is on record too.
        let permit = match route.permit() {
            Ok(permit) => permit,
            Err((route, refusal)) => {
                self.recorder.denied(context, &call, &route, &refusal);
                return call.refused(context, refusal);
            }
        };

        // Write it down: durable before anything happens outside.
        let record = match self.recorder.begin(context, &call, &permit).await {
            Ok(record) => record,
            Err(refusal) => return call.refused(context, refusal),
        };

        // Call.
        let delivered = call.deliver(&self.pool, &permit, started).await;

        // Close the record, whatever happened.
        let facts = record.close(&delivered, started.elapsed());
        call.reply(context, delivered, facts)
    }
}

/// A request that was turned away as a whole.
pub struct Refused {
    pub refusal: Refusal,
    pub id: Option<String>,
    pub pace: Option<Pace>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, id: None, pace: None }
    }
}

impl Refused {
    fn paced(self, pace: Pace) -> Self {
        Self { pace: Some(pace), ..self }
    }
}
