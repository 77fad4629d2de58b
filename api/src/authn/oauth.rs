//! The gateway as an OAuth 2.0 protected resource: the URI of each endpoint (RFC 8707), its metadata (RFC
//! 9728), and the challenge that names the metadata (RFC 6750). Knows no token.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Uri};
use protocol::{Code, Refusal, Scope, Slug};
use proxy::egress::Url;
use serde::Serialize;

use crate::config::Config;
use crate::http::{host, paths};

/// Well-known path of the metadata; the endpoint's own path follows.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Path of REST as one resource.
const REST: &str = "/v1";

/// Scope that every MCP endpoint needs.
const NEEDED: Scope = Scope::ToolsCall;

/// Configured origin, host names and authorization server of the gateway.
pub struct Resources {
    /// Scheme and authority of `PUBLIC_URL`; without it, a request's own are used.
    origin: Option<String>,
    /// Host names of this gateway only, for use without an `origin`.
    hosts: Vec<String>,
    bound: IpAddr,
    /// The only authorization server.
    issuer: Option<String>,
}

/// The URI of the endpoint that a request called, formatted on demand.
#[derive(Clone, Copy)]
pub struct ResourceUri<'a> {
    resources: &'a Resources,
    host: Option<&'a str>,
    path: &'a str,
}

/// Protected resource metadata (RFC 9728, section 2).
#[derive(Serialize)]
pub struct Document<'a> {
    resource: String,
    authorization_servers: [&'a str; 1],
    scopes_supported: [&'static str; 1],
    bearer_methods_supported: [&'static str; 1],
    resource_name: String,
}

impl Resources {
    pub fn new(config: &Config) -> Self {
        Self {
            origin: config.public_url().map(|url| url.origin().ascii_serialization()),
            hosts: config.server.allowed_hosts.clone(),
            bound: config.bind_address(),
            issuer: config.auth.issuer_url().map(|_| config.auth.jwt_issuer.clone()),
        }
    }

    /// Returns the authorization server whose tokens are taken, if there is one.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Returns true if a host names this gateway only. A listener on all addresses answers to any address; a
    /// token for a service at another one must not become valid by a request that names it.
    fn is_ours(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || (address == self.bound && !address.is_unspecified()),
            Err(_) => {
                let with_port = url.port().map(|port| format!("{host}:{port}"));
                let is = |name: &String| {
                    name.eq_ignore_ascii_case(host)
                        || with_port.as_ref().is_some_and(|text| name.eq_ignore_ascii_case(text))
                };
                host == "localhost" || self.hosts.iter().any(is)
            }
        }
    }

    /// Returns the endpoint that a request called, whose host was allowed before.
    pub fn of<'a>(&'a self, headers: &'a HeaderMap, uri: &'a Uri) -> ResourceUri<'a> {
        self.at(headers, uri, uri.path())
    }

    /// Returns the endpoint at this path, under the host that a request used.
    pub fn at<'a>(&'a self, headers: &'a HeaderMap, uri: &'a Uri, path: &'a str) -> ResourceUri<'a> {
        let host = host::named(headers, uri).ok().map(|host| host.text);
        let path = if path.starts_with(paths::MCP) { path.trim_end_matches('/') } else { REST };
        ResourceUri { resources: self, host, path }
    }
}

impl ResourceUri<'_> {
    /// Returns the canonical URI: scheme and host in lower case, no default port, no slash at the end.
    pub fn to_text(self) -> String {
        self.origin().unwrap_or_default() + self.path
    }

    /// Returns true if an audience is this endpoint.
    pub fn is(self, audience: &str) -> bool {
        let Ok(url) = Url::parse(audience) else { return false };
        url.fragment().is_none()
            && url.query().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path().trim_end_matches('/') == self.path
            && self.origin().is_some_and(|origin| origin == url.origin().ascii_serialization())
    }

    /// Returns the resource metadata; none without an authorization server, or under a host that may not be
    /// the gateway's own.
    pub fn document(&self) -> Option<Document<'_>> {
        let issuer = self.resources.issuer.as_deref()?;
        let origin = self.origin()?;
        let server = slug(self.path).map(|slug| format!(": {slug}")).unwrap_or_default();
        Some(Document {
            resource: origin + self.path,
            authorization_servers: [issuer],
            scopes_supported: [NEEDED.as_str()],
            bearer_methods_supported: ["header"],
            resource_name: format!("Trunkline{server}"),
        })
    }

    /// Returns the challenge of a refusal; none if a better credential would not help.
    pub fn challenge(self, refusal: &Refusal) -> Option<String> {
        if refusal.code.http() != 401 && refusal.code != Code::MissingScope {
            return None;
        }
        let error = error(refusal);
        let scope = Some(format!("scope=\"{NEEDED}\""));
        let document = self.document_url().map(|url| format!("resource_metadata=\"{url}\""));
        let parameters: Vec<String> = [error, scope, document].into_iter().flatten().collect();
        Some(format!("Bearer {}", parameters.join(", ")))
    }

    fn document_url(self) -> Option<String> {
        self.resources.issuer.as_ref()?;
        Some(format!("{}{WELL_KNOWN}{}", self.origin()?, self.path))
    }

    fn origin(self) -> Option<String> {
        if let Some(origin) = &self.resources.origin {
            return Some(origin.clone());
        }
        let url = Url::parse(&format!("http://{}", self.host?)).ok()?;
        self.resources.is_ours(&url).then(|| url.origin().ascii_serialization())
    }
}

