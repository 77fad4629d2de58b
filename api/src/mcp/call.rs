//! Tool calls and other upstream requests: their name, their delivery under a permit, their reply.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use entity::Seal;
use protocol::Refusal;
use protocol::mcp::method;
use proxy::bridge::UpstreamCall;
use proxy::pool::Delivered;
use proxy::route::{Name, Permit, Verb};
use proxy::upstream::{Params, UpstreamAnswer};
use serde_json::value::RawValue;

use crate::mcp::context::Context;
use crate::mcp::request::{Call, Shape, Target};
use crate::mcp::response::{Answer, Facts, Reply};
use crate::mcp::sealed_tokens::RequestStateSeal;
use crate::mcp::tasks::Tasks;
use crate::mcp::{builtin_names, execute, param_headers, resource_uris};
use crate::pipeline::upstreams::Upstreams;

impl<'a> Call<'a> {
    /// Returns a tool call whose parameters are written here.
    pub fn of_tool(id: Option<&'a RawValue>, arguments: Cow<'a, RawValue>) -> Self {
        Self {
            id,
            verb: Verb::CallTool,
            method: "".into(),
            target: Target::Own { server: "".into(), name: "".into() },
            head: r#"{"name":"#.into(),
            tail: format!(r#","arguments":{}}}"#, arguments.get()).into(),
            arguments: Some(arguments),
            has_meta: false,
            timeout: None,
            agent: None,
            shape: Shape::Plain,
        }
    }

    /// Returns the name, or the task whose server must be found first.
    pub fn name(&self) -> Result<Name<'_>, &str> {
        Ok(match &self.target {
            Target::Exposed(name) => match builtin_names::find(self.verb, name) {
                Some(name) => Name::Own { server: builtin_names::COLLAB, name },
                None => Name::Exposed(name),
            },
            Target::Own { server, name } => Name::Own { server, name },
            Target::Operation { service, operation } => Name::Operation { server: service, name: operation },
            Target::Direct { server, name } => Name::Direct { server: server.as_str(), name },
            Target::Task(task) => return Err(task),
            Target::Command(line) => Name::Operation { server: &line.service, name: "" },
        })
    }

    pub fn arguments(&self) -> &[u8] {
        self.arguments.as_ref().map_or(b"", |arguments| arguments.get().as_bytes())
    }

    pub fn method(&self) -> &str {
        match self.verb {
            Verb::CallTool => method::TOOLS_CALL,
            Verb::ReadResource => method::RESOURCES_READ,
            Verb::GetPrompt => method::PROMPTS_GET,
            Verb::Complete => method::COMPLETE,
            Verb::Pass => &self.method,
        }
    }

    /// Delivers the call under its permit, after the server's unknown names are resolved.
    pub async fn deliver(
        &self,
        upstreams: &Upstreams,
        tasks: &Tasks,
        seal: &Seal,
        context: Context<'_>,
        mut permit: Permit,
        started: Instant,
    ) -> Result<Delivered, Refusal> {
        let timeout = self.timeout.map_or(permit.timeout(), |wanted| wanted.min(permit.timeout()));
        // A server's start has its own time, which does not count towards the call's.
        let deadline = started + permit.spec().start_timeout.value + timeout;
        let client = &context.protocol.client;
        let Upstreams { bridge, catalog, pool, interest, .. } = upstreams;
        let selected = bridge.select_permitted(&permit, client, deadline).await?;
        catalog.settle(&mut permit, self.arguments(), &selected, deadline).await?;
        let headers = param_headers::check(context, self, catalog, &permit, &selected, deadline).await?;
        if !interest.is_empty() {
            interest.watch(pool, &selected).await;
        }
        let route = permit.route();
        let name = serde_json::to_string(&*route.name).expect("a string is JSON");
        let params = match self.verb {
            Verb::Pass => Params::raw(self.head.as_bytes()),
            _ => Params::spliced(self.head.as_bytes(), name.as_bytes(), self.tail.as_bytes()),
        };
        let call = UpstreamCall {
            client,
            method: self.method(),
            params,
            has_meta: self.has_meta,
            timeout,
            client_channel: context.protocol.client_channel.clone(),
            sealer: &RequestStateSeal {
                seal,
                caller: context.caller,
                server: permit.spec().id,
                method: self.method(),
                name: &route.name,
                arguments: self.arguments(),
            },
            headers: &headers,
            caller: Some(context.caller),
            retries: Some(route.policy.retries().value),
        };
        let delivered = bridge.deliver(&selected, call).await?;
        if let UpstreamAnswer::Result(result) = &delivered.answer {
            route.policy.result(result.len())?;
        }
        if let (Verb::CallTool, UpstreamAnswer::Result(result)) = (self.verb, &delivered.answer) {
            tasks.note(context, &permit.spec().slug, result).await;
        }
        Ok(delivered)
    }

    /// Restores the URI of a resource of the whole catalog.
    fn under_requested_uri(&self, answer: Bytes) -> Bytes {
        match (self.verb, &self.target) {
            (Verb::ReadResource, Target::Exposed(uri)) => resource_uris::under(uri, answer),
            _ => answer,
        }
    }

    pub fn refused(&self, context: Context<'_>, refusal: Refusal) -> Reply {
        Reply::to(context, self.id, Answer::Refused(refusal))
    }

    /// Returns the reply in the caller's form.
    pub fn reply(&self, context: Context<'_>, delivered: Result<Delivered, Refusal>, facts: Facts) -> Reply {
        let answer = match delivered.map(|delivered| delivered.answer) {
            Ok(UpstreamAnswer::Result(result)) if self.shape == Shape::Service => {
                execute::service_answer(&result, &facts)
            }
            Ok(UpstreamAnswer::Result(result)) => Answer::Result(self.under_requested_uri(result)),
            Ok(UpstreamAnswer::Error(error)) => Answer::Error(self.under_requested_uri(error)),
            Err(refusal) => Answer::Refused(refusal),
        };
        Reply { facts: Some(facts), ..Reply::to(context, self.id, answer) }
    }
}
