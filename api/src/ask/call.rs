//! A call on its way: its name in the route's words, its delivery under a permit, its reply.

use std::borrow::Cow;
use std::time::Instant;

use protocol::Refusal;
use protocol::mcp::method;
use proxy::bridge::{Bridge, Errand, Sealer};
use proxy::catalog::Catalog;
use proxy::pool::Delivered;
use proxy::route::{Name, Permit, Verb};
use proxy::upstream::{Params, UpstreamAnswer};
use serde_json::value::RawValue;

use super::{Call, Shape, Target, execute};
use crate::gateway::Context;
use crate::reply::{Answer, Facts, Reply};

impl<'a> Call<'a> {
    /// A tool call whose parameters are put together here.
    pub fn of_tool(id: Option<&'a RawValue>, arguments: Cow<'a, RawValue>) -> Self {
        Self {
            id,
            verb: Verb::CallTool,
            method: "".into(),
            target: Target::Own { server: "".into(), name: "".into() },
            head: r#"{"name":"#.into(),
            tail: format!(r#","arguments":{}}}"#, arguments.get()).into(),
            arguments: Some(arguments),
            marked: false,
            timeout: None,
            agent: None,
            shape: Shape::Plain,
        }
    }

    /// The name in the route's words; none for a task, whose server must be found first.
    pub fn name(&self) -> Option<Name<'_>> {
        match &self.target {
            Target::Exposed(name) => Some(Name::Exposed(name)),
            Target::Own { server, name } => Some(Name::Own { server, name }),
            Target::Operation { service, operation } => {
                Some(Name::Operation { server: service, name: operation })
            }
            Target::Direct { server, name } => Some(Name::Direct { server: server.as_str(), name }),
            Target::Task(_) => None,
        }
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

    /// Sends it, under its permit. Where the server's names are not known yet, it is asked for them.
    pub async fn deliver(
        &self,
        context: Context<'_>,
        catalog: &Catalog,
        bridge: &Bridge,
        mut permit: Permit,
        started: Instant,
        sealer: &dyn Sealer,
    ) -> Result<Delivered, Refusal> {
        let timeout = self.timeout.map_or(permit.timeout(), |wanted| wanted.min(permit.timeout()));
        // A start has a time of its own, which does not count towards the call's.
        let deadline = started + permit.spec().start_timeout + timeout;
        let tenant = context.caller.tenant;
        let client = &context.talk.client;
        bridge.settle_eras(tenant, permit.spec(), deadline).await?;
        permit.look_at(bridge.list_key(tenant, permit.spec(), client));
        catalog.settle(&mut permit, deadline).await?;
        let headers = super::super::parameters::check(context, self, catalog, &permit, deadline).await?;
        let route = permit.route();
        let name = serde_json::to_string(&*route.name).expect("a string is JSON");
        let params = match self.verb {
            Verb::Pass => Params::raw(self.head.as_bytes()),
            _ => Params::spliced(self.head.as_bytes(), name.as_bytes(), self.tail.as_bytes()),
        };
        let errand = Errand {
            client,
            method: self.method(),
            params,
            marked: self.marked,
            timeout,
            voice: context.talk.voice.clone(),
            sealer,
            headers: &headers,
        };
        bridge.deliver(tenant, permit.spec(), errand).await
    }

    pub fn refused(&self, context: Context<'_>, refusal: Refusal) -> Reply {
        Reply {
            id: self.id.map(|id| id.get().into()),
            answer: Answer::Refused(refusal),
            facts: None,
            request: context.request,
            session: None,
        }
    }

    /// The reply in the wanted form.
    pub fn reply(&self, context: Context<'_>, delivered: Result<Delivered, Refusal>, facts: Facts) -> Reply {
        let answer = match delivered.map(|delivered| delivered.answer) {
            Ok(UpstreamAnswer::Result(result)) if self.shape == Shape::Service => {
                execute::service_answer(&result, &facts)
            }
            Ok(UpstreamAnswer::Result(result)) => Answer::Result(result),
            Ok(UpstreamAnswer::Error(error)) => Answer::Error(error),
            Err(refusal) => Answer::Refused(refusal),
        };
        Reply {
            id: self.id.map(|id| id.get().into()),
            answer,
            facts: Some(facts),
            request: context.request,
            session: None,
        }
    }
}
