//! The caller's whole catalog: the lists of all servers, merged in a stable order. A server that is
//! missing is named with its reason; it neither empties the list nor holds it up beyond a deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use protocol::{Code, Refusal};
use proxy::catalog::{ListKind, Listing};
use proxy::policy::Policy;
use proxy::route::pool_key;
use serde_json::{Value, json};

use crate::ask::List;
use crate::gateway::{Context, Gateway};
use crate::reply::{Answer, Reply};

/// The `_meta` key under which missing servers are named.
pub const UNAVAILABLE: &str = "trunkline/unavailable";

/// Answers one of the four list methods.
pub async fn answer(gateway: &Gateway, context: Context<'_>, list: List<'_>) -> Reply {
    let answer = match list.cursor {
        // All items are on the first page, so a cursor is never one of ours.
        Some(_) => Answer::Refused(
            Refusal::new(Code::InvalidParams, "this cursor was not given out here")
                .hint("list again without a cursor"),
        ),
        None => merged(gateway, context, list.kind)
            .await
            .map_or_else(Answer::Refused, |result| Answer::Result(result.into())),
    };
    Reply { id: Some(list.id.get().into()), answer, facts: None, request: context.request }
}

async fn merged(gateway: &Gateway, context: Context<'_>, kind: ListKind) -> Result<Vec<u8>, Refusal> {
    let view = gateway.directory.view(context.caller.tenant).await?;
    let deadline = Instant::now() + gateway.list_timeout;
    let asked = view.members().iter().map(|member| {
        let policy = member.policy(context.caller.agent);
        let key = pool_key(&view, member);
        async move {
            let listing = match policy.server() {
                Ok(()) => {
                    in_time(
                        gateway.list_timeout,
                        &policy,
                        gateway.catalog.list(&key, &policy.spec, kind, deadline),
                    )
                    .await
                }
                Err(refusal) => Err(refusal),
            };
            (policy, listing)
        }
    });
    let lists = join_all(asked).await;
    Ok(write(kind, &lists))
}

/// A server that must be started first is not waited for longer than the list's own time.
async fn in_time(
    limit: Duration,
    policy: &Policy,
    listing: impl Future<Output = Result<Arc<Listing>, Refusal>>,
) -> Result<Arc<Listing>, Refusal> {
    tokio::time::timeout(limit, listing).await.unwrap_or_else(|_| {
        let reason = format!("server `{}` did not answer within {} ms", policy.spec.slug, limit.as_millis());
        Err(Refusal::new(Code::TimedOut, reason).hint("it may still be starting; list again in a moment"))
    })
}

fn write(kind: ListKind, lists: &[(Policy, Result<Arc<Listing>, Refusal>)]) -> Vec<u8> {
    let mut out = format!(r#"{{"{}":["#, kind.member()).into_bytes();
    let mut missing = Vec::new();
    let mut first = true;
    for (policy, listing) in lists {
        let listing = match listing {
            Ok(listing) => listing,
            Err(refusal) => {
                missing.push(explained(policy, refusal));
                continue;
            }
        };
        for item in &listing.items {
            if kind == ListKind::Tools && policy.tool(&item.name).is_err() {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            out.extend_from_slice(item.exposed.as_bytes());
        }
    }
    out.push(b']');
    if !missing.is_empty() {
        let meta = json!({ UNAVAILABLE: missing });
        out.extend_from_slice(format!(r#","_meta":{meta}"#).as_bytes());
    }
    out.push(b'}');
    out
}

/// Why a server is not in the list.
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
