//! Lists: those of all servers merged in a stable order and paged, or the list of one server. A missing
//! server is named with its reason; it neither empties the list nor delays it beyond a deadline. A list is
//! filtered for its caller, so nobody else may cache it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use entity::Seal;
use futures_util::future::join_all;
use jiff::SignedDuration;
use protocol::mcp::Era;
use protocol::members::raw;
use protocol::{Code, Members, Refusal};
use proxy::bridge::{Sealer, UpstreamCall, results};
use proxy::catalog::{ListKind, Listing};
use proxy::policy::Policy;
use proxy::route::find_server;
use proxy::server::{Launch, ServerSpec};
use proxy::upstream::{Params, UpstreamAnswer};
use proxy::{header_params, message};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::mcp::context::Context;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::lifecycle::server_info;
use crate::mcp::request::List;
use crate::mcp::response::{Answer, Reply};
use crate::mcp::sealed_tokens::SealedTokens;
use crate::pipeline::upstreams::{Listed, Upstreams};

/// The `_meta` key under which missing servers are named.
pub const UNAVAILABLE: &str = "trunkline/unavailable";

/// The `_meta` key under which servers that do not run are named, with the time of the list that is shown.
pub const STORED: &str = "trunkline/stored";

/// Most items on one page of a merged list.
const PAGE: usize = 1_000;

/// Answers one of the four list methods.
pub async fn answer(upstreams: &Upstreams, seal: &Seal, context: Context<'_>, list: List<'_>) -> Reply {
    let caller = context.caller.principal();
    let tenant = context.caller.tenant.to_string();
    let bound = [tenant.as_str(), &caller, context.protocol.endpoint.key(), list.kind.method()];
    let cursors = SealedTokens::new(seal, "cursor", &bound);
    let answer = match context.protocol.endpoint {
        Endpoint::One(slug) => one(upstreams, context, &list, slug.as_str(), &cursors).await,
        Endpoint::All | Endpoint::Plain => merged(upstreams, context, &list, &cursors).await,
    };
    Reply::to(context, Some(list.id), answer.unwrap_or_else(Answer::Refused))
}

/// Answers with one server's own list, without the tools that this caller may not use.
async fn one(
    upstreams: &Upstreams,
    context: Context<'_>,
    list: &List<'_>,
    slug: &str,
    cursors: &dyn Sealer,
) -> Result<Answer, Refusal> {
    let view = upstreams.directory.view(context.caller.tenant).await?;
    let member = find_server(&view, slug)?;
    let policy = member.policy(context.caller.agent);
    let spec = &policy.spec;
    let client = &context.protocol.client;
    if list.cursor.is_none() {
        let known = upstreams.bridge.select_known(view.tenant, &policy, client)?;
        if !upstreams.pool.is_running(&known.list_key())
            && let Some(listing) = upstreams.catalog.known(&known.list_key(), list.kind)
        {
            return stored(&policy, client.era, list.kind, &listing, upstreams.catalog.age(&known, &listing));
        }
    }
    let deadline = Instant::now() + spec.start_timeout.value + upstreams.list_timeout;
    let selected = upstreams.bridge.select(view.tenant, &policy, client, deadline).await?;
    let cursor = list.cursor.as_ref().map(|cursor| cursors.open(cursor)).transpose()?;
    let edited = cursor.as_ref().map(|cursor| with_cursor(list.params, cursor)).transpose()?;
    let call = UpstreamCall {
        client,
        method: list.kind.method(),
        params: Params::raw(edited.as_deref().unwrap_or(list.params).as_bytes()),
        has_meta: list.has_meta,
        timeout: upstreams.list_timeout,
        client_channel: context.protocol.client_channel.clone(),
        sealer: cursors,
        headers: &[],
        caller: Some(context.caller),
    };
    match upstreams.bridge.deliver(&selected, call).await?.answer {
        UpstreamAnswer::Error(error) => Ok(Answer::Error(error)),
        UpstreamAnswer::Result(result) => {
            let is_filtered =
                list.kind == ListKind::Tools && (policy.selects_tools() || mirrors(spec, &result));
            let mut members = match Members::from_slice(&result) {
                Ok(members) => members,
                Err(error) if is_filtered => return Err(unfiltered(spec, &error.to_string())),
                Err(_) => return Ok(Answer::Result(result)),
            };
            let next = members.get("nextCursor").map(|next| serde_json::from_str::<String>(next.get()));
            match next {
                Some(Ok(next)) if !next.is_empty() && Some(&next) != cursor.as_ref() => {
                    members.set_text("nextCursor", &cursors.seal(&next));
                }
                // A cursor that is unreadable, empty, or of this page ends the list.
                Some(_) => members.retain(|name| name != "nextCursor"),
                None => {}
            }
            if is_filtered && let Some(tools) = members.get("tools") {
                let kept = visible(&policy, tools).ok_or_else(|| unfiltered(spec, "`tools` is no array"))?;
                members.set("tools", kept);
            }
            if client.era == Era::Modern {
                members.set_text("cacheScope", "private");
            }
            Ok(Answer::Result(members.write().into()))
        }
    }
}