/// Returns the challenge of a 401 without metadata.
pub fn challenge(refusal: &Refusal) -> HeaderValue {
    let error = error(refusal).map(|error| format!("Bearer {error}"));
    let text = error.unwrap_or_else(|| "Bearer".to_owned());
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

/// Returns `error` of a challenge (RFC 6750, section 3); none if no credential was presented.
fn error(refusal: &Refusal) -> Option<String> {
    let error = match refusal.code {
        Code::Unauthenticated => return None,
        Code::MissingScope => "insufficient_scope",
        _ => "invalid_token",
    };
    Some(format!("error=\"{error}\", error_description=\"{}\"", plain(&refusal.reason)))
}

/// Returns a text of the characters that `error_description` may have (RFC 6750, section 3).
fn plain(text: &str) -> String {
    let may = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    text.chars().map(|c| if may(c) { c } else { '\'' }).collect()
}

/// Returns true for the path of an MCP endpoint, whether or not its server exists.
pub fn is_endpoint(path: &str) -> bool {
    path == paths::MCP || path == paths::RPC || slug(path).is_some()
}

fn slug(path: &str) -> Option<Slug> {
    path.strip_prefix(paths::SERVER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(origin: Option<&str>, issuer: Option<&str>) -> Resources {
        Resources {
            origin: origin.map(str::to_owned),
            hosts: vec!["gw.example:8100".to_owned()],
            bound: [0, 0, 0, 0].into(),
            issuer: issuer.map(str::to_owned),
        }
    }

    fn at<'a>(resources: &'a Resources, path: &'a str) -> ResourceUri<'a> {
        ResourceUri { resources, host: Some("LocalHost:80"), path }
    }

    #[test]
    fn an_audience_is_compared_in_its_canonical_form() {
        let known = resources(Some("https://gw.example"), None);
        let uri = at(&known, "/mcp/s/time");
        assert_eq!(uri.to_text(), "https://gw.example/mcp/s/time");
        for same in ["https://gw.example/mcp/s/time", "HTTPS://GW.example:443/mcp/s/time/"] {
            assert!(uri.is(same), "{same}");
        }
        for other in [
            "https://gw.example/mcp",
            "https://gw.example/mcp/s/time2",
            "https://gw.example/mcp/s/time?x",
            "https://gw.example/mcp/s/time#x",
            "https://gw.example/mcp/s/TIME",
            "https://u@gw.example/mcp/s/time",
            "http://gw.example/mcp/s/time",
            "https://gw.example:8443/mcp/s/time",
            "https://evil.example/mcp/s/time",
            "https://gw.example",
            "trunkline",
            "",
        ] {
            assert!(!uri.is(other), "{other}");
        }
    }

    #[test]
    fn without_a_public_url_the_requests_own_host_counts() {
        let known = resources(None, Some("https://id.example"));
        assert_eq!(at(&known, "/mcp").to_text(), "http://localhost/mcp");
        assert!(at(&known, "/mcp").is("http://localhost:80/mcp"));
        let under = |host| ResourceUri { host: Some(host), ..at(&known, "/mcp") };
        assert_eq!(under("GW.example:8100").to_text(), "http://gw.example:8100/mcp");
        for other in ["10.0.0.5", "10.0.0.5:8100", "0.0.0.0:8100", "evil.example", "gw.example:9"] {
            assert!(under(other).document().is_none(), "{other}");
            assert!(!under(other).is(&format!("http://{other}/mcp")), "{other}");
        }
    }

    #[test]
    fn challenges() {
        let known = resources(Some("https://gw.example"), Some("https://id.example"));
        let (uri, document) =
            (at(&known, "/mcp"), "https://gw.example/.well-known/oauth-protected-resource/mcp");
        let challenge = |code| uri.challenge(&Refusal::new(code, "the \"key\" …")).unwrap_or_default();
        let why = "error_description=\"the 'key' '\"";
        let rest = format!("scope=\"tools:call\", resource_metadata=\"{document}\"");
        assert_eq!(challenge(Code::Unauthenticated), format!("Bearer {rest}"));
        assert_eq!(
            challenge(Code::CredentialExpired),
            format!("Bearer error=\"invalid_token\", {why}, {rest}")
        );
        assert_eq!(
            challenge(Code::MissingScope),
            format!("Bearer error=\"insufficient_scope\", {why}, {rest}")
        );
        assert_eq!(uri.challenge(&Refusal::new(Code::TenantMismatch, "")), None);
        let (own, unknown) = (resources(None, None), Refusal::new(Code::Unauthenticated, ""));
        assert_eq!(at(&own, "/mcp").challenge(&unknown).unwrap(), "Bearer scope=\"tools:call\"");
        assert_eq!(super::challenge(&unknown), "Bearer");
    }

    #[test]
    fn endpoints() {
        for path in ["/mcp", "/mcp/rpc", "/mcp/s/time"] {
            assert!(is_endpoint(path), "{path}");
        }
        for path in ["", "/", "/mcp/", "/mcp/s/", "/mcp/s/Time", "/mcp/s/a/b", "/v1", "/mcp/x"] {
            assert!(!is_endpoint(path), "{path}");
        }
    }
}
