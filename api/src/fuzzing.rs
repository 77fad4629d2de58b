//! Entry points for the fuzz targets of `fuzz/`: pure functions that read a request, and the seals of
//! client-held tokens. Knows no running gateway.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use entity::Seal;
use protocol::{Caller, CallerKind, Code, Scopes, TenantId};
use proxy::bridge::Sealer;

use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::McpHeaders;
use crate::mcp::request::Request;
use crate::mcp::sealed_tokens::SealedTokens;
use crate::mcp::{methods, negotiation, request};

/// Classification of a request before any lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The request is answered with an error.
    Refused(Code),
    /// Each message of a batch is read on its own, without a modern client.
    Batch,
    Legacy,
    Modern,
}

/// Reads a request to `/mcp/rpc` (none), `/mcp` (empty) or `/mcp/s/{slug}`. Headers that HTTP could not carry
/// are left out. None if there is no such endpoint.
pub fn classify(slug: Option<&str>, headers: &[(&[u8], &[u8])], body: &[u8]) -> Option<Verdict> {
    let endpoint = match slug {
        None => Endpoint::Plain,
        Some("") => Endpoint::All,
        Some(slug) => Endpoint::One(slug.parse().ok()?),
    };
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            sent.append(name, value);
        }
    }
    let requests = match methods::read(&endpoint, body, 100) {
        Ok(requests) => requests,
        Err(refused) => return Some(Verdict::Refused(refused.refusal.code)),
    };
    let caller = somebody();
    Some(
        match (negotiation::modern_client(&caller, &endpoint, McpHeaders(&sent), requests.head()), &requests)
        {
            (Err(refusal), _) => Verdict::Refused(refusal.code),
            (Ok(_), request::RequestBatch::One(Request::Invalid(invalid), _)) => {
                Verdict::Refused(invalid.refusal.code)
            }
            (Ok(Some(_)), _) => Verdict::Modern,
            (Ok(None), request::RequestBatch::One(..)) => Verdict::Legacy,
            (Ok(None), request::RequestBatch::Batch(_)) => Verdict::Batch,
        },
    )
}

fn somebody() -> Caller {
    Caller {
        tenant: TenantId(uuid::Uuid::nil()),
        tenant_slug: String::new(),
        agent: None,
        agent_slug: None,
        own_agent: false,
        credential: None,
        kind: CallerKind::Loopback,
        scopes: Scopes::default(),
    }
}

/// Seals of one master key.
pub struct Seals(Seal);

impl Seals {
    /// Returns none if the text is no key.
    pub fn of(key: &str) -> Option<Self> {
        Seal::from_key_texts(key, &[]).ok().map(Self)
    }

    pub fn seal(&self, bound: &[&str], text: &str) -> String {
        SealedTokens::new(&self.0, "requestState", bound).seal(text)
    }

    pub fn open(&self, bound: &[&str], sealed: &str) -> Option<String> {
        SealedTokens::new(&self.0, "requestState", bound).open(sealed).ok()
    }
}
