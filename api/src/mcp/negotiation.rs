//! Negotiation of a request's protocol: era, revision, client capabilities and session. A modern request
//! carries all of them; a legacy client sends them once, in `initialize`, and then names its session.

use std::sync::Arc;

use protocol::mcp::{Era, LEGACY_VERSIONS, MODERN, WITH_BATCHES, meta, method};
use protocol::{Caller, Code, Refusal};
use proxy::bridge::client::hash;
use proxy::bridge::{Client, Level};
use proxy::upstream::Listener;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::headers as names;
use crate::mcp::context::RequestProtocol;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::{McpHeaders, mismatch};
use crate::mcp::request::RequestHead;
use crate::session::Sessions;
use crate::session::state::{ClientChannel, NotificationChannel};
use crate::session::stream::Stream;

/// Client metadata of a modern request.
#[derive(Deserialize, Default)]
struct About<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientInfo")]
    info: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/logLevel")]
    level: Option<&'a RawValue>,
}

/// Returns the era: modern if the message has modern metadata, or names a version that is not legacy. The
/// header alone is no proof: legacy clients send it too.
fn era(about: &About<'_>, version: Option<&str>) -> Era {
    let says = about.version.is_some() || about.capabilities.is_some();
    let named = version.is_some_and(|version| !LEGACY_VERSIONS.contains(&version));
    if says || named { Era::Modern } else { Era::Legacy }
}

/// Negotiates the protocol of a request.
pub async fn negotiate<'a>(
    sessions: &Sessions,
    plain: &Arc<Client>,
    caller: &Caller,
    endpoint: &'a Endpoint,
    headers: McpHeaders<'a>,
    stream: Option<&'a Arc<Stream>>,
    head: Option<&RequestHead<'_>>,
) -> Result<RequestProtocol<'a>, Refusal> {
    let begins = head.is_some_and(|head| head.is_request && head.method == method::INITIALIZE);
    if let Some(stream) = stream.filter(|_| !begins) {
        stream.let_begin();
    }
    // A repeated header is refused also where it is unused, since others may read the second one.
    headers.session()?;
    if let Some(client) = modern_client(caller, endpoint, headers, head)? {
        let client_channel =
            stream.map(|stream| Arc::new(NotificationChannel(Arc::clone(stream))) as Arc<dyn Listener>);
        return Ok(RequestProtocol {
            endpoint,
            client: Arc::new(client),
            session: None,
            client_channel,
            stream,
            headers,
        });
    }
    if *endpoint == Endpoint::Plain || begins {
        let client = Arc::clone(plain);
        return Ok(RequestProtocol {
            endpoint,
            client,
            session: None,
            client_channel: None,
            stream,
            headers,
        });
    }
    let id = headers.session()?.ok_or_else(|| {
        Refusal::new(Code::SessionRequired, "this request has no Mcp-Session-Id").hint(
            "send initialize first, or say in params._meta that it is modern; POST /mcp/rpc needs no session",
        )
    })?;
    let session = Box::pin(sessions.find(caller, endpoint.key(), id)).await?;
    if head.is_none() && session.facts.version != WITH_BATCHES {
        let reason = format!("revision {} has no batches: send one message at a time", session.facts.version);
        return Err(Refusal::new(Code::InvalidRequest, reason));
    }
    let client_channel = stream.map(|stream| {
        session.state.number(stream);
        let (state, stream) = (Arc::downgrade(&session.state), Arc::clone(stream));
        Arc::new(ClientChannel { state, stream }) as Arc<dyn Listener>
    });
    Ok(RequestProtocol {
        endpoint,
        client: Arc::clone(&session.client),
        session: Some(session),
        client_channel,
        stream,
        headers,
    })
}

/// Returns the client of a modern message; none of a legacy one, whose client is its session's.
pub fn modern_client(
    caller: &Caller,
    endpoint: &Endpoint,
    headers: McpHeaders<'_>,
    head: Option<&RequestHead<'_>>,
) -> Result<Option<Client>, Refusal> {
    let about = match head.and_then(|head| head.meta) {
        Some(about) if about.get().starts_with('{') => {
            serde_json::from_str(about.get()).map_err(|error| {
                Refusal::new(Code::MissingMeta, format!("params._meta cannot be read: {error}"))
            })?
        }
        Some(_) => return Err(Refusal::new(Code::MissingMeta, "params._meta is an object")),
        None => About::default(),
    };
    let version = headers.version()?;
    if era(&about, version) == Era::Legacy {
        return Ok(None);
    }
    let head = head.ok_or_else(|| {
        Refusal::new(Code::InvalidRequest, format!("{MODERN} has no batches: send one message at a time"))
    })?;
    modern(caller, endpoint, headers, head, &about, version).map(Some)
}

