//! Outbound HTTP client, the only place that builds a `reqwest::Client`. Timeouts, size limits, no redirect
//! to another host, and no request to an address that is not public unless the operator allowed it. Knows
//! nothing of MCP, and sends no headers but those given.

mod address;
mod resolver;
mod socket;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use reqwest::Client;
use reqwest::redirect::Policy;
use serde::de::DeserializeOwned;

pub use self::address::not_public;
pub use self::socket::Socket;
pub use reqwest::{Method, RequestBuilder, Response, Url, header};

use self::address::Guard;
use self::resolver::GuardedResolver;

/// Most redirects within one host.
const MAX_REDIRECTS: usize = 5;

/// Settings of outbound requests.
#[derive(Clone, Debug)]
pub struct EgressSettings {
    /// Time limit of connecting, including TLS.
    pub connect_timeout: Duration,
    /// Time limit of the whole answer; a request may set its own.
    pub timeout: Duration,
    /// Permitted networks that are not public: `EGRESS_ALLOW`.
    pub allow: Vec<IpNet>,
    /// URLs from the operator's own configuration: their origins (scheme, host, port) are exempt from the
    /// address guard.
    pub trusted: Vec<Url>,
    /// Follows redirects within one host. Without it an answer that redirects is returned as it is, for a
    /// caller that checks each address itself.
    pub follow: bool,
}

impl Default for EgressSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            allow: Vec::new(),
            trusted: Vec::new(),
            follow: true,
        }
    }
}

/// Failure of an outbound request. The text names host and cause, never a whole URL, which may hold a
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("{0:?} is not a URL")]
    NotUrl(String),
    #[error("the scheme {0}:// is not one that can be spoken here")]
    Scheme(String),
    /// Refusal of the guard; `kind` names the purpose of the address.
    #[error("{host} has the address {address}, which is {kind}; the operator opens it with EGRESS_ALLOW")]
    NotPublic { host: String, address: std::net::IpAddr, kind: &'static str },
    #[error("{from} redirects to {to}, which is another host or less safe")]
    Redirect { from: String, to: String },
    #[error("{host} redirects more than {MAX_REDIRECTS} times")]
    TooManyRedirects { host: String },
    #[error("{host} did not answer in time")]
    TimedOut { host: String },
    #[error("{host} cannot be reached: {reason}")]
    Unreachable { host: String, reason: String },
    /// Loss of the connection after something was sent.
    #[error("the connection to {host} broke: {reason}")]
    Broken { host: String, reason: String },
    #[error("{host} answered with status {status}")]
    Status { host: String, status: u16 },
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    #[error("the answer of {host} is not the JSON that was expected: {reason}")]
    NotJson { host: String, reason: String },
    #[error("no HTTP client can be made: {0}")]
    Client(String),
}

impl EgressError {
    /// Returns whether any byte of the request may have reached the other side.
    pub fn sent(&self) -> bool {
        match self {
            EgressError::NotUrl(_)
            | EgressError::Scheme(_)
            | EgressError::NotPublic { .. }
            | EgressError::Unreachable { .. }
            | EgressError::Client(_) => false,
            EgressError::Redirect { .. }
            | EgressError::TooManyRedirects { .. }
            | EgressError::TimedOut { .. }
            | EgressError::Broken { .. }
            | EgressError::Status { .. }
            | EgressError::TooLarge { .. }
            | EgressError::NotJson { .. } => true,
        }
    }
}

/// Outbound HTTP client. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
}

struct Inner {
    settings: EgressSettings,
    origins: HashSet<String>,
    guard: Guard,
    /// Client made at first use: reading the system's certificate authorities takes milliseconds, and a
    /// gateway without outbound requests needs none.
    guarded: OnceLock<Result<Client, String>>,
    trusted: OnceLock<Result<Client, String>>,
    /// TLS configuration of connections outside the HTTP clients.
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, String>>,
}

impl fmt::Debug for Egress {
    /// Shows nothing of the settings, whose URLs may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

impl Egress {
    pub fn new(settings: EgressSettings) -> Self {
        let origins = settings.trusted.iter().map(origin).collect();
        let guard = Guard::new(&settings.allow);
        let (guarded, trusted, tls) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { inner: Arc::new(Inner { settings, origins, guard, guarded, trusted, tls }) }
    }

