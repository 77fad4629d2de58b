//! Request `_meta` (rows 2, 5 and 9): client information for a modern upstream, which a legacy one has from
//! its handshake.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::mcp::{Era, MODERN, meta, method};
use protocol::members::raw;
use protocol::{Code, Members, Refusal};
use serde_json::value::RawValue;

use super::UpstreamCall;
use super::client::{Client, Level};

/// The longest progress token in bytes; each notification repeats the token.
const MAX_TOKEN: usize = 1024;

/// Request parameters for an upstream.
#[derive(Debug)]
pub struct Prepared {
    /// The whole object; `None` for the original.
    pub edited: Option<String>,
    /// Progress tokens of the gateway and of the client.
    pub progress: Option<(u64, Box<RawValue>)>,
}

/// The next progress token, unique in this process. The first one is random, so that nobody can guess it.
static TOKENS: LazyLock<AtomicU64> =
    // Below 2^53, which JavaScript servers need.
    LazyLock::new(|| AtomicU64::new(uuid::Uuid::new_v4().as_u128() as u64 >> 12));

/// Writes the parameters for an upstream of that era.
pub fn prepare(call: &UpstreamCall<'_>, upstream: Era) -> Result<Prepared, Refusal> {
    let same = call.client.era == upstream;
    if same && !call.has_meta {
        return Ok(Prepared { edited: None, progress: None });
    }
    let whole = call.params.contiguous();
    let text = std::str::from_utf8(&whole).expect("parameters were read as JSON");
    let mut params = Members::read(if text.is_empty() { "{}" } else { text }).map_err(unreadable)?;
    let own = params.get("_meta").map(ToOwned::to_owned);
    let mut about = match &own {
        Some(own) => Members::read(own.get()).map_err(unreadable)?,
        None => Members::default(),
    };
    let progress =
        about.get(meta::PROGRESS_TOKEN).map(|own| (TOKENS.fetch_add(1, Ordering::Relaxed), own.to_owned()));
    if same && progress.is_none() && params.get("requestState").is_none() {
        return Ok(Prepared { edited: None, progress: None });
    }
    if progress.as_ref().is_some_and(|(_, own)| own.get().len() > MAX_TOKEN) {
        let reason = format!("params._meta.progressToken has more than {MAX_TOKEN} bytes");
        return Err(Refusal::new(Code::InvalidParams, reason));
    }
    if let Some((token, _)) = &progress {
        about.set(meta::PROGRESS_TOKEN, raw(token.to_string()));
    }
    match (call.client.era, upstream) {
        (Era::Legacy, Era::Legacy) => {}
        (Era::Modern, Era::Modern) => open_state(call, &mut params)?,
        (Era::Legacy, Era::Modern) => {
            introduce(call.client, &mut about);
            // Legacy tasks have no equivalent (row 13): the call is made without one.
            if call.method == method::TOOLS_CALL {
                params.retain(|name| name != "task");
            }
        }
        (Era::Modern, Era::Legacy) => {
            about.retain(|name| !name.starts_with(meta::RESERVED));
            params.retain(|name| name != "inputResponses" && name != "requestState");
        }
    }
    match (about.is_empty(), own.is_some()) {
        (true, _) => params.retain(|name| name != "_meta"),
        (false, _) => params.set("_meta", about.to_raw()),
    }
    Ok(Prepared { edited: Some(params.write()), progress })
}

/// Replaces the sealed `requestState` by the upstream's own.
fn open_state(call: &UpstreamCall<'_>, params: &mut Members<'_>) -> Result<(), Refusal> {
    if let Some(own) = opened_state(call, params)? {
        params.set_text("requestState", &own);
    }
    Ok(())
}

/// Returns what the sealed `requestState` holds, if there is one.
pub fn opened_state(call: &UpstreamCall<'_>, params: &Members<'_>) -> Result<Option<String>, Refusal> {
    let Some(state) = params.get("requestState") else { return Ok(None) };
    let sealed: String = serde_json::from_str(state.get())
        .map_err(|_| Refusal::new(Code::InvalidParams, "params.requestState is a string"))?;
    call.sealer.open(&sealed).map(Some)
}

pub fn read_params(whole: &[u8]) -> Result<Members<'_>, Refusal> {
    Members::from_slice(whole).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Refusal {
    Refusal::new(Code::InvalidParams, format!("params cannot be read: {error}"))
}

/// Writes a legacy client's `_meta` for a modern upstream.
pub fn introduce(client: &Client, about: &mut Members<'_>) {
    about.set_text(meta::PROTOCOL_VERSION, MODERN);
    about.set(meta::CLIENT_CAPABILITIES, capabilities(client));
    if let Some(info) = &client.info {
        about.set(meta::CLIENT_INFO, info.clone());
    }
    // Log messages are on by default in the legacy era.
    about.set_text(meta::LOG_LEVEL, client.level.unwrap_or(Level::Debug).as_str());
}

/// Translates a legacy client's capabilities: `elicitation: {}` means forms.
fn capabilities(client: &Client) -> Box<RawValue> {
    let Some(Ok(mut declared)) = client.capabilities.as_deref().map(|own| Members::read(own.get())) else {
        return raw("{}");
    };
    // Legacy tasks have no equivalent (row 13).
    declared.retain(|name| name != "tasks");
    if declared.get("elicitation").is_some_and(|modes| modes.get() == "{}") {
        declared.set("elicitation", raw(r#"{"form":{}}"#));
    }
    declared.to_raw()
}