/// Legacy methods without a modern counterpart; a dual-era server would answer with other errors. The tasks
/// of 2026-07-28 are an extension with other methods.
const REMOVED: [&str; 7] = [
    method::INITIALIZE,
    method::PING,
    method::SET_LEVEL,
    method::SUBSCRIBE,
    method::UNSUBSCRIBE,
    method::TASKS_RESULT,
    method::TASKS_LIST,
];

/// Checks the rules of 2026-07-28 for one request: basic ("_meta") and basic/transports/streamable-http
/// ("Server Validation"), in the order in which the conformance suite expects their errors.
fn modern(
    caller: &Caller,
    endpoint: &Endpoint,
    headers: McpHeaders<'_>,
    head: &RequestHead<'_>,
    about: &About<'_>,
    version: Option<&str>,
) -> Result<Client, Refusal> {
    let http = *endpoint != Endpoint::Plain;
    if !head.is_request {
        // A notification needs no `_meta`.
        return Ok(Client::new(Era::Modern, MODERN, None));
    }
    let missing = |name: &str| {
        Refusal::new(Code::MissingMeta, format!("params._meta has no usable `{name}`"))
            .rule("2026-07-28, basic, \"_meta\"")
    };
    let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
    let wanted = about.version.and_then(text).ok_or_else(|| missing(meta::PROTOCOL_VERSION))?;
    let capabilities = about
        .capabilities
        .filter(|capabilities| capabilities.get().starts_with('{'))
        .ok_or_else(|| missing(meta::CLIENT_CAPABILITIES))?;
    match version {
        Some(version) if version != wanted => {
            return Err(mismatch(format!("MCP-Protocol-Version says {version}, params._meta says {wanted}")));
        }
        None if http => return Err(mismatch("the header MCP-Protocol-Version is missing")),
        Some(_) | None => {}
    }
    if wanted != MODERN {
        return Err(Refusal::new(Code::UnsupportedVersion, format!("revision {wanted} is not spoken here"))
            .fact("supported", vec![MODERN])
            .fact("requested", wanted));
    }
    if http || headers.one(&names::METHOD)?.is_some() {
        same_method(headers, head)?;
    }
    if REMOVED.contains(&&*head.method) {
        return Err(Refusal::new(Code::MethodNotFound, format!("{MODERN} has no method `{}`", head.method)));
    }
    if http || headers.one(&names::NAME)?.is_some() {
        same_name(headers, head)?;
    }
    let mut client = Client::new(Era::Modern, wanted, Some(capabilities.to_owned()));
    client.info = about.info.map(ToOwned::to_owned);
    client.level = about.level.and_then(text).and_then(|level| Level::parse(&level));
    if client.can.anything() {
        client.owner = hash(&(caller.tenant, caller.principal()));
    }
    Ok(client)
}

fn same_method(headers: McpHeaders<'_>, head: &RequestHead<'_>) -> Result<(), Refusal> {
    match headers.one(&names::METHOD)? {
        Some(value) if value == head.method => Ok(()),
        Some(value) => Err(mismatch(format!("Mcp-Method says `{value}`, the body `{}`", head.method))),
        None => Err(mismatch("the header Mcp-Method is missing")),
    }
}

fn same_name(headers: McpHeaders<'_>, head: &RequestHead<'_>) -> Result<(), Refusal> {
    let Some(name) = &head.name else { return Ok(()) };
    let Some(value) = headers.one(&names::NAME)? else {
        return Err(mismatch("the header Mcp-Name is missing"));
    };
    let decoded = proxy::header_params::decode(value)
        .map_err(|problem| mismatch(format!("Mcp-Name cannot be read: {problem}")))?;
    match decoded == **name {
        true => Ok(()),
        false => Err(mismatch(format!("Mcp-Name says `{decoded}`, the body `{name}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_itself_says_its_era() {
        let about = |json: &'static str| serde_json::from_str::<About<'_>>(json).unwrap();
        let none = about("{}");
        assert_eq!(era(&none, None), Era::Legacy);
        assert_eq!(era(&none, Some("2025-06-18")), Era::Legacy);
        assert_eq!(era(&none, Some("2026-07-28")), Era::Modern);
        assert_eq!(era(&none, Some("v999")), Era::Modern);
        let says = about(r#"{"io.modelcontextprotocol/protocolVersion":3}"#);
        assert_eq!(era(&says, Some("2025-06-18")), Era::Modern);
        assert_eq!(era(&about(r#"{"progressToken":1}"#), None), Era::Legacy);
    }
}
