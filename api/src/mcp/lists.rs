//! Lists of all servers, merged in a stable order and paged. A missing server is named with its reason; it
//! neither empties the list nor delays it beyond a deadline. A list is filtered for its caller, so nobody
//! else may cache it.

use std::borrow::Cow;
use std::time::Instant;

use entity::Seal;
use futures_util::future::join_all;
use protocol::mcp::Era;
use protocol::{Code, Refusal, names};
use proxy::bridge::{Sealer, results};
use proxy::catalog::ListKind;
use proxy::policy::Policy;
use serde_json::{Value, json};

use crate::collaboration::may_list;
use crate::mcp::context::Context;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::lifecycle::server_info;
use crate::mcp::request::List;
use crate::mcp::response::{Answer, Reply};
use crate::mcp::sealed_tokens::SealedTokens;
use crate::mcp::server_list::{self, LEFT_OUT, STORED, left_out_at, left_out_of, stored_since};
use crate::pipeline::upstreams::{Listed, Upstreams};

/// The `_meta` key under which missing servers are named.
pub const UNAVAILABLE: &str = "trunkline/unavailable";

/// Most items on one page of a merged list: many clients read the first page only.
const PAGE: usize = 2_000;

/// Answers one of the four list methods.
pub async fn answer(upstreams: &Upstreams, seal: &Seal, context: Context<'_>, list: List<'_>) -> Reply {
    let caller = context.caller.principal();
    let tenant = context.caller.tenant.to_string();
    let bound = [tenant.as_str(), &caller, context.protocol.endpoint.key(), list.kind.method()];
    let cursors = SealedTokens::new(seal, "cursor", &bound);
    let answer = match context.protocol.endpoint {
        Endpoint::One(slug) => server_list::answer(upstreams, context, &list, slug.as_str(), &cursors).await,
        Endpoint::All | Endpoint::Plain => merged(upstreams, context, &list, &cursors).await,
    };
    Reply::to(context, Some(list.id), answer.unwrap_or_else(Answer::Refused))
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
            let listing = match may_list(context.caller, list.kind, &policy.spec) {
                Ok(()) => upstreams.list(tenant, &policy, client, list.kind, deadline).await,
                Err(refusal) => Err(refusal),
            };
            (policy, listing)
        }
    });
    let lists = join_all(requests).await;
    let page = Page { kind: list.kind, era: context.protocol.client.era, after: after.as_deref(), cursors };
    Ok(Answer::Result(page.write(&lists).into()))
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
        let (mut missing, mut stored, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        let mut count = 0;
        let mut last = None;
        let mut more = false;
        let mut skipping = self.after;
        for (policy, listing) in lists {
            let listing = match listing {
                Ok(Listed { listing, age, failure }) => {
                    stored.extend(age.map(|age| stored_since(&policy.spec, listing, age, failure.as_ref())));
                    left_out.extend(left_out_of(policy, self.kind, &listing.left_out));
                    listing
                }
                // Each gateway has some servers that wait for a setting; the catalog has them.
                Err(refusal) if is_unset(policy, refusal) => continue,
                Err(refusal) => {
                    missing.push(explained(policy, refusal));
                    continue;
                }
            };
            let edits = self.kind == ListKind::Tools && policy.edits_tools();
            let exposed = |name: &str| names::exposed_tool(&policy.spec.slug, name);
            for item in &listing.items {
                if !policy.shows(self.kind, Some(&item.name)) {
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
                let shown = match edits {
                    false => Cow::Borrowed(&*item.exposed),
                    true => match policy.edited_tool(&item.name, &item.exposed, exposed) {
                        Ok(shown) => shown,
                        Err(unedited) => {
                            left_out.push(left_out_at(&policy.spec, &unedited));
                            continue;
                        }
                    },
                };
                if count > 0 {
                    out.push(b',');
                }
                count += 1;
                last = Some((policy.spec.slug.as_str(), &item.name));
                match results::tool_for(self.era, self.kind, &shown) {
                    Some(tool) => out.extend_from_slice(tool.as_bytes()),
                    None => out.extend_from_slice(shown.as_bytes()),
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
        if !left_out.is_empty() {
            about.insert(LEFT_OUT.to_owned(), Value::Array(left_out));
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

/// Returns true for a server of the gateway itself that misses a setting of the operator.
fn is_unset(policy: &Policy, refusal: &Refusal) -> bool {
    refusal.code == Code::NotConfigured && policy.spec.provider().is_some()
}

/// Returns the reason for a missing server.
fn explained(policy: &Policy, refusal: &Refusal) -> Value {
    json!({
        "server": policy.spec.slug,
        "code": refusal.code.as_str(),
        "reason": refusal.reason,
        "rule": refusal.rule,
        "since": refusal.since,
        "hint": refusal.remedy(),
    })
}
