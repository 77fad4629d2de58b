//! List of one server, as the server wrote it, but for tools that the caller may not use; with `strict`, also
//! without definitions that strict clients refuse.

use std::time::Instant;

use bytes::Bytes;
use jiff::SignedDuration;
use protocol::mcp::Era;
use protocol::members::raw;
use protocol::{Code, Members, Refusal};
use proxy::bridge::{Sealer, UpstreamCall, results};
use proxy::catalog::definition::{self, LeftOut};
use proxy::catalog::{ListKind, Listing};
use proxy::policy::Policy;
use proxy::route::find_server;
use proxy::server::{Launch, ServerSpec};
use proxy::upstream::{Params, UpstreamAnswer};
use proxy::{header_params, message};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::collaboration::may_list;
use crate::mcp::context::Context;
use crate::mcp::request::List;
use crate::mcp::response::Answer;
use crate::pipeline::upstreams::{Listed, Upstreams};

/// The `_meta` key under which servers that do not run are named, with the time of the list that is shown.
pub const STORED: &str = "trunkline/stored";

/// The `_meta` key under which definitions that strict clients refuse are named, with the reason.
pub const LEFT_OUT: &str = "trunkline/leftOut";

/// Answers with one server's own list, without the tools that this caller may not use.
pub async fn answer(
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
    may_list(context.caller, list.kind, spec)?;
    let client = &context.protocol.client;
    if list.cursor.is_none() {
        let known = upstreams.bridge.select_known(view.tenant, &policy, client)?;
        if !upstreams.pool.is_running(&known.list_key())
            && let Some(listed) = upstreams.known_list(&known, list.kind)
            && listed.listing.note.is_none()
        {
            let shown = Shown { policy: &policy, kind: list.kind, era: listed.listing.era(), context };
            return shown.stored(&listed);
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
        retries: Some(policy.retries().value),
    };
    match upstreams.bridge.deliver(&selected, call).await?.answer {
        UpstreamAnswer::Error(error) => Ok(Answer::Error(error)),
        UpstreamAnswer::Result(result) => {
            let era = selected.list_key().era;
            let shown = Shown { policy: &policy, kind: list.kind, era, context };
            let mut members = match Members::from_slice(&result) {
                Ok(members) => members,
                Err(error) if shown.is_edited(&result) => return Err(unfiltered(spec, &error.to_string())),
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
            if shown.is_edited(&result) {
                shown.edit(&mut members)?;
            }
            if client.era == Era::Modern {
                members.set_text("cacheScope", "private");
            }
            Ok(Answer::Result(members.write().into()))
        }
    }
}

/// A list of a server of that era, as one caller may see it.
struct Shown<'a> {
    policy: &'a Policy,
    kind: ListKind,
    era: Era,
    context: Context<'a>,
}

impl Shown<'_> {
    /// Returns the last list of a server that does not run, on one page.
    fn stored(&self, Listed { listing, age, .. }: &Listed) -> Result<Answer, Refusal> {
        let mut members = Members::default();
        members.set(self.kind.member(), raw(listing.body.to_string()));
        if let Some(age) = age {
            let stored = json!({ STORED: [stored_since(&self.policy.spec, listing, *age, None)] });
            members.set("_meta", raw(stored.to_string()));
        }
        if self.is_edited(listing.body.as_bytes()) {
            self.edit(&mut members)?;
        }
        let (method, result) = (self.kind.method(), Bytes::from(members.write()));
        Ok(Answer::Result(match (self.context.protocol.client.era, self.era) {
            (Era::Modern, _) => results::to_modern(method, result, None),
            (Era::Legacy, Era::Modern) => results::to_legacy(method, result),
            (Era::Legacy, Era::Legacy) => result,
        }))
    }

    fn is_edited(&self, result: &[u8]) -> bool {
        let mirrored = self.kind == ListKind::Tools && mirrors(&self.policy.spec, result);
        let edits = self.kind == ListKind::Tools && self.policy.edits_tools();
        self.context.strict || self.policy.selects(self.kind) || edits || mirrored
    }

    /// Leaves out what the caller may not use and, if asked for, what strict clients refuse.
    fn edit(&self, members: &mut Members<'_>) -> Result<(), Refusal> {
        let spec = &self.policy.spec;
        let member = self.kind.member();
        let Some(mut items) = members.get(member).map(ToOwned::to_owned) else { return Ok(()) };
        let no_array = || unfiltered(spec, &format!("`{member}` is no array"));
        let mut left_out = Vec::new();
        if self.context.strict {
            let (valid, invalid) = valid(self.kind, self.era, &items).ok_or_else(no_array)?;
            items = valid;
            left_out = left_out_of(self.policy, self.kind, &invalid);
        }
        let (shown, unedited) = visible(self.policy, self.kind, &items).ok_or_else(no_array)?;
        left_out.extend(unedited.iter().map(|one| left_out_at(spec, one)));
        if !left_out.is_empty() {
            members.edit("_meta", |about| about.set(LEFT_OUT, raw(json!(left_out).to_string())));
        }
        members.set(member, shown);
        Ok(())
    }
}

