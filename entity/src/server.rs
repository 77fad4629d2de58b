//! MCP servers in the registry, as rows. Their meaning for a call is decided elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::mcp::Eras;
use protocol::{ServerId, Slug, TenantId};
use serde_json::Value;

use crate::error::DbError;
use crate::secrets::Secrets;
use crate::server_settings::{ServerPatch, ServerSettings};

/// A registry entry: an MCP server with a local slug.
#[derive(Clone, Debug)]
pub struct Server {
    pub id: ServerId,
    /// Owner; `None` for a global server: the operator's, offered to all tenants.
    pub tenant: Option<TenantId>,
    /// Name, unique per tenant among rows not deleted; a tenant's own hides a global one.
    pub slug: Slug,
    pub transport: Transport,
    pub settings: ServerSettings,
    pub managed_by: ManagedBy,
    /// Number from 1, raised by each change of the launch or connection settings.
    pub revision: i32,
    /// Eras of this revision, once discovered.
    pub eras_found: Option<ErasFound>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Server {
    /// Returns the name of a built-in server's provider.
    pub fn provider(&self) -> Option<&str> {
        let named = self.settings.command.as_deref().unwrap_or(self.slug.as_str());
        (self.transport == Transport::Builtin).then_some(named)
    }
}

/// Findings of one tenant at a server, and the times of its last use and last success.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ServerUsage {
    /// Tools of the last discovery, which also set `capabilities` and `discovered_at`.
    pub tools_count: Option<i32>,
    pub capabilities: Option<Value>,
    pub discovered_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    /// Last time that the server answered this tenant.
    pub last_success_at: Option<Timestamp>,
}

/// Discovered eras of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErasFound {
    pub eras: Eras,
    pub at: Timestamp,
}

/// Transport between the gateway and a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    Builtin,
    Stdio,
    StreamableHttp,
    Websocket,
}

impl Transport {
    pub const ALL: [Transport; 4] =
        [Transport::Builtin, Transport::Stdio, Transport::StreamableHttp, Transport::Websocket];

    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Builtin => "builtin",
            Transport::Stdio => "stdio",
            Transport::StreamableHttp => "streamable-http",
            Transport::Websocket => "websocket",
        }
    }

    /// Returns true for a server that the gateway reaches over the network.
    pub fn is_remote(self) -> bool {
        match self {
            Transport::Builtin | Transport::Stdio => false,
            Transport::StreamableHttp | Transport::Websocket => true,
        }
    }

    pub fn parse(text: &str) -> Option<Transport> {
        Self::ALL.into_iter().find(|transport| transport.as_str() == text)
    }
}

/// Owner of a row's settings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ManagedBy {
    Rest,
    /// The configuration file, applied at every start.
    Config,
    /// The gateway, for servers it ships; the operator may switch them off and set their limits.
    Builtin,
}

impl ManagedBy {
    pub const ALL: [ManagedBy; 3] = [ManagedBy::Rest, ManagedBy::Config, ManagedBy::Builtin];

    pub fn as_str(self) -> &'static str {
        match self {
            ManagedBy::Rest => "rest",
            ManagedBy::Config => "config",
            ManagedBy::Builtin => "builtin",
        }
    }

    pub fn parse(text: &str) -> Option<ManagedBy> {
        Self::ALL.into_iter().find(|managed_by| managed_by.as_str() == text)
    }
}

/// A server to be registered. The reader of the request checks that transport, command and url fit
/// together.
#[derive(Clone, Debug)]
pub struct NewServer {
    pub slug: Slug,
    pub transport: Transport,
    pub settings: ServerSettings,
}

impl NewServer {
    /// Returns a server with default settings but for these.
    pub fn new(slug: Slug, name: impl Into<String>, transport: Transport) -> Self {
        Self { slug, transport, settings: ServerSettings { name: name.into(), ..Default::default() } }
    }

    /// Returns a server with the settings of a patch.
    ///
    /// # Errors
    /// None, but for a patch of sealed values that cannot be opened.
    pub fn of(slug: Slug, transport: Transport, patch: ServerPatch) -> Result<Self, DbError> {
        let mut settings = ServerSettings::default();
        patch.apply(&mut settings)?;
        Ok(Self { slug, transport, settings })
    }

    pub fn env<const N: usize>(mut self, values: [(&str, &str); N]) -> Self {
        self.settings.env = Secrets::from(BTreeMap::from(values.map(|(k, v)| (k.to_owned(), v.to_owned()))));
        self
    }
}

/// Filter of a list of servers; `None` everywhere selects all.
#[derive(Clone, Debug, Default)]
pub struct ServerFilter {
    pub category: Option<String>,
    pub transport: Option<Transport>,
    /// Text to be found in slug, name, description, category or tags, in any case.
    pub search: Option<String>,
}
