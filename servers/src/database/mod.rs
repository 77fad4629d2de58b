//! The built-in server `database`: tools that read one PostgreSQL or SQLite database. The guards are in `sql`.

mod allowed;
mod arguments;
mod source;
mod tools;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use protocol::provider::{
    Cancellation, ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput, ToolProvider,
};
use protocol::{Code, Refusal};
use serde_json::value::RawValue;

use crate::sql::{Bounds, SqlError};

pub use self::allowed::{AllowedParameter, AllowedQuery, ParameterType};
pub use self::arguments::{ADDRESS, role_sql};
use self::source::Source;

/// Time limit of the checks at start and of the role's.
const CHECK: Duration = Duration::from_secs(10);

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `postgres://…` or `sqlite://FILE`; without it the server is not configured.
    pub url: Option<String>,
    /// Schemas of PostgreSQL that may be read; none for all that the role may read.
    pub schemas: Vec<String>,
    /// The only statements that may be run, if there are any.
    pub allowed_queries: Option<Vec<AllowedQuery>>,
    /// Accepts a role of PostgreSQL that can write.
    pub allow_unsafe_role: bool,
    /// Rows of a result where the caller asks for no number, and the most that one may ask for.
    pub default_rows: usize,
    pub most_rows: usize,
    /// Most bytes of a result's rows, as JSON.
    pub most_bytes: usize,
    /// Time limit of one statement.
    pub timeout: Duration,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: None,
            schemas: Vec::new(),
            allowed_queries: None,
            allow_unsafe_role: false,
            default_rows: 1_000,
            most_rows: 10_000,
            most_bytes: 1_000_000,
            timeout: Duration::from_secs(30),
        }
    }
}

pub const INFO: ProviderInfo = ProviderInfo {
    name: "database",
    title: "Database",
    version: env!("CARGO_PKG_VERSION"),
    description: "Reads one PostgreSQL or SQLite database: its tables, and the rows of SELECT statements. Nothing can be \
                  changed.",
};

/// The built-in server `database`.
pub struct Database {
    settings: DatabaseSettings,
    source: Option<Source>,
}

impl Database {
    /// Reads the settings; nothing is connected yet.
    ///
    /// # Errors
    /// The setting that is wrong, as a sentence.
    pub fn new(settings: DatabaseSettings) -> Result<Self, String> {
        if let Some(queries) = &settings.allowed_queries {
            allowed::check(queries)?;
        }
        let source = settings.url.as_deref().map(|url| Source::new(url, &settings)).transpose()?;
        Ok(Self { settings, source })
    }

    /// Reads command line arguments and variables of the environment.
    ///
    /// # Errors
    /// What is wrong and what to give, as a sentence.
    pub fn from_arguments(
        arguments: &[String],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        Self::new(arguments::read(arguments, variable)?.settings)
    }

    /// Connects, checks that nothing can be written, and prepares the allowed queries. Returns warnings.
    ///
    /// # Errors
    /// The reason why the database cannot be used, with what to do, as a sentence.
    pub async fn check(&self) -> Result<Vec<String>, String> {
        let source = self.source.as_ref().ok_or(MISSING)?;
        let sentence = |error: SqlError| match &error.hint {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        };
        let warnings = source.check(&self.check_bounds()).await.map_err(sentence)?;
        for query in self.settings.allowed_queries.iter().flatten() {
            let places = source.places(&query.sql, &self.check_bounds()).await;
            let places =
                places.map_err(|error| format!("the query `{}`: {}", query.name, sentence(error)))?;
            if places != query.parameters.len() {
                return Err(format!(
                    "the query `{}` has {places} places for parameters, and {} `parameters`",
                    query.name,
                    query.parameters.len()
                ));
            }
        }
        Ok(warnings)
    }

    fn source(&self) -> Result<&Source, ProviderError> {
        self.source.as_ref().ok_or_else(|| not_configured().into())
    }

    fn bounds(&self, context: &RequestContext<'_>, rows: Option<i32>) -> Bounds {
        let asked = rows.and_then(|rows| usize::try_from(rows).ok());
        let rows = asked.unwrap_or(self.settings.default_rows).min(self.settings.most_rows);
        Bounds::of(context, rows, self.settings.most_bytes, self.settings.timeout)
    }

    /// Returns the bounds of each query of the catalog, whose rows are columns and the like.
    fn catalog_bounds(&self, context: &RequestContext<'_>) -> Bounds {
        Bounds::of(context, 10_000, self.settings.most_bytes, self.settings.timeout)
    }

    fn check_bounds(&self) -> Bounds {
        let deadline = Instant::now() + CHECK;
        Bounds { rows: 1_000, bytes: 1_000_000, deadline, cancellation: Cancellation::default() }
    }
}

const MISSING: &str =
    "no database is given: set DATABASE_URL to postgres://USER:PASSWORD@HOST/DATABASE or sqlite://FILE";

fn not_configured() -> Refusal {
    Refusal::new(Code::NotConfigured, MISSING)
}

#[async_trait]
impl ToolProvider for Database {
    fn info(&self) -> ProviderInfo {
        INFO
    }

    fn not_configured(&self) -> Option<Refusal> {
        self.source.is_none().then(not_configured)
    }

    async fn health(&self) -> Result<(), ProviderError> {
        let checked = self.source()?.check(&self.check_bounds()).await;
        checked.map(drop).map_err(ProviderError::from)
    }

    async fn tools(&self, _context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        Ok(tools::definitions(&self.settings))
    }

    async fn call(
        &self,
        context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        tools::of(&self.settings).call(self, context, tool, arguments).await
    }
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
