//! Slash commands: calls of a tool that a line of words names.

mod bind;
#[cfg(test)]
mod bind_tests;

use std::borrow::Cow;
use std::time::Instant;

use protocol::members::raw;
use protocol::slash::Line;
use protocol::{Code, Refusal};
use proxy::catalog::ListKind;
use proxy::route::find_server;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mcp::context::Context;
use crate::mcp::request::{Call, Target};
use crate::mcp::response::{Answer, Reply};
use crate::pipeline::upstreams::Upstreams;
use bind::{Bound, bind, usage};

/// Binds the call of a slash command, which lists the service's tools and may start it; other calls stay as
/// they are.
///
/// # Errors
/// The reply where there is nothing to call: a refusal, or the list of the operations.
pub async fn bound<'a>(
    upstreams: &Upstreams,
    context: Context<'_>,
    call: Call<'a>,
) -> Result<Call<'a>, Reply> {
    let Target::Command(line) = &call.target else { return Ok(call) };
    let reply = |answer| Reply::to(context, call.id, answer);
    let operations = operations(upstreams, context, line).await;
    let operations = operations.map_err(|refusal| reply(Answer::Refused(refusal)))?;
    if line.items.is_empty() {
        return Err(reply(Answer::Result(overview(&line.service, &operations).into())));
    }
    let Bound { tool, arguments } =
        bind(line, &operations).map_err(|refusal| reply(Answer::Refused(refusal)))?;
    let arguments = raw(Value::Object(arguments).to_string());
    Ok(Call {
        target: Target::Operation { service: line.service.clone().into(), operation: tool.into() },
        shape: call.shape,
        timeout: call.timeout,
        agent: call.agent.clone(),
        ..Call::of_tool(call.id, Cow::Owned(arguments))
    })
}

/// Returns the tools of a service that the caller may use; starts it if they are not known.
async fn operations(
    upstreams: &Upstreams,
    context: Context<'_>,
    line: &Line,
) -> Result<Vec<Operation>, Refusal> {
    let view = upstreams.directory.view(context.caller.tenant).await?;
    let policy = find_server(&view, &line.service)?.policy(context.caller.agent);
    policy.server()?;
    let deadline = Instant::now() + policy.spec.start_timeout.value + upstreams.list_timeout;
    let client = &context.protocol.client;
    let tools = upstreams.list(view.tenant, &policy, client, ListKind::Tools, deadline).await?.listing;
    let shown = tools.items.iter().filter(|item| policy.shows(ListKind::Tools, Some(&item.name)));
    let read = |shown: &str| {
        serde_json::from_str(shown).map_err(|error| {
            let reason = format!("a tool of `{}` cannot be read: {error}", line.service);
            Refusal::new(Code::UnreadableAnswer, reason)
        })
    };
    // A tool that cannot be shown under its new name cannot be called either.
    shown
        .filter_map(|item| policy.edited_tool(&item.name, tools.raw(item), str::to_owned).ok())
        .map(|shown| read(&shown))
        .collect()
}

/// Returns the result that lists the operations.
fn overview(service: &str, operations: &[Operation]) -> String {
    let operation = |operation: &Operation| {
        json!({
            "name": operation.name,
            "usage": usage(service, operation),
            "description": operation.description,
        })
    };
    let operations: Vec<Value> = operations.iter().map(operation).collect();
    let metadata = json!({ "executionTime": 0, "tokensUsed": 0 });
    json!({ "status": "success", "data": { "operations": operations }, "metadata": metadata }).to_string()
}

/// A tool that a command can name.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Name as the caller sees it.
    pub name: String,
    pub description: Option<String>,
    #[serde(default)]
    pub input_schema: Value,
}
