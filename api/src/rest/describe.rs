//! OpenAPI parts that all routes share: schemas of texts, and problems.

use std::collections::BTreeMap;

use protocol::Scope;
use serde_json::{Value, json};
use utoipa::IntoResponses;
use utoipa::openapi::{Ref, RefOr, Response};

use crate::rest::input::form::{MAX_LIFE_SECONDS, attempts, words};

/// Gives a type its name in the document, and its schema as JSON.
macro_rules! described {
    ($type:ty as $name:expr, $schema:expr) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                serde_json::from_value($schema).expect("a schema of this program can be read")
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
        }
    };
}
pub(crate) use described;

/// Makes a type that stands for a body in attributes: its name in the document, the table that reads and
/// describes the body, a description, and an example.
macro_rules! body {
    ($type:ident as $name:literal, $table:expr, $about:literal, $example:tt) => {
        #[doc = $about]
        pub struct $type;
        $crate::rest::describe::described!(
            $type as $name,
            $crate::rest::input::Fields::describe($table, $about, &serde_json::json!($example))
        );
    };
}
pub(crate) use body;

/// Makes types that stand for schemas in attributes, and the list of them.
macro_rules! shared {
    ($($name:ident $schema:expr;)*) => {
        $(
            #[doc = concat!("The schema `", stringify!($name), "`.")]
            pub struct $name;
            $crate::rest::describe::described!($name as stringify!($name), $schema);
        )*

        /// Returns each of these schemas with its name in the document.
        pub fn schemas() -> Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)> {
            vec![$((stringify!($name).to_owned(), <$name as utoipa::PartialSchema>::schema())),*]
        }
    };
}
pub(crate) use shared;

shared! {
    TenantIdText id("Names a tenant.", "ten");
    AgentIdText id("Names an agent.", "agt");
    ServerIdText id("Names a server.", "srv");
    ConfigIdText id("Names a config.", "cfg");
    KeyIdText id("Names an API key.", "key");
    ExecutionIdText id("Names an execution.", "exe");
    AuditIdText id("Names an audit event.", "aud");
    RequestIdText id("Names a request.", "req");
    ServerSlug text("A server's short name; its tools are called `slug__tool`.", protocol::Slug::PATTERN, "time");
    AgentSlug text("An agent's short name.", "^[A-Za-z0-9_.:@-]{1,64}$", "coder-1");
    TenantSlug text("A tenant's short name.", "^[a-z0-9][a-z0-9-]{0,62}$", "acme");
    ScopeText text("One thing that a credential may do.", &words(Scope::ALL.map(Scope::as_str)), "tools:call");
    Moment json!({
        "type": "string", "format": "date-time", "description": "A time, RFC 3339, UTC.",
        "examples": ["2026-01-31T12:00:00.123456Z"],
    });
    Life json!({
        "description": "Seconds, or a text such as `90s`, `15m`, `12h` or `7d`; at most 30 days.",
        "oneOf": [
            {"type": "integer", "minimum": 1, "maximum": MAX_LIFE_SECONDS},
            {"type": "string", "pattern": "^[0-9]+[smhd]$"},
        ],
    });
    Retry json!({
        "type": "object", "description": "How often a call that may be repeated is tried again.",
        "required": ["attempts"], "properties": {"attempts": attempts().schema},
    });
    ChildResources json!({
        "type": "object", "description": "Limits of a child process.", "additionalProperties": false,
        "properties": {
            "memoryMb": {"type": "integer", "minimum": 1, "maximum": 1_u64 << 40},
            "openFiles": {"type": "integer", "minimum": 1, "maximum": 1_u64 << 40},
            "cpuSeconds": {"type": "integer", "minimum": 1, "maximum": 1_u64 << 40},
        },
    });
    SetBody json!({
        "type": "object", "description": "What is shown of a secret value.",
        "required": ["set"], "properties": {"set": {"type": "boolean", "example": true}},
    });
}

fn id(about: &str, prefix: &str) -> Value {
    let (pattern, example) = ("_[0-9a-f]{32}$", "_0190f5d2c3a47b6e8f1a2b3c4d5e6f70");
    text(about, &format!("^{prefix}{pattern}"), &format!("{prefix}{example}"))
}

fn text(about: &str, pattern: &str, example: &str) -> Value {
    json!({"type": "string", "description": about, "pattern": pattern, "examples": [example]})
}

macro_rules! statuses {
    ($($(#[doc = $doc:literal])* $name:ident { $($status:literal $component:literal $description:literal;)* })*) => {
        $($(#[doc = $doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$((
                    stringify!($status).to_owned(),
                    RefOr::Ref(Ref::from_response_name($component)),
                )),*])
            }
        })*

        /// Every problem, by its name in the document, with what it means.
        pub const PROBLEMS: &[(&str, &str)] = &[$($(($component, $description),)*)*];
    };
}

statuses! {
    /// Problems of every route.
    Always {
        400 "BadRequest" "The query or the body cannot be read: `bad_request`, `parse_error`.";
        401 "Unauthenticated" "No credential, or one that is not valid: `unauthenticated`, `invalid_credential`, `credential_expired`, `credential_revoked`.";
        403 "Forbidden" "Not allowed; `rule` says by what: `missing_scope`, `command_not_allowed`, `tenant_mismatch`, `agent_mismatch`, `host_not_allowed`, `origin_not_allowed`, `server_disabled`.";
        429 "TooMany" "Too often; `Retry-After` says when it may be tried again: `rate_limited`.";
        500 "Internal" "The gateway failed, and logged why under the request's id: `internal`.";
        503 "Unavailable" "Something that is needed is away: `database_unavailable`, `state_unavailable`, `record_unavailable`, `upstream_unavailable`, `circuit_open`, `shutting_down`.";
    }
    /// Problems of routes with a query or a body.
    Filtered {
        422 "Invalid" "Fields or parameters are wrong; `errors` names each of them: `validation_failed`.";
    }
    /// Problems of routes with an id.
    Named {
        404 "NotFound" "There is no such thing, or it is another tenant's: `not_found`.";
    }
    /// Problems of routes that take a body.
    Sent {
        413 "TooLarge" "The body is larger than the gateway takes: `body_too_large`.";
        415 "NotJson" "The body is not `application/json`: `unsupported_media_type`.";
    }
    /// Problems of changes that conflict with other rows.
    Contested {
        409 "Conflict" "It is taken, exists already, is changed elsewhere, or is not in the state for it: `slug_taken`, `conflict`, `managed_by_config`, `server_stopped`, `not_configured`; of tasks `lease_held`, `version_conflict`, `stale_token`.";
    }
    /// Problems of conditional changes.
    Conditional {
        412 "Changed" "It is not what `If-Match` says: `precondition_failed`.";
    }
    /// Problems of routes that call a server.
    Asked {
        502 "UpstreamFailed" "The server broke the protocol or died: `upstream_failed`; its answer cannot be read: `unreadable_answer`.";
        504 "TimedOut" "The server did not answer in time: `timed_out`.";
    }
}
