//! Methods that the gateway answers itself: the handshake of either era, `ping`, log levels and
//! subscriptions, and the description of services.

use std::sync::Arc;

use protocol::mcp::{Era, LEGACY_LATEST, LEGACY_VERSIONS, MODERN, meta};
use protocol::{Code, Refusal, Slug};
use proxy::bridge::{Level, handshake};
use proxy::message;
use proxy::route::find_server;
use proxy::view::Member;
use serde_json::{Value, json};

use crate::mcp::context::Context;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::request::{GatewayMethod, GatewayRequest};
use crate::mcp::response::{Answer, Reply};
use crate::mcp::services;
use crate::pipeline::upstreams::Upstreams;
use crate::session::{Facts, Sessions};
use crate::subscriptions::dispatcher::Dispatcher;
use crate::subscriptions::handlers;
use crate::subscriptions::replica_bus::{Message, ReplicaBus, session_text};

/// Instructions for clients of the whole catalog.
const INSTRUCTIONS: &str = "Tools of all registered servers, named server__tool. \
    A server that is missing from a list is named in the list's _meta with the reason.";

/// Answers a method of the gateway itself.
pub async fn answer(
    upstreams: &Upstreams,
    sessions: &Sessions,
    dispatcher: &Arc<Dispatcher>,
    context: Context<'_>,
    request: GatewayRequest<'_>,
) -> Reply {
    let mut session = None;
    let answer = match &request.method {
        GatewayMethod::Ping => Ok(Answer::Result("{}".into())),
        GatewayMethod::Initialize { version, capabilities, info } => {
            let version = version.as_deref().filter(|version| LEGACY_VERSIONS.contains(version));
            let facts = Facts {
                version: version.unwrap_or(LEGACY_LATEST).to_owned(),
                capabilities: capabilities.map(ToOwned::to_owned),
                info: info.map(ToOwned::to_owned),
                level: None,
                subscriptions: Vec::new(),
            };
            Box::pin(initialize(upstreams, sessions, context, facts)).await.map(|(answer, id)| {
                session = id;
                answer
            })
        }
        GatewayMethod::Discover => Box::pin(discover(upstreams, context)).await,
        GatewayMethod::SetLevel { level } => {
            Box::pin(set_level(upstreams, sessions, &dispatcher.bus, context, *level)).await
        }
        GatewayMethod::Subscription { uri, begin } => {
            Box::pin(handlers::change(upstreams, sessions, dispatcher, context, uri, *begin)).await
        }
        GatewayMethod::Listen(filter) => {
            Box::pin(handlers::listen(upstreams, sessions, dispatcher, context, filter, request.id)).await
        }
        GatewayMethod::ListServices => Box::pin(services::list(upstreams, context)).await.map(json_answer),
        GatewayMethod::DescribeService { service } => {
            services::describe(upstreams, context, service).await.map(json_answer)
        }
    };
    let answer = answer.unwrap_or_else(Answer::Refused);
    Reply { session, ..Reply::to(context, Some(request.id), answer) }
}

fn json_answer(value: Value) -> Answer {
    Answer::Result(value.to_string().into())
}

/// Returns the gateway's `serverInfo`.
pub fn server_info() -> Value {
    json!({ "name": "trunkline", "title": "Trunkline", "version": env!("CARGO_PKG_VERSION") })
}

/// Returns the capabilities of the whole catalog. Its lists change with the registry, but plain JSON-RPC has
/// no notifications.
fn capabilities(endpoint: &Endpoint) -> Value {
    if *endpoint == Endpoint::Plain {
        return json!({ "tools": {}, "resources": {}, "prompts": {}, "completions": {} });
    }
    json!({
        "tools": { "listChanged": true },
        "resources": { "subscribe": true, "listChanged": true },
        "prompts": { "listChanged": true },
        "completions": {},
        "logging": {},
    })
}

