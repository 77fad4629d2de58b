//! Refusals: a stable code, a sentence, the rule or fact that decided, its time, and the remedy. This file
//! alone defines codes and statuses.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::SerializeMap;

use crate::outcome::Outcome;

/// A refusal for the caller. Details for the operator are logged, not carried.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: Code,
    /// One sentence for the person or model that reads it.
    pub reason: Cow<'static, str>,
    /// Row or rule that decided.
    pub rule: Option<String>,
    pub since: Option<jiff::Timestamp>,
    pub hint: Option<Cow<'static, str>>,
    /// Time after which a retry makes sense.
    pub retry_after: Option<std::time::Duration>,
    /// Members that a specification demands in an error's `data`.
    pub facts: Option<Box<serde_json::Map<String, serde_json::Value>>>,
}

/// Members of every problem (RFC 9457) or error's `data`.
const MEMBERS: [&str; 12] = [
    "type",
    "title",
    "status",
    "detail",
    "code",
    "reason",
    "rule",
    "since",
    "hint",
    "retryAfterMs",
    "errors",
    "requestId",
];

impl Refusal {
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason: reason.into(),
            rule: None,
            since: None,
            hint: None,
            retry_after: None,
            facts: None,
        }
    }

    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    pub fn since(mut self, since: jiff::Timestamp) -> Self {
        self.since = Some(since);
        self
    }

    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn retry_after(mut self, wait: std::time::Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a member to an error's `data` and to a problem, whose own members it must not replace.
    pub fn fact(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        debug_assert!(!MEMBERS.contains(&name), "`{name}` is a member of every problem");
        self.facts.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }

    /// Returns the next step: the refusal's own hint, else that of its kind.
    pub fn remedy(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.code.remedy())
    }

    /// Returns the members of [`Refusal::data`] without a request's id.
    pub fn members(&self) -> serde_json::Value {
        let mut members = serde_json::to_value(self.data(&"")).expect("plain data");
        if let Some(members) = members.as_object_mut() {
            members.remove("requestId");
        }
        members
    }

    /// Returns the members of a JSON-RPC error's `data`, with the request's id.
    pub fn data<'a>(&'a self, request: &'a dyn std::fmt::Display) -> RefusalData<'a> {
        RefusalData { refusal: self, request }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.reason)
    }
}

impl std::error::Error for Refusal {}

/// Members of [`Refusal::data`].
pub struct RefusalData<'a> {
    refusal: &'a Refusal,
    request: &'a dyn std::fmt::Display,
}

impl Serialize for RefusalData<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let refusal = self.refusal;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", refusal.code.as_str())?;
        map.serialize_entry("reason", &refusal.reason)?;
        if let Some(rule) = &refusal.rule {
            map.serialize_entry("rule", rule)?;
        }
        if let Some(since) = &refusal.since {
            map.serialize_entry("since", since)?;
        }
        map.serialize_entry("hint", refusal.remedy())?;
        if let Some(wait) = refusal.retry_after {
            map.serialize_entry("retryAfterMs", &(wait.as_millis() as u64))?;
        }
        for (name, value) in refusal.facts.iter().flat_map(|facts| facts.iter()) {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("requestId", &self.request.to_string())?;
        map.end()
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $http:literal $rpc:literal $outcome:ident $remedy:literal;)*) => {
        /// Kind of refusal: its text, its HTTP status on REST, its JSON-RPC code, the outcome of a recorded
        /// call, and the remedy where a refusal names none of its own.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            pub fn as_str(self) -> &'static str { match self { $(Code::$name => $text,)* } }

            /// Returns the status of a REST answer (RFC 9110).
            pub fn http(self) -> u16 { match self { $(Code::$name => $http,)* } }

            /// Returns the code of a JSON-RPC error. Our own lie outside -32768..-32000, which the
            /// specifications reserve.
            pub fn rpc(self) -> i32 { match self { $(Code::$name => $rpc,)* } }

            pub fn outcome(self) -> Outcome { match self { $(Code::$name => Outcome::$outcome,)* } }

            /// Returns the next step for a caller who is refused so.
            pub fn remedy(self) -> &'static str { match self { $(Code::$name => $remedy,)* } }
        }
    };
}