/// Returns the items that every official client accepts, repaired where need be, and the others.
fn valid(kind: ListKind, era: Era, items: &RawValue) -> Option<(Box<RawValue>, Vec<LeftOut>)> {
    let items: Vec<&RawValue> = serde_json::from_str(items.get()).ok()?;
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for item in items {
        match definition::examine(kind, era, item) {
            Ok(repaired) => kept.push(repaired.unwrap_or_else(|| item.get().to_owned())),
            Err(reason) => left_out.push(reason),
        }
    }
    Some((raw(format!("[{}]", kept.join(","))), left_out))
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

/// Returns the items, tools under the names and descriptions that the policy gives them, without those that it hides,
/// tools with an invalid header mapping of a remote server, and those without a name or address; and the tools that
/// cannot be edited.
fn visible(policy: &Policy, kind: ListKind, items: &RawValue) -> Option<(Box<RawValue>, Vec<LeftOut>)> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Item<'a> {
        name: Option<String>,
        uri: Option<String>,
        uri_template: Option<String>,
        #[serde(borrow)]
        input_schema: Option<&'a RawValue>,
    }
    let remote = kind == ListKind::Tools && matches!(policy.spec.launch, Launch::Http(_));
    let items: Vec<&RawValue> = serde_json::from_str(items.get()).ok()?;
    let seen = |raw: &RawValue| -> Option<String> {
        let item = serde_json::from_str::<Item<'_>>(raw.get()).ok()?;
        let schema = item.input_schema.filter(|_| remote);
        let name = match kind {
            ListKind::Tools | ListKind::Prompts => item.name,
            ListKind::Resources => item.uri,
            ListKind::ResourceTemplates => item.uri_template,
        };
        name.filter(|name| {
            policy.shows(kind, Some(name)) && schema.is_none_or(|it| header_params::read(it).is_ok())
        })
    };
    let (mut kept, mut left_out) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        let Some(name) = seen(item) else { continue };
        match kind {
            ListKind::Tools => match policy.edited_tool(&name, item.get(), str::to_owned) {
                Ok(tool) => kept.push(tool),
                Err(unedited) => left_out.push(unedited),
            },
            ListKind::Resources | ListKind::ResourceTemplates | ListKind::Prompts => {
                kept.push(item.get().into());
            }
        }
    }
    Some((raw(format!("[{}]", kept.join(","))), left_out))
}

/// Names the definitions that are left out, as far as the policy shows them, as the caller knows them.
pub fn left_out_of(policy: &Policy, kind: ListKind, left_out: &[LeftOut]) -> Vec<Value> {
    let shown = left_out.iter().filter(|left_out| policy.shows(kind, left_out.name.as_deref()));
    let known = |name: &Option<String>| match name {
        Some(own) if kind == ListKind::Tools => policy.shown_tool(own).map(str::to_owned),
        name => name.clone(),
    };
    shown
        .map(|LeftOut { name, reason }| {
            left_out_at(&policy.spec, &LeftOut { name: known(name), reason: reason.clone() })
        })
        .collect()
}

/// Names a definition that is left out.
pub fn left_out_at(spec: &ServerSpec, LeftOut { name, reason }: &LeftOut) -> Value {
    json!({ "server": spec.slug, "name": name, "reason": reason })
}

/// Returns when a list that is not up to date was requested, and why the server did not list again.
pub fn stored_since(
    spec: &ServerSpec,
    listing: &Listing,
    age: SignedDuration,
    failure: Option<&Refusal>,
) -> Value {
    let mut since =
        json!({ "server": spec.slug, "listedAt": listing.listed_at, "ageSeconds": age.as_secs() });
    if let Some(Refusal { code, reason, .. }) = failure {
        since["code"] = json!(code.as_str());
        since["reason"] = json!(reason);
    }
    since
}