/// Begins a legacy session; plain JSON-RPC has none, and its requests need no `initialize`.
async fn initialize(
    upstreams: &Upstreams,
    sessions: &Sessions,
    context: Context<'_>,
    facts: Facts,
) -> Result<(Answer, Option<Box<str>>), Refusal> {
    let version = facts.version.clone();
    let whole = |capabilities: Value| {
        json_answer(json!({
            "protocolVersion": version,
            "capabilities": capabilities,
            "serverInfo": server_info(),
            "instructions": INSTRUCTIONS,
        }))
    };
    let endpoint = context.protocol.endpoint;
    let slug = match endpoint {
        Endpoint::Plain => return Ok((whole(capabilities(endpoint)), None)),
        Endpoint::All => None,
        Endpoint::One(slug) => Some(slug),
    };
    if let Some(slug) = slug {
        // A server that the caller may not use has no sessions.
        let view = upstreams.directory.view(context.caller.tenant).await?;
        find_server(&view, slug.as_str())?.policy(context.caller.agent).server()?;
    }
    let (id, session) = sessions.open(context.caller, endpoint, facts).await?;
    let answer = match slug {
        None => Ok(whole(capabilities(endpoint))),
        Some(slug) => upstreams
            .initialized(context, &session.client, slug.as_str())
            .await
            .and_then(|initialized| handshaken(slug, handshake::to_legacy(&initialized, &version))),
    };
    if answer.is_err()
        && let Err(refusal) = sessions.close(&session).await
    {
        tracing::debug!(%refusal, "the session of a failed initialize stays until it expires");
    }
    Ok((answer?, Some(id.into())))
}

/// Answers with a server's handshake in the client's era, or refuses one that cannot be read.
fn handshaken(server: &Slug, result: Result<String, serde_json::Error>) -> Result<Answer, Refusal> {
    let result = result.map_err(|error| message::unreadable(server.as_str(), &error.to_string(), None))?;
    Ok(Answer::Result(result.into()))
}

async fn discover(upstreams: &Upstreams, context: Context<'_>) -> Result<Answer, Refusal> {
    if context.protocol.client.era == Era::Legacy {
        return Err(Refusal::new(
            Code::MethodNotFound,
            "there is no method `server/discover` before 2026-07-28",
        )
        .hint(format!("say in params._meta that it is {MODERN}, with the client's capabilities")));
    }
    if let Endpoint::One(slug) = context.protocol.endpoint {
        let initialized = upstreams.initialized(context, &context.protocol.client, slug.as_str()).await?;
        return handshaken(slug, handshake::to_modern(&initialized));
    }
    Ok(json_answer(json!({
        "resultType": "complete",
        "supportedVersions": [MODERN],
        "capabilities": capabilities(context.protocol.endpoint),
        "instructions": INSTRUCTIONS,
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": { meta::SERVER_INFO: server_info() },
    })))
}

/// Sets the least level of log messages for this session, also at its upstreams.
async fn set_level(
    upstreams: &Upstreams,
    sessions: &Sessions,
    bus: &ReplicaBus,
    context: Context<'_>,
    level: Level,
) -> Result<Answer, Refusal> {
    let session = context.session()?;
    let endpoint = context.protocol.endpoint;
    let change = |facts: &mut Facts| {
        facts.level = Some(level.as_str().to_owned());
        Ok(())
    };
    sessions.change(context.caller, endpoint, session, change).await?;
    bus.publish(Message::Renewed { session: session_text(&session.hash) }).await;
    let view = upstreams.directory.view(context.caller.tenant).await?;
    let client = &context.protocol.client;
    let shown = |member: &&Member| endpoint.slug().is_none_or(|slug| *slug == member.spec.slug);
    let running = view.members().iter().filter(shown).filter_map(|member| {
        upstreams.bridge.select_running(view.tenant, &member.policy(context.caller.agent), client)
    });
    let set = |selected| async move { upstreams.bridge.set_level(&selected, level).await };
    futures_util::future::join_all(running.map(set)).await;
    Ok(Answer::Result("{}".into()))
}
