//! Config rows in the form that the proxy applies.

use std::time::Duration;

use entity::{Server, ServerConfig};
use proxy::argument_rules::ArgumentRules;
use proxy::policy::{ConfigSpec, Patterns};
use proxy::renames::Renames;
use proxy::server::{ChildLimits, LaunchValues};

use crate::config::remote_address;

/// Converts a config row of this server. Patterns and rules were checked when written; an unreadable one blocks everything rather than
/// nothing.
pub fn config_spec(row: &ServerConfig, server: &Server) -> ConfigSpec {
    let patterns = |patterns: &Vec<String>, otherwise: &[&str]| {
        Patterns::parse(patterns.iter().map(String::as_str)).unwrap_or_else(|problem| {
            tracing::error!(config = %row.id, problem, "a config's patterns cannot be read");
            Patterns::parse(otherwise.iter().copied()).expect("`*` is a pattern")
        })
    };
    let settings = &row.settings;
    let allowed = |set: &Option<Vec<String>>| set.as_ref().map(|allowed| patterns(allowed, &[]));
    let rules = ArgumentRules::read(settings.rules.as_deref().unwrap_or_default());
    let rules = rules
        .inspect_err(|problem| tracing::error!(config = %row.id, problem, "a config's rules cannot be read"));
    let blocked = match rules {
        Ok(_) => settings.blocked_tools.as_ref().map(|blocked| patterns(blocked, &["*"])),
        Err(_) => Some(patterns(&vec!["*".to_owned()], &["*"])),
    };
    ConfigSpec {
        id: row.id,
        for_agent: row.agent.is_some(),
        enabled: settings.enabled,
        allowed_tools: allowed(&settings.allowed_tools),
        blocked_tools: blocked,
        allowed_resources: allowed(&settings.allowed_resources),
        allowed_prompts: allowed(&settings.allowed_prompts),
        timeout: settings.timeout_ms.and_then(from_millis),
        max_concurrency: settings.max_concurrency,
        calls_per_minute: settings.calls_per_minute,
        max_result_bytes: settings.max_result_bytes,
        retries: settings.retries,
        renames: settings.rename.as_ref().map(|names| Renames::new(&server.slug, names)),
        descriptions: settings.describe.clone(),
        rules: rules.unwrap_or_default(),
        values: values(row, server.settings.url.as_deref()),
        updated_at: row.updated_at,
    }
}

/// Returns the values that a config adds to the launch of a server with this URL.
fn values(row: &ServerConfig, url: Option<&str>) -> LaunchValues {
    let (env, headers) = match (row.secrets.env.expose(), row.secrets.headers.expose()) {
        (Ok(env), Ok(headers)) => (env.clone(), headers.clone()),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(config = %row.id, %error, "a config's secrets cannot be opened");
            let reason = "the secrets of a config are sealed under another master key";
            return LaunchValues { withheld: Some(reason), ..LaunchValues::default() };
        }
    };
    let given_for = row.settings.headers_for.as_deref().unwrap_or_default();
    let elsewhere =
        !headers.is_empty() && !url.is_some_and(|url| remote_address::same_origin(given_for, url));
    let resources = row.settings.resources.unwrap_or_default();
    LaunchValues {
        env,
        headers,
        limits: ChildLimits {
            memory_mb: resources.memory_mb,
            open_files: resources.open_files,
            cpu_seconds: resources.cpu_seconds,
        },
        withheld: elsewhere
            .then_some("the headers of a config were given for another host than the server's"),
    }
}

/// Converts a column in milliseconds.
pub fn from_millis(millis: i64) -> Option<Duration> {
    millis.try_into().ok().map(Duration::from_millis)
}