/// Answers with the last list of a server that does not run, on one page.
fn stored(
    policy: &Policy,
    era: Era,
    kind: ListKind,
    listing: &Listing,
    age: Option<SignedDuration>,
) -> Result<Answer, Refusal> {
    let spec = &policy.spec;
    let is_filtered =
        kind == ListKind::Tools && (policy.selects_tools() || mirrors(spec, listing.body.as_bytes()));
    let mut members = Members::default();
    let items = raw(listing.body.to_string());
    let items = match is_filtered {
        true => visible(policy, &items).ok_or_else(|| unfiltered(spec, "`tools` is no array"))?,
        false => items,
    };
    members.set(kind.member(), items);
    let stored: Vec<Value> = age.map(|age| stored_since(spec, listing, age)).into_iter().collect();
    members.set("_meta", raw(json!({ STORED: stored }).to_string()));
    let result = Bytes::from(members.write());
    Ok(Answer::Result(match era {
        Era::Modern => results::to_modern(kind.method(), result, None),
        Era::Legacy => results::to_legacy(kind.method(), result),
    }))
}

fn with_cursor(params: &str, cursor: &str) -> Result<String, Refusal> {
    let mut members = Members::read(params)
        .map_err(|error| Refusal::new(Code::InvalidParams, format!("params cannot be read: {error}")))?;
    members.set_text("cursor", cursor);
    Ok(members.write())
}

/// Refuses a list that cannot be filtered for its caller. The original is not shown, since it may name tools
/// that the policy hides.
fn unfiltered(spec: &ServerSpec, fault: &str) -> Refusal {
    message::unreadable(spec.slug.as_str(), fault, None)
}

/// Returns true if a remote server's tools mirror parameters into headers, perhaps wrongly.
fn mirrors(spec: &ServerSpec, result: &[u8]) -> bool {
    matches!(spec.launch, Launch::Http(_)) && memchr::memmem::find(result, b"x-mcp-header").is_some()
}

/// Returns the tools without those that the policy hides, those with an invalid header mapping of a remote
/// server, and those without a name.
fn visible(policy: &Policy, tools: &RawValue) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Tool<'a> {
        name: String,
        #[serde(borrow)]
        input_schema: Option<&'a RawValue>,
    }
    let remote = matches!(policy.spec.launch, Launch::Http(_));
    let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).ok()?;
    let seen = |tool: &&RawValue| {
        serde_json::from_str::<Tool<'_>>(tool.get()).is_ok_and(|tool| {
            let mirrored =
                tool.input_schema.filter(|_| remote).is_none_or(|schema| header_params::read(schema).is_ok());
            mirrored && policy.tool(&tool.name).is_ok()
        })
    };
    let kept: Vec<&str> = tools.iter().filter(|tool| seen(tool)).map(|tool| tool.get()).collect();
    Some(raw(format!("[{}]", kept.join(","))))
}

async fn merged(
    upstreams: &Upstreams,
    context: Context<'_>,
    list: &List<'_>,
    cursors: &dyn Sealer,
) -> Result<Answer, Refusal> {
    // The server and the item after which the page begins.
    let after = match &list.cursor {
        Some(cursor) => Some(cursors.open(cursor)?),
        None => None,
    };
    let view = upstreams.directory.view(context.caller.tenant).await?;
    let deadline = Instant::now() + upstreams.list_timeout;
    let requests = view.members().iter().map(|member| {
        let policy = member.policy(context.caller.agent);
        let (tenant, client) = (view.tenant, &context.protocol.client);
        async move {
            let listing = upstreams.list(tenant, &policy, client, list.kind, deadline);
            let listing = in_time(upstreams.list_timeout, &policy, listing).await;
            (policy, listing)
        }
    });
    let lists = join_all(requests).await;
    let page = Page { kind: list.kind, era: context.protocol.client.era, after: after.as_deref(), cursors };
    Ok(Answer::Result(page.write(&lists).into()))
}

