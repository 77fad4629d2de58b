//! `mcp.listServices` and `mcp.describeService`: the servers as earlier gateways described theirs.

use std::time::Instant;

use protocol::Refusal;
use proxy::catalog::{ListKind, Listing};
use proxy::policy::Policy;
use proxy::server::Launch;
use proxy::view::{Member, TenantView};
use serde_json::{Value, json};

use crate::mcp::context::Context;
use crate::pipeline::upstreams::Upstreams;

pub async fn list(upstreams: &Upstreams, context: Context<'_>) -> Result<Value, Refusal> {
    let view = upstreams.directory.view(context.caller.tenant).await?;
    let entries: Vec<Value> = view
        .members()
        .iter()
        .map(|member| {
            let policy = member.policy(context.caller.agent);
            let key = upstreams.bridge.list_key(
                view.tenant,
                member.spec_for(context.caller.agent),
                &context.protocol.client,
            );
            let tools = upstreams.catalog.known_or_last(&key, ListKind::Tools);
            entry(upstreams, &view, member, &policy, tools.as_deref())
        })
        .collect();
    Ok(json!({ "services": entries }))
}

/// Describes one service with its tools; starts it if its tools are not known yet.
pub async fn describe(upstreams: &Upstreams, context: Context<'_>, service: &str) -> Result<Value, Refusal> {
    let view = upstreams.directory.view(context.caller.tenant).await?;
    let member = proxy::route::find_server(&view, service)?;
    let policy = member.policy(context.caller.agent);
    let deadline = Instant::now() + upstreams.list_timeout;
    let client = &context.protocol.client;
    let tools = upstreams.list(view.tenant, &policy, client, ListKind::Tools, deadline).await?.listing;
    let mut entry = entry(upstreams, &view, member, &policy, Some(&tools));
    entry["tools"] = visible(&policy, &tools)
        .map(|item| {
            let shown = policy.edited_tool(&item.name, tools.raw(item), str::to_owned);
            let read = shown.map_err(|left_out| left_out.reason).and_then(|definition| {
                serde_json::from_str(&definition).map_err(|error| format!("it cannot be read here: {error}"))
            });
            let name = policy.shown_tool(&item.name);
            read.unwrap_or_else(|reason| json!({ "name": name, "unreadable": reason }))
        })
        .collect();
    Ok(entry)
}

fn entry(
    upstreams: &Upstreams,
    view: &TenantView,
    member: &Member,
    policy: &Policy,
    tools: Option<&Listing>,
) -> Value {
    let spec = &member.spec;
    let status = upstreams.pool.status(view.tenant, spec.id, spec.provider());
    let refused = policy.server().err();
    let commands = tools.map(|tools| {
        visible(policy, tools).filter_map(|item| policy.shown_tool(&item.name)).collect::<Vec<_>>()
    });
    let tokens = tools
        .map(|tools| visible(policy, tools).map(|item| tools.raw(item).len().div_ceil(4)).sum::<usize>());
    json!({
        "name": spec.slug,
        "title": spec.name,
        "description": spec.description,
        "category": spec.category,
        "version": spec.version,
        "location": "server",
        "transport": match &spec.launch {
            Launch::Builtin { .. } => "builtin",
            Launch::Stdio(_) => "stdio",
            Launch::Http(_) => "streamable-http",
            Launch::Websocket(_) => "websocket",
            Launch::Unsupported { transport } => transport,
            Launch::Withheld { .. } => "withheld",
        },
        "state": if refused.is_some() { "disabled" } else { status.state.as_str() },
        "stateReason": refused.map(|refusal| refusal.reason.into_owned()).or(status.reason),
        "stateSince": status.since,
        "commands": commands,
        "capabilities": commands.as_ref().map(|_| ["tools"]),
        "tokenCost": tokens.map(|tokens| json!({ "definitions": tokens, "estimated": true })),
    })
}

fn visible<'a>(policy: &'a Policy, tools: &'a Listing) -> impl Iterator<Item = &'a proxy::catalog::Item> {
    tools.items.iter().filter(|item| policy.shows(ListKind::Tools, Some(&item.name)))
}