    /// Begins a request. Checks an address in the URL here, and the addresses of a name when it is resolved
    /// for the connection.
    pub fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, EgressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressError::Scheme(url.scheme().to_owned()));
        }
        let client = if self.inner.origins.contains(&origin(url)) {
            self.inner.trusted.get_or_init(|| build(&self.inner.settings, None))
        } else {
            self.inner.guard.check_url(url)?;
            let guard = self.inner.guard.clone();
            self.inner.guarded.get_or_init(|| build(&self.inner.settings, Some(guard)))
        };
        let client = client.as_ref().map_err(|reason| EgressError::Client(reason.clone()))?;
        Ok(client.request(method, url.clone()))
    }

    /// Refuses a URL whose host is a refused address, before anything is sent. Trusted origins are no
    /// exception here: the URL does not come from the operator.
    pub fn check_literal(&self, url: &Url) -> Result<(), EgressError> {
        self.inner.guard.check_url(url)
    }

    /// Sends a request and returns the answer, whatever its status. The request's own time-out, where it
    /// has one, replaces that of the settings, and covers the answer's body too.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, EgressError> {
        request.send().await.map_err(explain)
    }

    /// Gets a JSON document of at most `limit` bytes, for instance a key set.
    pub async fn fetch_json<T: DeserializeOwned>(&self, url: &str, limit: usize) -> Result<T, EgressError> {
        let url = Url::parse(url).map_err(|_| EgressError::NotUrl(shown(url)))?;
        let request = self.request(Method::GET, &url)?.header(reqwest::header::ACCEPT, "application/json");
        let response = self.send(request).await?;
        let (host, status) = (host(response.url()), response.status().as_u16());
        if !response.status().is_success() {
            return Err(EgressError::Status { host, status });
        }
        let body = read_limited(response, limit).await?;
        serde_json::from_slice(&body)
            .map_err(|error| EgressError::NotJson { host, reason: error.to_string() })
    }
}

/// Reads a whole body of at most `limit` bytes. A body declared larger is not read at all.
pub async fn read_limited(mut response: Response, limit: usize) -> Result<Bytes, EgressError> {
    let host = host(response.url());
    let declared = response.content_length().unwrap_or(0);
    if declared > limit as u64 {
        return Err(EgressError::TooLarge { host, limit });
    }
    let mut body = BytesMut::with_capacity(declared as usize);
    while let Some(chunk) = response.chunk().await.map_err(explain)? {
        if body.len() + chunk.len() > limit {
            return Err(EgressError::TooLarge { host, limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Returns the next piece of a body; none at its end.
pub async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, EgressError> {
    response.chunk().await.map_err(explain)
}

#[expect(clippy::disallowed_methods, reason = "this is the one builder of clients")]
fn build(settings: &EgressSettings, guard: Option<Guard>) -> Result<Client, String> {
    crate::tls::prepare();
    let mut builder = Client::builder()
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
        // A proxy would resolve names itself, past the guard.
        .no_proxy()
        .referer(false)
        .redirect(if settings.follow { Policy::custom(follow) } else { Policy::none() });
    if let Some(guard) = guard {
        builder = builder.dns_resolver(GuardedResolver::new(guard));
    }
    builder.build().map_err(|error| causes(&error))
}

/// Follows a redirect to the same origin, or from http to https on the usual ports of one host.
fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let (Some(from), to) = (attempt.previous().last(), attempt.url()) else { return attempt.stop() };
    let upgrade = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host() == to.host()
        && from.port().is_none()
        && to.port().is_none();
    if origin(from) != origin(to) && !upgrade {
        let error = EgressError::Redirect { from: origin(from), to: origin(to) };
        return attempt.error(error);
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        let error = EgressError::TooManyRedirects { host: host(to) };
        return attempt.error(error);
    }
    attempt.follow()
}

/// Extracts our own error from the client library's, or describes its cause.
fn explain(error: reqwest::Error) -> EgressError {
    let host = error.url().map(host).unwrap_or_default();
    if error.is_timeout() && !error.is_connect() {
        return EgressError::TimedOut { host };
    }
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        match cause.downcast_ref::<EgressError>() {
            Some(EgressError::NotPublic { host, address, kind }) => {
                return EgressError::NotPublic { host: host.clone(), address: *address, kind };
            }
            Some(EgressError::Redirect { from, to }) => {
                return EgressError::Redirect { from: from.clone(), to: to.clone() };
            }
            Some(EgressError::TooManyRedirects { host }) => {
                return EgressError::TooManyRedirects { host: host.clone() };
            }
            _ => source = cause.source(),
        }
    }
    let connected = !error.is_connect();
    let reason = causes(&error.without_url());
    if connected { EgressError::Broken { host, reason } } else { EgressError::Unreachable { host, reason } }
}

/// Formats an error with all its sources, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// Returns the beginning of an arbitrary text, without a possible password.
fn shown(text: &str) -> String {
    let after_user = text.rsplit('@').next().unwrap_or_default();
    after_user.chars().take(80).collect()
}
