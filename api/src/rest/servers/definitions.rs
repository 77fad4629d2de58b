//! Definitions of a server in REST answers: those that are left out of lists of all servers, and those that
//! are unusual or known to fail at some clients.

use jiff::Timestamp;
use protocol::ServerId;
use proxy::catalog::definition::{LeftOut, Warning};
use proxy::catalog::{ListKind, Listing};
use proxy::policy::Policy;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::rest::describe::Moment;

/// Warnings about the definitions of a server's last lists.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Definitions)]
pub struct DefinitionsBody {
    #[schema(value_type = Option<Moment>)]
    pub listed_at: Option<Timestamp>,
    pub warnings: Vec<WarningBody>,
    pub left_out: Vec<LeftOutBody>,
}

/// Something unusual about a definition.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DefinitionWarning)]
pub struct WarningBody {
    #[schema(example = "tools")]
    list: &'static str,
    /// The server's own name.
    name: String,
    #[schema(example = "parameter_starts_with_underscore")]
    code: &'static str,
    /// Member and value that the warning is about.
    detail: String,
    /// Clients that are known to fail at it, with version and consequence.
    clients: &'static [&'static str],
    /// Body of `POST /v1/mcp/configs` that hides the tool from one agent, whose id is to be filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    hide_by: Option<Value>,
}

/// A definition that strict clients refuse, with all others of its list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LeftOutDefinition)]
pub struct LeftOutBody {
    #[schema(example = "tools")]
    list: &'static str,
    /// The server's own name, if there is one.
    name: Option<String>,
    reason: String,
}

impl DefinitionsBody {
    /// Describes the definitions of these lists, but for tools that the policy hides from the caller.
    pub fn of<'a>(
        server: ServerId,
        policy: Option<&Policy>,
        lists: impl Iterator<Item = (ListKind, &'a Listing)>,
    ) -> Self {
        let mut body = Self { listed_at: None, warnings: Vec::new(), left_out: Vec::new() };
        for (kind, listing) in lists {
            let list = kind.member();
            let at = listing.listed_at;
            body.listed_at = Some(body.listed_at.map_or(at, |earliest| earliest.min(at)));
            let is_shown = |name: Option<&str>| policy.is_none_or(|policy| policy.shows(kind, name));
            let warnings = listing.warnings().into_iter().filter(|(name, _)| is_shown(Some(name)));
            body.warnings
                .extend(warnings.map(|(name, warning)| WarningBody::of(server, kind, name, warning)));
            let left_out = |LeftOut { name, reason }: &LeftOut| LeftOutBody {
                list,
                name: name.clone(),
                reason: reason.clone(),
            };
            let shown = |left_out: &&LeftOut| is_shown(left_out.name.as_deref());
            body.left_out.extend(listing.left_out.iter().filter(shown).map(left_out));
        }
        body
    }
}

impl WarningBody {
    fn of(server: ServerId, kind: ListKind, name: &str, warning: Warning) -> Self {
        let fails = !warning.clients.is_empty() && !warning.is_repaired();
        Self {
            list: kind.member(),
            name: name.to_owned(),
            hide_by: (fails && kind == ListKind::Tools)
                .then(|| json!({ "serverId": server, "agentId": null, "blockedTools": [name] })),
            code: warning.code,
            detail: warning.detail,
            clients: warning.clients,
        }
    }
}
