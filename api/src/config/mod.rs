//! Configuration, read once at start: the embedded default file, then a file, then the environment. Nothing
//! else in the program reads the environment.

mod declared;
mod environment;
mod load;
pub mod remote_address;
pub mod secrets;
mod validate;

use std::path::PathBuf;

use ipnet::IpNet;
use proxy::egress::Url;
use serde::{Deserialize, Serialize};

pub use declared::DeclaredServer;
pub use environment::{
    Client, METRICS_PORT, PORT, decides_code, decides_program, env_example, gateway_url, process_environment,
};
pub use load::{Sources, load};
pub use validate::host;

/// The default file, which is also the manual.
pub const MANUAL: &str = include_str!("../../config.default.toml");

/// Longest time in milliseconds, a day: added to the present time, it stays within the range of clocks.
pub const MAX_MILLIS: u64 = 86_400_000;

/// All mistakes of a configuration, each with its key and the accepted form.
#[derive(Debug)]
pub struct Mistakes(pub Vec<String>);

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "the configuration has {} mistake(s):", self.0.len())?;
        self.0.iter().try_for_each(|mistake| writeln!(f, "  - {mistake}"))
    }
}

/// The settings in force. Each field is explained in `config.default.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Config {
    pub server: Server,
    pub database: Database,
    pub state: State,
    pub auth: Auth,
    pub limits: Limits,
    pub calls: Calls,
    pub children: Children,
    pub health: Health,
    pub record: Record,
    pub builtin: Builtin,
    pub egress: Egress,
    pub log: Log,
    pub collaboration: Collaboration,
    #[serde(default)]
    pub servers: Vec<DeclaredServer>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub metrics_port: u16,
    pub enable_metrics: bool,
    pub data_dir: PathBuf,
    pub public_url: String,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub max_body_bytes: usize,
    pub max_batch: usize,
    pub shutdown_grace_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Database {
    pub url: String,
    pub pool_min: u32,
    pub pool_max: u32,
    pub idle_timeout_ms: u64,
    pub query_timeout_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    pub redis_url: String,
    pub redis_ca_file: PathBuf,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Auth {
    pub jwt_secret: String,
    pub jwt_secret_previous: String,
    pub jwt_expires_in: String,
    pub jwt_leeway_seconds: u64,
    pub master_key: String,
    pub master_key_previous: String,
    pub jwks_url: String,
    pub jwt_issuer: String,
    pub jwt_audience: String,
    pub trusted_networks: Vec<IpNet>,
    pub loopback_role: LoopbackRole,
}

/// Role of a trusted connection without a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoopbackRole {
    Operator,
    TenantAdmin,
    Agent,
    None,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Limits {
    pub max_requests: u32,
    pub window_ms: u64,
    pub tenant_max_requests: u32,
    pub refusals: LimitRefusals,
    pub without_redis: WithoutRedis,
}

/// Policy for rate limits while Redis is unavailable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutRedis {
    /// Each replica counts by itself, against its share.
    Local,
    /// Requests with a limit are refused.
    Refuse,
}

