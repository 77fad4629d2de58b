//! The pipeline of a message, in order: authenticate, rate-limit, parse, negotiate, route, authorize, record,
//! call, close the record. Each stage is a line here and a module elsewhere. This file does not know HTTP,
//! SQL, Redis or child processes.

pub mod catalog_upkeep;
mod config_specs;
pub mod directory;
pub mod health_checks;
mod last_times;
pub mod limits;
pub mod recorder;
pub mod redactions;
pub mod refused;
mod stored_catalogs;
pub mod upstreams;

use std::sync::Arc;
use std::time::Instant;

use entity::Seal;
use proxy::bridge::Client;

use crate::authn::Authn;
use crate::mcp::context::Context;
use crate::mcp::inbound::{Inbound, UnreadBody};
use crate::mcp::request::{Call, Request, RequestBatch};
use crate::mcp::response::{Handled, Reply};
use crate::mcp::tasks::Tasks;
use crate::mcp::{command, lifecycle, lists, negotiation, notifications};
use crate::pipeline::limits::{Cost, Limits};
use crate::pipeline::recorder::Recorder;
use crate::pipeline::refused::Refused;
use crate::pipeline::upstreams::Upstreams;
use crate::session::Sessions;
use crate::subscriptions::dispatcher::Dispatcher;

/// The pipeline and what its stages need.
pub struct Gateway {
    pub authn: Arc<Authn>,
    pub limits: Limits,
    pub recorder: Recorder,
    pub upstreams: Upstreams,
    pub sessions: Arc<Sessions>,
    pub dispatcher: Arc<Dispatcher>,
    pub tasks: Tasks,
    /// Key of tokens that clients hold.
    pub seal: Seal,
    /// The client of plain JSON-RPC, which declares nothing.
    pub plain: Arc<Client>,
    pub max_batch: usize,
}

impl Gateway {
    /// Serves a request of any endpoint. An error means that no message was served: the caller was unknown,
    /// came too often, or sent something that is not a message.
    pub async fn handle<B: UnreadBody>(&self, inbound: Inbound<'_, B>) -> Result<Handled, Refused> {
        // Authenticate: all later stages act in one tenant's name.
        let caller = self.authn.identify(&inbound.proof).await?;
        caller.require(protocol::Scope::ToolsCall)?;

        // Rate-limit: a body that is not small is a call, and is counted before it is read. So a flood costs
        // no more than reading small bodies, whose requests' ids refusals repeat.
        let counted = if inbound.body.is_small() { Cost::NOTHING } else { Cost::CALL };
        let rate_limit = self.limits.admit_all(&caller, counted).await?;

        // Parse: only the envelope, names and cursors are read; the rest stays as it was written.
        let body = inbound.body.read().await;
        let body = body.as_deref().map_err(|refusal| Refused::from(refusal.clone()));
        let requests = body.and_then(|body| (inbound.reader)(inbound.endpoint, body, self.max_batch));
        let cost = requests.as_ref().map_or(Cost::CALL, RequestBatch::cost).after(counted);
        let rest = self
            .limits
            .admit_all(&caller, cost)
            .await
            .map_err(|refused| RequestBatch::refuse(&requests, refused))?;
        let rate_limit = rest.or(rate_limit);
        let requests = requests.map_err(|refused| refused.rate_limited(rate_limit))?;
        let caller = self.authn.named(caller, &inbound.proof).await?;
        let caller = self.authn.speaking_as(caller, requests.agent()).await?;

        // Negotiate: the era, and the session if there is one.
        let Inbound { endpoint, headers, stream, request, trace, strict, .. } = inbound;
        let protocol = negotiation::negotiate(
            &self.sessions,
            &self.plain,
            &caller,
            endpoint,
            headers,
            stream,
            requests.head(),
        )
        .await;
        let protocol = protocol
            .map_err(|refusal| Refused::from(refusal).rate_limited(rate_limit).under(requests.id()))?;

        let context = Context { caller: &caller, protocol: &protocol, request, trace, strict };
        let replies = requests.each(|request| self.serve(context, request)).await;
        Ok(Handled { rate_limit, era: protocol.client.era, replies })
    }

    /// Serves one message of a known caller, unless its client cancels it.
    async fn serve(&self, context: Context<'_>, request: Request<'_>) -> Option<Reply> {
        let Some((state, id)) = context.protocol.session_state().zip(request.id()) else {
            return self.answer(context, request).await;
        };
        let flight = state.begin(id.get());
        tokio::select! {
            biased;
            () = flight.token.cancelled() => Some(Reply::cancelled(context, id)),
            reply = self.answer(context, request) => reply,
        }
    }

    async fn answer(&self, context: Context<'_>, request: Request<'_>) -> Option<Reply> {
        match request {
            // Boxed: each request would reserve the space of all three, and some stay open for ever.
            Request::Call(call) => Some(Box::pin(self.call(context, call)).await),
            Request::List(list) => {
                Some(Box::pin(lists::answer(&self.upstreams, &self.seal, context, list)).await)
            }
            Request::Gateway(request) => Some(
                Box::pin(lifecycle::answer(
                    &self.upstreams,
                    &self.sessions,
                    &self.dispatcher,
                    context,
                    request,
                ))
                .await,
            ),
            Request::Invalid(invalid) => Some(invalid.reply(context)),
            Request::Notification(notification) => {
                notifications::take(&self.upstreams, &self.dispatcher.bus, context, notification).await
            }
            Request::Response(response) => {
                notifications::answered(&self.dispatcher.bus, context, response).await
            }
        }
    }

    /// Calls one upstream. No record, no call; closing the record never fails the reply.
    async fn call(&self, context: Context<'_>, call: Call<'_>) -> Reply {
        let started = Instant::now();

        // Bind: the words of a slash command become a tool and its arguments.
        let call = match command::bound(&self.upstreams, context, call).await {
            Ok(call) => call,
            Err(reply) => return reply,
        };

        // Route: the name becomes a server and that server's own name.
        let route = match self.upstreams.resolve(&self.tasks, context, &call).await {
            Ok(route) => route,
            Err(refusal) => return call.refused(context, refusal),
        };

        // Authorize: the next steps need the permit; a refusal is recorded too.
        let permit = match route.permit(call.arguments()) {
            Ok(permit) => permit,
            Err(refused) => return self.recorder.denied(context, &call, *refused),
        };

        // Count: the limits of the configs that apply. A refusal is recorded too.
        let _places = match self.limits.admit_call(context.caller, &permit).await {
            Ok(places) => places,
            Err(refusal) => return self.recorder.denied(context, &call, (permit.into_route(), refusal)),
        };

        // Record: durable before the upstream is called.
        let record = match self.recorder.begin(context, &call, &permit).await {
            Ok(record) => record,
            Err(refusal) => return call.refused(context, refusal),
        };

        let delivered =
            call.deliver(&self.upstreams, &self.tasks, &self.seal, context, permit, started).await;

        // Close the record, whatever the outcome.
        let facts = record.close(call.arguments(), &delivered, started.elapsed());
        call.reply(context, delivered, facts)
    }
}
