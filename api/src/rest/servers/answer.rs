//! Servers in REST answers: the row, its state, and the servers of the same slug. Of secrets, only the names
//! are shown.

use std::collections::HashMap;
use std::sync::Arc;

use entity::{Server, ServerSettings, ServerUsage};
use jiff::Timestamp;
use protocol::{ServerId, Slug};
use proxy::bridge::Client;
use proxy::catalog::{ListKind, Listing};
use proxy::pool::State;
use proxy::view::TenantView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::pipeline::upstreams::Upstreams;
use crate::rest::acting::Acting;
use crate::rest::describe::{Moment, ServerIdText, ServerSlug};
use crate::rest::servers::definitions::DefinitionsBody;
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
    /// The protocol revisions found at the server; null as long as they were not needed.
    pub era_found: Option<EraFoundBody>,
    /// `tenant` for the tenant's own server, `global` for one that is offered to all.
    #[schema(pattern = "^(tenant|global)$")]
    pub scope: &'static str,
    /// The place where the server is changed: here, in the configuration file, or nowhere.
    #[schema(pattern = "^(rest|config|builtin)$")]
    pub managed_by: &'static str,
    /// The server's state for this tenant.
    #[schema(pattern = "^(healthy|degraded|unhealthy|unknown|stopped|not_configured)$")]
    pub state: &'static str,
    /// The reason for the state, if there is one.
    pub state_reason: Option<String>,
    #[schema(value_type = Moment)]
    pub state_since: Timestamp,
    /// Time of the server's last good answer to the tenant, or to the gateway itself: a handshake, a request or a
    /// check. It is kept over restarts of the gateway.
    #[schema(value_type = Option<Moment>)]
    pub last_success_at: Option<Timestamp>,
    /// Raised by each change of what is launched.
    pub revision: i32,
    /// Number of tools that the tenant's last discovery found.
    pub tools_count: Option<i32>,
    /// Time of the tenant's last use.
    #[schema(value_type = Option<Moment>)]
    pub last_used_at: Option<Timestamp>,
    #[schema(value_type = Moment)]
    pub created_at: Timestamp,
    #[schema(value_type = Moment)]
    pub updated_at: Timestamp,
    /// Warnings about the definitions of the server's last lists; in the answer about one server only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definitions: Option<DefinitionsBody>,
    /// The global server of the same slug that this one hides from the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServerIdText>)]
    pub hides: Option<ServerId>,
    /// The tenant's own server of the same slug that hides this global one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServerIdText>)]
    pub hidden_by: Option<ServerId>,
}

/// The eras found at a server that does not set `era`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EraFound)]
pub struct EraFoundBody {
    #[schema(pattern = "^(legacy|modern|dual)$")]
    pub eras: &'static str,
    #[schema(value_type = Moment)]
    pub found_at: Timestamp,
}

/// State of a server, by the names of its row.
pub struct ServerStatus {
    pub state: State,
    pub reason: Option<String>,
    pub since: Timestamp,
    pub last_success: Option<Timestamp>,
}

/// Renders servers for one caller.
pub struct Showing<'a> {
    app: &'a App,
    acting: &'a Acting,
    view: Arc<TenantView>,
    usage: HashMap<ServerId, ServerUsage>,
}

impl<'a> Showing<'a> {
    pub async fn to(app: &'a App, acting: &'a Acting) -> Result<Self, Problem> {
        let view = app.gateway.upstreams.directory.view(acting.tenant()).await?;
        let usage = acting.rows(app).server_usage().await.map_err(Problem::of("server"))?;
        Ok(Self { app, acting, view, usage })
    }

    pub fn server(&self, row: Server) -> ServerBody {
        let status = self.status(&row);
        let (hides, hidden_by) = self.namesakes(&row);
        let era_found = self.era_found(&row);
        let usage = self.usage.get(&row.id).cloned().unwrap_or_default();
        ServerBody {
            id: row.id,
            slug: row.slug,
            transport: row.transport.as_str(),
            settings: row.settings,
            era_found,
            scope: if row.tenant.is_some() { "tenant" } else { "global" },
            managed_by: row.managed_by.as_str(),
            state: status.state.as_str(),
            state_reason: status.reason,
            state_since: status.since,
            last_success_at: status.last_success,
            revision: row.revision,
            tools_count: usage.tools_count,
            last_used_at: usage.last_used_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            definitions: None,
            hides,
            hidden_by,
        }
    }

    /// Renders a server with what its last lists show about its definitions.
    pub fn with_definitions(&self, row: Server) -> ServerBody {
        let Upstreams { bridge, catalog, .. } = &self.app.gateway.upstreams;
        let member = self.view.find(row.slug.as_str()).filter(|member| member.spec.id == row.id);
        let lists: Vec<(ListKind, Arc<Listing>)> = member.map_or_else(Vec::new, |member| {
            let spec = member.spec_for(self.acting.caller.agent);
            let key = bridge.list_key(self.acting.tenant(), spec, &Client::plain());
            let known = |kind| Some((kind, catalog.known_or_last(&key, kind)?));
            ListKind::ALL.into_iter().filter_map(known).collect()
        });
        let lists = lists.iter().map(|(kind, listing)| (*kind, &**listing));
        let policy = member.map(|member| member.policy(self.acting.caller.agent));
        let definitions = Some(DefinitionsBody::of(row.id, policy.as_ref(), lists));
        ServerBody { definitions, ..self.server(row) }
    }

    /// Returns the upstream's own state, unless the row itself keeps it from running.
    pub fn status(&self, row: &Server) -> ServerStatus {
        let status = self.app.gateway.upstreams.pool.status(self.acting.tenant(), row.id, row.provider());
        let stored = self.usage.get(&row.id).and_then(|usage| usage.last_success_at);
        let last_success = status.last_success.max(stored);
        if !row.settings.enabled {
            let reason = Some("it is switched off: `enabled` is false".to_owned());
            return ServerStatus { state: State::Stopped, reason, since: row.updated_at, last_success };
        }
        let since = status.since.max(row.created_at);
        ServerStatus { state: status.state, reason: status.reason, since, last_success }
    }

    /// Returns the found eras: those of this replica are newer than the row's.
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

/// Returns the ETag (RFC 9110, section 8.8.3) of a row, which each change replaces.
pub fn etag(row: &Server) -> String {
    format!("\"{}-{:x}\"", row.revision, row.updated_at.as_microsecond())
}