codes! {
    ParseError "parse_error" 400 -32700 ProtocolError
        "send JSON (RFC 8259) in UTF-8";
    InvalidRequest "invalid_request" 400 -32600 ProtocolError
        "send a JSON-RPC 2.0 request: `jsonrpc`, `id`, `method`, `params`";
    MethodNotFound "method_not_found" 404 -32601 ProtocolError
        "use a method that the server declares in its capabilities";
    InvalidParams "invalid_params" 422 -32602 ProtocolError
        "correct the parameters that the reason names";
    UnknownTool "unknown_tool" 404 -32602 ProtocolError
        "`tools/list` has the names of the tools";
    UnknownServer "unknown_server" 404 40400 ProtocolError
        "GET /v1/mcp/servers lists the servers";
    /// A resource or prompt that no visible server has.
    UnknownItem "unknown_item" 404 -32602 ProtocolError
        "`resources/list` and `prompts/list` have the names";
    BadRequest "bad_request" 400 -32600 ProtocolError
        "correct the part of the request that the reason names";
    ValidationFailed "validation_failed" 422 -32602 ProtocolError
        "correct the members that the reason names";
    NotFound "not_found" 404 40400 ProtocolError
        "check the id; what belongs to another tenant is not found either";
    MethodNotAllowed "method_not_allowed" 405 -32600 ProtocolError
        "use a method that the header `Allow` names";
    BodyTooLarge "body_too_large" 413 -32600 ProtocolError
        "send less at once, or ask the operator for a higher limit";
    UnsupportedMediaType "unsupported_media_type" 415 -32600 ProtocolError
        "send `Content-Type: application/json`";
    /// Absence of any form of response that the caller accepts.
    NotAcceptable "not_acceptable" 406 -32600 ProtocolError
        "accept `application/json` and `text/event-stream`";
    /// A modern request without the `_meta` that it needs.
    MissingMeta "missing_meta" 400 -32602 ProtocolError
        "send the `_meta` members that the reason names with each request";
    /// An HTTP header that differs from the body (2026-07-28).
    HeaderMismatch "header_mismatch" 400 -32020 ProtocolError
        "make the header and the body say the same";
    /// A server request that this client did not declare the capability for (2026-07-28).
    MissingCapability "missing_capability" 400 -32021 ProtocolError
        "declare the capability, or use another tool";
    UnsupportedVersion "unsupported_version" 400 -32022 ProtocolError
        "use one of the protocol versions that the answer names";
    /// A legacy request that needs an `Mcp-Session-Id` and has none.
    SessionRequired "session_required" 400 -32600 ProtocolError
        "send `initialize` first, and its `Mcp-Session-Id` with each request";
    /// A session that does not exist, is another caller's, or is over.
    SessionNotFound "session_not_found" 404 40400 ProtocolError
        "begin a new session with `initialize`";

    Unauthenticated "unauthenticated" 401 40100 Denied
        "send an API key as `X-MCP-Key`, or a token as `Authorization: Bearer`";
    InvalidCredential "invalid_credential" 401 40100 Denied
        "check the key or token; the operator can make a new one";
    CredentialExpired "credential_expired" 401 40100 Denied
        "get a new key or token";
    CredentialRevoked "credential_revoked" 401 40100 Denied
        "get a new key or token";
    MissingScope "missing_scope" 403 40300 Denied
        "use a credential with this scope, or ask an administrator of the tenant for one";
    HostNotAllowed "host_not_allowed" 403 40300 Denied
        "use a host name that the gateway knows, or have it added to ALLOWED_HOSTS";
    OriginNotAllowed "origin_not_allowed" 403 40300 Denied
        "have the origin added to ALLOWED_ORIGINS";
    AgentMismatch "agent_mismatch" 403 40300 Denied
        "leave the agent out: the credential names it";
    TenantMismatch "tenant_mismatch" 403 40300 Denied
        "leave the tenant out: the credential names it";
    CommandNotAllowed "command_not_allowed" 403 40300 Denied
        "use an allowed command, or ask the operator to allow this one";
    /// A config row that blocks the tool or the server, or does not allow the tool.
    DeniedByPolicy "denied_by_policy" 403 40300 Denied
        "a caller with configs:write can change the config that the rule names";
    ServerDisabled "server_disabled" 403 40300 Denied
        "a caller with servers:write can enable it: PATCH /v1/mcp/servers/{id}";

    Conflict "conflict" 409 40900 ProtocolError
        "look at what is there now, and repeat the change if it still makes sense";
    SlugTaken "slug_taken" 409 40900 ProtocolError
        "choose another slug, or change the one that has it";
    ManagedByConfig "managed_by_config" 409 40900 ProtocolError
        "change it in the gateway's configuration file";
    /// A path of a workspace that another agent holds a lease of.
    LeaseHeld "lease_held" 409 40900 ProtocolError
        "wait for the lease, or work on another file";
    /// A task or file that is not in the version that the change builds on.
    VersionConflict "version_conflict" 409 40900 ProtocolError
        "read it again, and repeat the change on what is there now";
    /// A lease that was released or expired.
    StaleToken "stale_token" 409 40900 ProtocolError
        "claim the file again, and read it before writing";
    PreconditionFailed "precondition_failed" 412 40900 ProtocolError
        "read it again, and send the `ETag` of that answer";

    RateLimited "rate_limited" 429 42900 Limited
        "try again after the time that the answer names";
    ConcurrencyLimited "concurrency_limited" 429 42900 Limited
        "try again when a call has ended";
    Cancelled "cancelled" 499 49900 Cancelled
        "send the request again if its result is still wanted";

    /// Failure of the tool itself, an error only in `mcp.execute`.
    ToolFailed "tool_failed" 502 50200 ToolError
        "read the tool's own message, and call it again with other arguments";
    /// Protocol violation or death of the upstream during the call.
    UpstreamFailed "upstream_failed" 502 50200 Unavailable
        "try again; GET /v1/mcp/servers/{id}/logs has the server's own words";
    /// Response of the upstream that no client can read.
    UnreadableAnswer "unreadable_answer" 502 50200 ProtocolError
        "report it to those who make the server; GET /v1/mcp/servers/{id}/logs has its own words";
    /// A result over the size that a config allows; the call itself was carried out.
    ResultTooLarge "result_too_large" 502 50200 ProtocolError
        "ask for less at once";
    /// Failure to start or reach the upstream.
    UpstreamUnavailable "upstream_unavailable" 503 50300 Unavailable
        "try again in a moment; POST /v1/mcp/servers/{id}/health says what is wrong";
    /// Open circuit breaker.
    CircuitOpen "circuit_open" 503 50300 Unavailable
        "try again after the time that the answer names; the server failed several times in a row";
    ServerStopped "server_stopped" 409 50300 Unavailable
        "a caller with servers:write can start it: POST /v1/mcp/servers/{id}/start";
    NotConfigured "not_configured" 409 50300 Unavailable
        "set what the reason names, and start the server again";
    RecordUnavailable "record_unavailable" 503 50300 Unavailable
        "try again in a moment; GET /ready says what is away";
    DatabaseUnavailable "database_unavailable" 503 50300 Unavailable
        "try again in a moment; GET /ready says what is away";
    StateUnavailable "state_unavailable" 503 50300 Unavailable
        "try again in a moment; GET /ready says what is away";
    ShuttingDown "shutting_down" 503 50300 Unavailable
        "try again in a moment, at another replica or after the restart";
    TimedOut "timed_out" 504 50400 TimedOut
        "try again, with a longer time or less work in one call";
    Internal "internal" 500 -32603 ProtocolError
        "try again; the gateway's log has the cause under the request id";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_ours_lie_outside_the_reserved_range() {
        let texts: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            let rpc = code.rpc();
            let of_the_specification = -32022..=-32020;
            assert!(
                rpc > 0
                    || of_the_specification.contains(&rpc)
                    || [-32700, -32600, -32601, -32602, -32603].contains(&rpc),
                "{code:?}"
            );
        }
    }
}
