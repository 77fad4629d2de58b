//! HTTP client of the gateway's MCP endpoint, with refusals that name the settings of `trunkline stdio`.

use std::time::Duration;

use bytes::Bytes;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::{Code, Refusal};
use proxy::egress::header::HeaderMap;
use proxy::egress::{Egress, EgressError, EgressSettings, Method, Url};
use proxy::http::{HttpClient, Reply, Trouble};
use proxy::message::excerpt;
use proxy::server::RemoteLaunch;
use serde_json::value::RawValue;

use crate::http::headers::{AGENT, API_KEY};

/// The largest message that is taken from the gateway, bytes.
const MESSAGE_CAP: usize = 64 << 20;
/// The longest wait for a reply. The gateway begins a stream when an answer takes its time, but for that to
/// `initialize`, before which a server may have to be started.
const REPLY: Duration = Duration::from_secs(180);
/// Without a byte for this long a stream is broken: the gateway keeps it alive with comments.
const SILENCE: Duration = Duration::from_secs(90);

pub struct GatewayClient(HttpClient);

/// Reply to a request with its headers, or the reason why there is none.
pub type Sent = Result<(Reply, HeaderMap), Trouble>;

/// Returns the HTTP status of a reply that is no success.
pub fn status(sent: &Sent) -> Option<u16> {
    match sent {
        Ok((Reply::Explained { status, .. }, _)) => Some(*status),
        Ok(_) => None,
        Err(trouble) => trouble.status,
    }
}

impl GatewayClient {
    /// # Errors
    /// Refuses a key or an agent that a header cannot hold.
    pub fn new(url: &Url, key: Option<&str>, agent: Option<&str>) -> Result<GatewayClient, Refusal> {
        let header = |(name, value): (_, Option<&str>)| Some((format!("{name}"), value?.trim().to_owned()));
        let headers = [(API_KEY, key), (AGENT, agent)].into_iter().filter_map(header).collect();
        // The operator's own address, which may be private.
        let egress = Egress::new(EgressSettings { trusted: vec![url.clone()], ..EgressSettings::default() });
        let launch = RemoteLaunch { url: url.to_string(), headers, trusted: true };
        // Without the user and the query, which can hold a secret.
        let shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
        let mut client = HttpClient::new(&shown.into(), &egress, &launch, MESSAGE_CAP)?;
        (client.silence, client.is_forwarding) = (SILENCE, true);
        Ok(GatewayClient(client))
    }

    /// Returns the endpoint's address for logs.
    pub fn address(&self) -> &str {
        &self.0.server
    }

    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Sent {
        self.send(Method::POST, headers, Some(body)).await
    }

    pub async fn get(&self, headers: HeaderMap) -> Sent {
        self.send(Method::GET, headers, None).await
    }

    pub async fn delete(&self, headers: HeaderMap) -> Sent {
        self.send(Method::DELETE, headers, None).await
    }

    async fn send(&self, method: Method, headers: HeaderMap, body: Option<Bytes>) -> Sent {
        let sent = tokio::time::timeout(REPLY, self.0.send(method, headers, body, None)).await;
        let late = || format!("`{}` did not answer in time", self.address());
        sent.unwrap_or_else(|_| Err(Trouble::new(Code::TimedOut, late(), true)))
    }

    /// Sends a request of the stdio server's own. Returns the result, and the headers of the reply.
    ///
    /// # Errors
    /// Refuses when there is no answer, or when the answer is an error.
    pub async fn ask(
        &self,
        headers: HeaderMap,
        request: Bytes,
    ) -> Result<(Box<RawValue>, HeaderMap), Refusal> {
        let (reply, headers) = self.post(headers, request).await.map_err(|trouble| self.refusal(trouble))?;
        let outcome = match reply {
            Reply::Json(text) => outcome(&text),
            Reply::Events(mut events) => loop {
                match events.next_message().await {
                    Ok(Some(text)) if let Some(outcome) = outcome(&text) => break Some(outcome),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break None,
                }
            },
            Reply::Explained { error, .. } => Some(Err(excerpt(&error))),
            Reply::Nothing => None,
        };
        match outcome.ok_or_else(|| self.unanswered())? {
            Ok(result) => Ok((result, headers)),
            Err(error) => Err(Refusal::new(Code::UpstreamFailed, error)),
        }
    }

    /// Returns the refusal for a request that failed.
    pub fn refusal(&self, trouble: Trouble) -> Refusal {
        let refusal = trouble.failure.refusal;
        let (code, hint) = match trouble.status {
            Some(401) => (Code::Unauthenticated, "give a key of the gateway in MCP_KEY"),
            Some(403) => (Code::MissingScope, "this key may not do that here"),
            Some(429) => (Code::RateLimited, "wait before asking again"),
            Some(_) => (Code::UpstreamFailed, "is MCP_GATEWAY_URL a gateway's address?"),
            None if refusal.hint.is_some() => return refusal,
            None => {
                (refusal.code, "look whether the gateway runs, and whether MCP_GATEWAY_URL is its address")
            }
        };
        Refusal { code, ..refusal }.hint(hint)
    }

    /// Returns the refusal for a stream that broke.
    pub fn unreached(&self, error: &EgressError) -> Refusal {
        self.refusal(self.0.unreached(error))
    }

    /// Returns the refusal for a reply, or a stream to its end, without the answer.
    pub fn unanswered(&self) -> Refusal {
        Refusal::new(Code::UpstreamFailed, format!("`{}` gave no answer", self.address()))
            .hint("look whether the gateway runs; whether it did the work is not known")
    }
}

/// Reads a response: its result, or the beginning of its error.
fn outcome(text: &[u8]) -> Option<Result<Box<RawValue>, String>> {
    match jsonrpc::parse(text, usize::MAX) {
        Ok(Body::Single(Incoming::Response(response))) => {
            let error = |error: &RawValue| excerpt(error.get().as_bytes());
            Some(response.outcome.map(RawValue::to_owned).map_err(error))
        }
        Ok(_) | Err(_) => None,
    }
}
