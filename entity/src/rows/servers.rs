//! Table `mcp_servers`: two sealed columns, a searchable text, and plain columns.

use protocol::mcp::Eras;
use protocol::{ServerId, Slug, TenantId};
use sea_orm::entity::prelude::*;
use serde_json::json;

use crate::error::DbError;
use crate::seal::{Place, Seal};
use crate::secrets::Secrets;
use crate::server::{ErasFound, ManagedBy, Server, Transport};
use crate::server_settings::ServerSettings;
use crate::{rows, time};

#[derive(Clone, Debug, Default, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_servers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant_id: Option<Uuid>,
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub category: Option<String>,
    pub tags: Json,
    pub version: Option<String>,
    pub transport: String,
    pub command: Option<String>,
    pub args: Json,
    #[sea_orm(column_type = "Blob", nullable)]
    pub env_sealed: Option<Vec<u8>>,
    pub cwd: Option<String>,
    pub url: Option<String>,
    #[sea_orm(column_type = "Blob", nullable)]
    pub headers_sealed: Option<Vec<u8>>,
    pub enabled: bool,
    pub timeout_ms: Option<i64>,
    pub start_timeout_ms: Option<i64>,
    pub max_concurrency: Option<i32>,
    pub retry: Option<Json>,
    pub idle_timeout_ms: Option<i64>,
    pub era: String,
    pub managed_by: String,
    pub revision: i32,
    pub search: String,
    pub eras_found: Option<String>,
    pub eras_found_at: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
    pub deleted_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Sealed columns; the name is part of the place that a seal is bound to.
#[derive(Clone, Copy)]
pub(crate) enum Sealed {
    Env,
    Headers,
}

impl Sealed {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Sealed::Env => "env_sealed",
            Sealed::Headers => "headers_sealed",
        }
    }
}

impl Model {
    pub(crate) fn place(&self, column: Sealed) -> Place {
        Place { table: "mcp_servers", column: column.as_str(), row: self.id, tenant: self.tenant_id }
    }

    pub(crate) fn sealed(&mut self, column: Sealed) -> &mut Option<Vec<u8>> {
        match column {
            Sealed::Env => &mut self.env_sealed,
            Sealed::Headers => &mut self.headers_sealed,
        }
    }

    /// Converts the row. A sealed column that cannot be opened does not hide the row: its [`Secrets`] hold
    /// the error.
    pub(crate) fn into_server(self, seal: &Seal) -> Result<Server, DbError> {
        Ok(Server {
            id: ServerId(self.id),
            tenant: self.tenant_id.map(TenantId),
            slug: self.slug.parse::<Slug>().map_err(|_| rows::unknown_word("slug", &self.slug))?,
            transport: Transport::parse(&self.transport)
                .ok_or_else(|| rows::unknown_word("transport", &self.transport))?,
            settings: self.settings(seal)?,
            managed_by: ManagedBy::parse(&self.managed_by)
                .ok_or_else(|| rows::unknown_word("managed_by", &self.managed_by))?,
            revision: self.revision,
            eras_found: found(self.eras_found.as_deref(), self.eras_found_at)?,
            created_at: time::from_column(self.created_at),
            updated_at: time::from_column(self.updated_at),
        })
    }

    /// Reads the settings from their columns.
    pub(crate) fn settings(&self, seal: &Seal) -> Result<ServerSettings, DbError> {
        let open = |column, sealed: &Option<_>| Secrets::open(seal, &self.place(column), sealed.as_deref());
        let row = self.clone();
        Ok(ServerSettings {
            name: row.name,
            description: row.description,
            category: row.category,
            tags: rows::texts(row.tags, "tags")?,
            version: row.version,
            command: row.command,
            args: rows::texts(row.args, "args")?,
            env: open(Sealed::Env, &self.env_sealed),
            cwd: row.cwd,
            url: row.url,
            headers: open(Sealed::Headers, &self.headers_sealed),
            enabled: row.enabled,
            timeout_ms: row.timeout_ms,
            start_timeout_ms: row.start_timeout_ms,
            max_concurrency: row.max_concurrency,
            retry: row.retry,
            idle_timeout_ms: row.idle_timeout_ms,
            era: row.era,
        })
    }

    /// Writes settings into their columns. Sealed values that could not be opened stay as they are.
    pub(crate) fn put(&mut self, settings: ServerSettings, seal: &Seal) {
        for (column, secrets) in [(Sealed::Env, &settings.env), (Sealed::Headers, &settings.headers)] {
            let place = self.place(column);
            let sealed = self.sealed(column);
            if let Ok(values) = secrets.expose()
                && Secrets::open(seal, &place, sealed.as_deref()) != *secrets
            {
                *sealed = Secrets::seal(values, seal, &place);
            }
        }
        self.name = settings.name;
        self.description = settings.description;
        self.category = settings.category;
        self.tags = json!(settings.tags);
        self.version = settings.version;
        self.command = settings.command;
        self.args = json!(settings.args);
        self.cwd = settings.cwd;
        self.url = settings.url;
        self.enabled = settings.enabled;
        self.timeout_ms = settings.timeout_ms;
        self.start_timeout_ms = settings.start_timeout_ms;
        self.max_concurrency = settings.max_concurrency;
        self.retry = rows::some_json(settings.retry);
        self.idle_timeout_ms = settings.idle_timeout_ms;
        self.era = settings.era;
    }

    /// Returns the text that a search reads, in lower case by Unicode's rules.
    pub(crate) fn searchable(&self) -> String {
        let tags = self.tags.as_array().into_iter().flatten().filter_map(Json::as_str);
        let texts = [
            Some(self.slug.as_str()),
            Some(&self.name),
            self.description.as_deref(),
            self.category.as_deref(),
        ];
        texts.into_iter().flatten().chain(tags).collect::<Vec<_>>().join("\n").to_lowercase()
    }
}

fn found(eras: Option<&str>, at: Option<i64>) -> Result<Option<ErasFound>, DbError> {
    let (Some(text), Some(at)) = (eras, at) else { return Ok(None) };
    let eras = Eras::parse(text).ok_or_else(|| rows::unknown_word("eras_found", text))?;
    Ok(Some(ErasFound { eras, at: time::from_column(at) }))
}