/// Bounds the wait for a server, which may have to be started first.
async fn in_time(
    limit: Duration,
    policy: &Policy,
    listing: impl Future<Output = Result<Listed, Refusal>>,
) -> Result<Listed, Refusal> {
    tokio::time::timeout(limit, listing).await.unwrap_or_else(|_| {
        let reason = format!("server `{}` did not answer within {} ms", policy.spec.slug, limit.as_millis());
        Err(Refusal::new(Code::TimedOut, reason).hint("it may still be starting; list again in a moment"))
    })
}

struct Page<'a> {
    kind: ListKind,
    era: Era,
    after: Option<&'a str>,
    cursors: &'a dyn Sealer,
}

impl Page<'_> {
    fn write(&self, lists: &[(Policy, Result<Listed, Refusal>)]) -> Vec<u8> {
        let mut out = format!(r#"{{"{}":["#, self.kind.member()).into_bytes();
        let (mut missing, mut stored) = (Vec::new(), Vec::new());
        let mut count = 0;
        let mut last = None;
        let mut more = false;
        let mut skipping = self.after;
        for (policy, listing) in lists {
            let listing = match listing {
                Ok(Listed { listing, age }) => {
                    stored.extend(age.map(|age| stored_since(&policy.spec, listing, age)));
                    listing
                }
                Err(refusal) => {
                    missing.push(explained(policy, refusal));
                    continue;
                }
            };
            for item in &listing.items {
                if self.kind == ListKind::Tools && policy.tool(&item.name).is_err() {
                    continue;
                }
                if let Some(after) = skipping {
                    // Servers are in the order of their slugs; an item that is gone by now is skipped.
                    let (slug, name) = after.split_once('\n').unwrap_or((after, ""));
                    let own = policy.spec.slug.as_str();
                    if own < slug {
                        continue;
                    }
                    if own == slug && listing.find(name).is_some() {
                        if *item.name == *name {
                            skipping = None;
                        }
                        continue;
                    }
                    skipping = None;
                }
                if count == PAGE {
                    more = true;
                    break;
                }
                if count > 0 {
                    out.push(b',');
                }
                count += 1;
                last = Some((policy.spec.slug.as_str(), &item.name));
                match results::tool_for(self.era, self.kind, &item.exposed) {
                    Some(tool) => out.extend_from_slice(tool.as_bytes()),
                    None => out.extend_from_slice(item.exposed.as_bytes()),
                }
            }
        }
        out.push(b']');
        if let (true, Some((slug, name))) = (more, last) {
            let cursor = json!(self.cursors.seal(&format!("{slug}\n{name}")));
            out.extend_from_slice(format!(r#","nextCursor":{cursor}"#).as_bytes());
        }
        let mut about = serde_json::Map::new();
        if !missing.is_empty() {
            about.insert(UNAVAILABLE.to_owned(), Value::Array(missing));
        }
        if !stored.is_empty() {
            about.insert(STORED.to_owned(), Value::Array(stored));
        }
        if self.era == Era::Modern {
            about.insert(protocol::mcp::meta::SERVER_INFO.to_owned(), server_info());
            out.extend_from_slice(br#","resultType":"complete","ttlMs":0,"cacheScope":"private""#);
        }
        if !about.is_empty() {
            out.extend_from_slice(format!(r#","_meta":{}"#, Value::Object(about)).as_bytes());
        }
        out.push(b'}');
        out
    }
}

/// Returns when the list of a server that does not run was requested.
fn stored_since(spec: &ServerSpec, listing: &Listing, age: SignedDuration) -> Value {
    json!({ "server": spec.slug, "listedAt": listing.listed_at, "ageSeconds": age.as_secs() })
}

/// Returns the reason for a missing server.
fn explained(policy: &Policy, refusal: &Refusal) -> Value {
    json!({
        "server": policy.spec.slug,
        "code": refusal.code.as_str(),
        "reason": refusal.reason,
        "rule": refusal.rule,
        "since": refusal.since,
        "hint": refusal.hint,
    })
}
