//! A server as REST shows it: the row, how it is doing, and which others it meets. Of secrets it
//! shows the names.

use entity::{Server, ServerSettings, Transport};
use jiff::Timestamp;
use protocol::{ServerId, Slug};
use proxy::pool::State;
use proxy::view::TenantView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Moment, ServerIdText, ServerSlug};
use crate::rest::servers::forms::SettingsBody;

/// A registered MCP server.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Server)]
pub struct ServerBody {
    #[schema(value_type = ServerIdText)]
    pub id: ServerId,
    #[schema(value_type = ServerSlug)]
    pub slug: Slug,
    #[schema(pattern = "^(builtin|stdio|streamable-http|websocket)$")]
    pub transport: &'static str,
    #[serde(flatten)]
    #[schema(value_type = SettingsBody)]
    pub settings: ServerSettings,
    /// Which protocol revisions it was found to speak; null as long as that was not needed.
    pub era_found: Option<EraFoundBody>,
    /// Whether it is the tenant's own or offered to all.
    #[schema(pattern = "^(tenant|global)$")]
    pub scope: &'static str,
    /// Where it is changed: here, in the configuration file, or nowhere.
    #[schema(pattern = "^(rest|config|builtin)$")]
    pub managed_by: &'static str,
    /// How it is doing for this tenant.
    #[schema(pattern = "^(healthy|degraded|unhealthy|unknown|stopped|not_configured)$")]
    pub state: &'static str,
    /// Why, when there is more to say than the state.
    pub state_reason: Option<String>,
    #[schema(value_type = Moment)]
    pub state_since: Timestamp,
    /// Raised by each change of what is launched.
    pub revision: i32,
    /// How many tools the last discovery found.
    pub tools_count: Option<i32>,
    #[schema(value_type = Option<Moment>)]
    pub last_used_at: Option<Timestamp>,
    #[schema(value_type = Moment)]
    pub created_at: Timestamp,
    #[schema(value_type = Moment)]
    pub updated_at: Timestamp,
    /// The global server of the same slug that this one hides from the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServerIdText>)]
    pub hides: Option<ServerId>,
    /// The tenant's own server of the same slug that hides this global one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServerIdText>)]
    pub hidden_by: Option<ServerId>,
}

/// What was found out about a server that does not say it by `era`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EraFound)]
pub struct EraFoundBody {
    #[schema(pattern = "^(legacy|modern|dual)$")]
    pub eras: &'static str,
    #[schema(value_type = Moment)]
    pub found_at: Timestamp,
}

/// How a server is doing, in the words of its row.
pub struct Doing {
    pub state: State,
    pub reason: Option<String>,
    pub since: Timestamp,
}

/// Shows servers to one caller.
pub struct Showing<'a> {
    app: &'a App,
    acting: &'a Acting,
    view: std::sync::Arc<TenantView>,
}

impl<'a> Showing<'a> {
    pub async fn to(app: &'a App, acting: &'a Acting) -> Result<Self, Problem> {
        let view = app.gateway.upstreams.directory.view(acting.tenant()).await?;
        Ok(Self { app, acting, view })
    }

    pub fn server(&self, row: Server) -> ServerBody {
        let doing = self.doing(&row);
        let (hides, hidden_by) = self.namesakes(&row);
        let era_found = self.era_found(&row);
        ServerBody {
            id: row.id,
            slug: row.slug,
            transport: row.transport.as_str(),
            settings: row.settings,
            era_found,
            scope: if row.tenant.is_some() { "tenant" } else { "global" },
            managed_by: row.managed_by.as_str(),
            state: doing.state.as_str(),
            state_reason: doing.reason,
            state_since: doing.since,
            revision: row.revision,
            tools_count: row.tools_count,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            hides,
            hidden_by,
        }
    }

    /// The upstream's own state, unless the row itself keeps it from running.
    pub fn doing(&self, row: &Server) -> Doing {
        let held =
            |state, reason: &str| Doing { state, reason: Some(reason.to_owned()), since: row.updated_at };
        match row.transport {
            _ if !row.settings.enabled => held(State::Stopped, "it is switched off: `enabled` is false"),
            Transport::Builtin | Transport::Stdio | Transport::StreamableHttp | Transport::Websocket => {
                let status = self.app.gateway.upstreams.pool.status(self.acting.tenant(), row.id);
                let since = status.since.max(row.created_at);
                Doing { state: status.state, reason: status.reason, since }
            }
        }
    }

    /// What this replica found is newer than what is written down.
    fn era_found(&self, row: &Server) -> Option<EraFoundBody> {
        let member = self.view.find(row.slug.as_str()).filter(|member| member.spec.id == row.id);
        let here = member.and_then(|member| self.app.gateway.upstreams.pool.found(&member.spec));
        let here = here.map(|found| (found.eras, found.found_at));
        let (eras, found_at) = here.or(row.eras_found.map(|found| (found.eras, found.at)))?;
        Some(EraFoundBody { eras: eras.as_str(), found_at })
    }

    fn namesakes(&self, row: &Server) -> (Option<ServerId>, Option<ServerId>) {
        match self.view.find(row.slug.as_str()) {
            Some(member) if member.spec.id == row.id => (member.hides, None),
            Some(member) if row.tenant.is_none() => (None, Some(member.spec.id)),
            Some(_) | None => (None, None),
        }
    }
}

/// The ETag (RFC 9110, section 8.8.3) of a row: another one after each change of it.
pub fn etag(row: &Server) -> String {
    format!("\"{}-{:x}\"", row.revision, row.updated_at.as_microsecond())
}
