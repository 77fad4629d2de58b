//! How the OpenAPI document speaks of what all routes share: forms of texts, and what can go wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;

use utoipa::openapi::{ObjectBuilder, Ref, RefOr, Response, Schema, SchemaFormat, Type};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident $pattern:expr, $example:literal;)*) => {$(
        $(#[doc = $doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some(concat!($($doc),*).trim()))
                    .pattern(Some($pattern))
                    .examples([serde_json::Value::from($example)])
                    .build()
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*

        /// Every form, by its name in the document.
        pub fn texts() -> Vec<(String, RefOr<Schema>)> {
            vec![$((stringify!($name).to_owned(), $name::schema()),)* ("Moment".to_owned(), Moment::schema())]
        }
    };
}

texts! {
    /// Names a tenant.
    TenantIdText "^ten_[0-9a-f]{32}$", "ten_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// Names an agent.
    AgentIdText "^agt_[0-9a-f]{32}$", "agt_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// Names a server.
    ServerIdText "^srv_[0-9a-f]{32}$", "srv_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// Names a config.
    ConfigIdText "^cfg_[0-9a-f]{32}$", "cfg_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// Names an API key.
    KeyIdText "^key_[0-9a-f]{32}$", "key_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// Names an execution.
    ExecutionIdText "^exe_[0-9a-f]{32}$", "exe_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// Names an audit event.
    AuditIdText "^aud_[0-9a-f]{32}$", "aud_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// Names a request.
    RequestIdText "^req_[0-9a-f]{32}$", "req_0190f5d2c3a47b6e8f1a2b3c4d5e6f70";
    /// A server's short name; its tools are called `slug__tool`.
    ServerSlug protocol::Slug::PATTERN, "time";
    /// An agent's short name.
    AgentSlug "^[A-Za-z0-9_.:@-]{1,64}$", "coder-1";
    /// A tenant's short name.
    TenantSlug "^[a-z0-9][a-z0-9-]{0,62}$", "acme";
    /// One thing that a credential may do.
    ScopeText "^(tools:call|servers:read|servers:write|servers:launch|configs:write|executions:read|tasks:read|tasks:write|marketplace:publish|tenants:admin)$", "tools:call";
}

/// A time, RFC 3339, UTC.
pub struct Moment;

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)))
            .description(Some("A time, RFC 3339, UTC."))
            .examples([serde_json::Value::from("2026-01-31T12:00:00.123456Z")])
            .build()
            .into()
    }
}

impl ToSchema for Moment {
    fn name() -> Cow<'static, str> {
        "Moment".into()
    }
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
    /// What any route can answer.
    Always {
        400 "BadRequest" "The query or the body cannot be read: `bad_request`, `parse_error`.";
        401 "Unauthenticated" "No credential, or one that is not valid: `unauthenticated`, `invalid_credential`, `credential_expired`, `credential_revoked`.";
        403 "Forbidden" "Not allowed; `rule` says by what: `missing_scope`, `command_not_allowed`, `tenant_mismatch`, `agent_mismatch`, `host_not_allowed`, `origin_not_allowed`, `server_disabled`.";
        429 "TooMany" "Too often; `Retry-After` says when it may be tried again: `rate_limited`.";
        500 "Internal" "The gateway failed, and logged why under the request's id: `internal`.";
        503 "Unavailable" "Something that is needed is away: `database_unavailable`, `state_unavailable`, `record_unavailable`, `upstream_unavailable`, `circuit_open`, `server_stopped`, `not_configured`, `shutting_down`.";
    }
    /// Of routes with a query or a body.
    Filtered {
        422 "Invalid" "Fields or parameters are wrong; `errors` names each of them: `validation_failed`.";
    }
    /// Of routes with an id.
    Named {
        404 "NotFound" "There is no such thing, or it is another tenant's: `not_found`.";
    }
    /// Of routes that can be sent a body.
    Sent {
        413 "TooLarge" "The body is larger than the gateway takes: `body_too_large`.";
        415 "NotJson" "The body is not `application/json`: `unsupported_media_type`.";
    }
    /// Of changes that others can stand in the way of.
    Contested {
        409 "Conflict" "It is taken, exists already, or is changed elsewhere: `slug_taken`, `conflict`, `managed_by_config`.";
    }
    /// Of changes under a condition.
    Conditional {
        412 "Changed" "It is not what `If-Match` says: `precondition_failed`.";
    }
    /// Of routes that ask a server.
    Asked {
        502 "UpstreamFailed" "The server broke the protocol or died: `upstream_failed`; its answer cannot be read: `unreadable_answer`.";
        504 "TimedOut" "The server did not answer in time: `timed_out`.";
    }
}

/// A length of time, as a body gives it.
pub struct Life;

impl PartialSchema for Life {
    fn schema() -> RefOr<Schema> {
        let seconds =
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(2_592_000));
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+[smhd]$"));
        utoipa::openapi::OneOfBuilder::new()
            .item(seconds)
            .item(text)
            .description(Some("Seconds, or a text such as `90s`, `15m`, `12h` or `7d`; at most 30 days."))
            .into()
    }
}

impl ToSchema for Life {
    fn name() -> Cow<'static, str> {
        "Life".into()
    }
}

/// Fails unless the schema has just the members that a reader listed when it met an unknown one.
#[cfg(test)]
pub fn same_members<T: ToSchema>(refused: crate::http::problem::Problem) {
    let said = refused.refusal().reason.clone();
    let (_, listed) = said.rsplit_once("the members are ").expect("the reader lists its members");
    let mut listed: Vec<&str> = listed.split(", ").collect();
    let schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let members = schema["properties"].as_object().expect("an object");
    let mut described: Vec<&str> = members.keys().map(String::as_str).collect();
    listed.sort_unstable();
    described.sort_unstable();
    assert_eq!(listed, described);
}