/// The form of a refused `tools/call` over a rate limit, at the endpoints of Streamable HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitRefusals {
    /// HTTP 429.
    Http,
    /// A tool's result with `isError`.
    Result,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Calls {
    pub default_timeout_ms: u64,
    pub http_timeout_ms: u64,
    pub list_timeout_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Children {
    pub env_passthrough: Vec<String>,
    pub allowed_commands: Vec<String>,
    pub line_max_bytes: usize,
    pub idle_timeout_ms: u64,
    pub start_timeout_ms: u64,
    pub max_children: usize,
    pub list_check_ms: u64,
    pub start_concurrency: usize,
    pub stop_grace_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Health {
    pub check_interval_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    pub durability: Durability,
    pub interval_ms: u64,
    pub argument_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    Process,
    Interval,
    Strict,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Builtin {
    pub filesystem_roots: Vec<String>,
    pub filesystem_writable: bool,
    pub database_url: String,
    pub database_schemas: Vec<String>,
    pub data_roots: Vec<String>,
    pub searxng_url: String,
    pub brave_api_key: String,
    pub tavily_api_key: String,
    pub web_allow: Vec<IpNet>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Egress {
    pub allow: Vec<IpNet>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Pretty,
    Json,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Collaboration {
    pub sync_from_postgres_interval: u64,
    pub sync_to_postgres_interval: u64,
    pub sync_batch_size: u64,
    pub task_cache_ttl: u64,
    pub file_lock_timeout: u64,
    pub workspace_file_max_bytes: usize,
    pub workspace_dir: PathBuf,
    pub workspace_checkout_dir: PathBuf,
    pub workspace_s3_bucket: String,
    pub workspace_s3_endpoint: String,
    pub workspace_s3_region: String,
    pub workspace_s3_access_key: String,
    pub workspace_s3_secret_key: String,
    pub redis_compat_keys: bool,
}

impl Config {
    /// Returns the database's address, with the default filled in.
    pub fn database_url(&self) -> String {
        if self.database.url.is_empty() {
            format!("sqlite:{}", self.server.data_dir.join("trunkline.db").display())
        } else {
            self.database.url.clone()
        }
    }

    /// Returns the address of the gateway as clients know it, if the operator set one.
    pub fn public_url(&self) -> Option<Url> {
        self.server.public_url.parse().ok()
    }

    /// Returns the allowed host names besides the built-in ones.
    pub fn all_hosts(&self) -> Vec<String> {
        let public = self.public_url().and_then(|url| url.host_str().map(str::to_owned));
        self.server.allowed_hosts.iter().cloned().chain(public).collect()
    }

    pub fn jwt_life(&self) -> std::time::Duration {
        validate::life(&self.auth.jwt_expires_in).unwrap_or(std::time::Duration::from_secs(86_400))
    }

    /// Returns the settings with every secret replaced, as `trunkline config check` prints them.
    pub fn without_secrets(&self) -> Config {
        let mut shown = self.clone();
        let hide = |text: &mut String| {
            if !text.is_empty() {
                *text = "[set]".to_owned();
            }
        };
        hide(&mut shown.auth.jwt_secret);
        hide(&mut shown.auth.jwt_secret_previous);
        hide(&mut shown.auth.master_key);
        hide(&mut shown.auth.master_key_previous);
        hide(&mut shown.collaboration.workspace_s3_secret_key);
        hide(&mut shown.builtin.brave_api_key);
        hide(&mut shown.builtin.tavily_api_key);
        shown.builtin.database_url = without_password(&shown.builtin.database_url);
        shown.database.url = without_password(&shown.database.url);
        shown.state.redis_url = without_password(&shown.state.redis_url);
        shown
    }
}

impl Auth {
    /// Returns the issuer if it is an address: an authorization server whose keys can be discovered.
    pub fn issuer_url(&self) -> Option<Url> {
        self.jwt_issuer.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https"))
    }
}

/// Returns `scheme://user:password@host` without the password, for messages.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return url.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        assert_eq!(without_password("postgres://u:p@h/db?x=1"), "postgres://u:***@h/db?x=1");
        assert_eq!(without_password("redis://:p@h"), "redis://:***@h");
        assert_eq!(without_password("sqlite:x"), "sqlite:x");
    }

    fn with(environment: &[(&str, &str)], file: Option<&str>) -> Result<Config, Mistakes> {
        load(Sources {
            file: file.map(|text| ("test.toml".into(), text.to_owned())),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        })
    }

    #[test]
    fn the_defaults_are_valid_and_every_leaf_is_known() {
        let config = with(&[], None).expect("the manual loads");
        assert_eq!(config.server.port, 8100);
        assert_eq!(config.limits.max_requests, 100);
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mistakes = with(
            &[("PORT", "eighty"), ("JWT_SECRET", "short"), ("LOOPBACK_ROLE", "king")],
            Some(
                "[server]\nprot = 1\nmax_batch = \"x\"\n[[servers]]\nslug = \"Bad\"\ntransport = \"stdio\"\n",
            ),
        )
        .unwrap_err();
        for part in ["PORT", "JWT_SECRET", "LOOPBACK_ROLE", "server.prot", "server.max_batch", "servers[0]"] {
            assert!(mistakes.0.iter().any(|mistake| mistake.contains(part)), "{part} in {mistakes}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = with(&[("PORT", "1"), ("ALLOWED_HOSTS", "a, b")], Some("[server]\nport = 2\n")).unwrap();
        assert_eq!((config.server.port, config.server.allowed_hosts.len()), (1, 2));
        let config =
            with(&[("REDIS_HOST", "r"), ("POSTGRES_HOST", "p"), ("POSTGRES_PASSWORD", "a/b")], None).unwrap();
        assert_eq!(config.state.redis_url, "redis://r:6379/0");
        assert_eq!(config.database.url, "postgres://postgres:a%2Fb@p:5432/postgres");
    }

    #[test]
    fn a_declared_server_takes_values_from_the_environment() {
        let file = "[[servers]]\nslug = \"x\"\ntransport = \"stdio\"\ncommand = \"c\"\nenv = { K = \"a-${TOKEN}\" }\n";
        let config = with(&[("TOKEN", "t")], Some(file)).unwrap();
        assert_eq!(config.servers[0].settings.env.expose().unwrap()["K"], "a-t");
        assert!(with(&[], Some(file)).unwrap_err().0[0].contains("TOKEN"));
    }
}
