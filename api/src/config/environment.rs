//! Environment variables, and the `.env.example` that is made from their table.

use std::collections::BTreeMap;

/// A variable and the setting it fills.
pub struct Variable {
    pub name: &'static str,
    /// Section and key in `config.default.toml`.
    pub key: (&'static str, &'static str),
}

const fn plain(name: &'static str, section: &'static str, key: &'static str) -> Variable {
    Variable { name, key: (section, key) }
}

pub const PORT: &str = "PORT";
pub const METRICS_PORT: &str = "METRICS_PORT";

/// Every setting that the environment can fill.
pub const ENVIRONMENT: &[Variable] = &[
    plain("HOST", "server", "host"),
    plain(PORT, "server", "port"),
    plain(METRICS_PORT, "server", "metrics_port"),
    plain("ENABLE_METRICS", "server", "enable_metrics"),
    plain("DATA_DIR", "server", "data_dir"),
    plain("PUBLIC_URL", "server", "public_url"),
    plain("ALLOWED_HOSTS", "server", "allowed_hosts"),
    plain("ALLOWED_ORIGINS", "server", "allowed_origins"),
    plain("MAX_BODY_BYTES", "server", "max_body_bytes"),
    plain("MAX_BATCH", "server", "max_batch"),
    plain("SHUTDOWN_GRACE_MS", "server", "shutdown_grace_ms"),
    plain("DATABASE_URL", "database", "url"),
    plain("DB_POOL_MIN", "database", "pool_min"),
    plain("DB_POOL_MAX", "database", "pool_max"),
    plain("DB_IDLE_TIMEOUT_MS", "database", "idle_timeout_ms"),
    plain("DB_QUERY_TIMEOUT_MS", "database", "query_timeout_ms"),
    plain("REDIS_URL", "state", "redis_url"),
    plain("REDIS_CA_FILE", "state", "redis_ca_file"),
    plain("JWT_SECRET", "auth", "jwt_secret"),
    plain("JWT_SECRET_PREVIOUS", "auth", "jwt_secret_previous"),
    plain("JWT_EXPIRES_IN", "auth", "jwt_expires_in"),
    plain("JWT_LEEWAY_SECONDS", "auth", "jwt_leeway_seconds"),
    plain("MASTER_KEY", "auth", "master_key"),
    plain("MASTER_KEY_PREVIOUS", "auth", "master_key_previous"),
    plain("JWKS_URL", "auth", "jwks_url"),
    plain("JWT_ISSUER", "auth", "jwt_issuer"),
    plain("JWT_AUDIENCE", "auth", "jwt_audience"),
    plain("TRUSTED_NETWORKS", "auth", "trusted_networks"),
    plain("LOOPBACK_ROLE", "auth", "loopback_role"),
    plain("RATE_LIMIT_MAX_REQUESTS", "limits", "max_requests"),
    plain("RATE_LIMIT_WINDOW_MS", "limits", "window_ms"),
    plain("RATE_LIMIT_TENANT_MAX_REQUESTS", "limits", "tenant_max_requests"),
    plain("LIMITS_WITHOUT_REDIS", "limits", "without_redis"),
    plain("LIMIT_REFUSALS", "limits", "refusals"),
    plain("DEFAULT_TIMEOUT_MS", "calls", "default_timeout_ms"),
    plain("HTTP_TIMEOUT_MS", "calls", "http_timeout_ms"),
    plain("LIST_TIMEOUT_MS", "calls", "list_timeout_ms"),
    plain("CHILD_ENV_PASSTHROUGH", "children", "env_passthrough"),
    plain("ALLOWED_COMMANDS", "children", "allowed_commands"),
    plain("CHILD_LINE_MAX_BYTES", "children", "line_max_bytes"),
    plain("CHILD_IDLE_TIMEOUT_MS", "children", "idle_timeout_ms"),
    plain("CHILD_START_TIMEOUT_MS", "children", "start_timeout_ms"),
    plain("CHILD_MAX", "children", "max_children"),
    plain("CHILD_LIST_CHECK_MS", "children", "list_check_ms"),
    plain("CHILD_START_CONCURRENCY", "children", "start_concurrency"),
    plain("CHILD_STOP_GRACE_MS", "children", "stop_grace_ms"),
    plain("HEALTH_CHECK_INTERVAL_MS", "health", "check_interval_ms"),
    plain("RECORD_DURABILITY", "record", "durability"),
    plain("RECORD_INTERVAL_MS", "record", "interval_ms"),
    plain("RECORD_ARGUMENT_BYTES", "record", "argument_bytes"),
    plain("FILESYSTEM_ROOTS", "builtin", "filesystem_roots"),
    plain("FILESYSTEM_WRITABLE", "builtin", "filesystem_writable"),
    plain("DATABASE_SERVER_URL", "builtin", "database_url"),
    plain("DATABASE_SERVER_SCHEMAS", "builtin", "database_schemas"),
    plain("DATA_ROOTS", "builtin", "data_roots"),
    plain("SEARXNG_URL", "builtin", "searxng_url"),
    plain("BRAVE_API_KEY", "builtin", "brave_api_key"),
    plain("TAVILY_API_KEY", "builtin", "tavily_api_key"),
    plain("WEB_ALLOW", "builtin", "web_allow"),
    plain("EGRESS_ALLOW", "egress", "allow"),
    plain("LOG_LEVEL", "log", "level"),
    plain("LOG_FORMAT", "log", "format"),
    plain("SYNC_FROM_POSTGRES_INTERVAL", "collaboration", "sync_from_postgres_interval"),
    plain("SYNC_TO_POSTGRES_INTERVAL", "collaboration", "sync_to_postgres_interval"),
    plain("SYNC_BATCH_SIZE", "collaboration", "sync_batch_size"),
    plain("TASK_CACHE_TTL", "collaboration", "task_cache_ttl"),
    plain("FILE_LOCK_TIMEOUT", "collaboration", "file_lock_timeout"),
    plain("WORKSPACE_FILE_MAX_BYTES", "collaboration", "workspace_file_max_bytes"),
    plain("WORKSPACE_DIR", "collaboration", "workspace_dir"),
    plain("WORKSPACE_CHECKOUT_DIR", "collaboration", "workspace_checkout_dir"),
    plain("WORKSPACE_S3_BUCKET", "collaboration", "workspace_s3_bucket"),
    plain("WORKSPACE_S3_ENDPOINT", "collaboration", "workspace_s3_endpoint"),
    plain("WORKSPACE_S3_REGION", "collaboration", "workspace_s3_region"),
    plain("WORKSPACE_S3_ACCESS_KEY", "collaboration", "workspace_s3_access_key"),
    plain("WORKSPACE_S3_SECRET_KEY", "collaboration", "workspace_s3_secret_key"),
    plain("REDIS_COMPAT_KEYS", "collaboration", "redis_compat_keys"),
];

/// Variables that are joined into one setting when that setting is not given itself.
pub const PARTS: &[(&str, &str)] = &[
    (
        "POSTGRES_HOST",
        "with POSTGRES_PORT, POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD: DATABASE_URL in parts",
    ),
    ("REDIS_HOST", "with REDIS_PORT, REDIS_DB: REDIS_URL in parts"),
];

/// Variables of the client commands: the gateway's address, and the caller.
const CLIENT: [(&str, &str); 3] = [
    ("MCP_GATEWAY_URL", "the gateway's address; http://127.0.0.1 and PORT where it is not set"),
    ("MCP_KEY", "the API key to send"),
    ("AGENT_ID", "the agent to speak for, where the key has none of its own"),
];

/// Returns the text of `.env.example`: every name with its default, from the manual's table.
pub fn env_example() -> String {
    let defaults: toml::Table = super::MANUAL.parse().expect("the manual is TOML");
    let mut text = String::from(
        "# Settings by environment, for `trunkline --env-file FILE` and docker-compose.\n\
         # Made from the settings' table (`trunkline config env`); explained in api/config.default.toml.\n",
    );
    let mut section = "";
    for variable in ENVIRONMENT {
        if variable.key.0 != section {
            section = variable.key.0;
            text.push_str(&format!("\n# {section}\n"));
        }
        let value = match &defaults[section][variable.key.1] {
            toml::Value::String(value) => value.clone(),
            toml::Value::Array(_) => String::new(),
            value => value.to_string(),
        };
        text.push_str(&format!("# {}={value}\n", variable.name));
    }
    text.push_str("\n# in parts\n");
    for (name, what) in PARTS {
        text.push_str(&format!("# {name}=  {what}\n"));
    }
    text.push_str("\n# for `trunkline stdio`, `seed`, `registry import` and `health-check`\n");
    for (name, what) in CLIENT {
        text.push_str(&format!("# {name}=  {what}\n"));
    }
    text
}

/// Returns the process's environment without variables that are not UTF-8.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns the gateway's address for client commands: `MCP_GATEWAY_URL`, else this machine's `PORT`.
pub fn gateway_url(environment: &BTreeMap<String, String>) -> String {
    let local = || format!("http://127.0.0.1:{}", set(environment, PORT).unwrap_or("8100"));
    set(environment, CLIENT[0].0).map_or_else(local, str::to_owned)
}

/// Settings of a client command.
#[derive(Clone, Debug)]
pub struct Client {
    /// The configured address.
    pub url: Option<String>,
    /// The address used without `url`.
    pub usual_url: String,
    pub key: Option<String>,
    pub agent: Option<String>,
}

impl Client {
    pub fn read(environment: &BTreeMap<String, String>) -> Client {
        let [url, key, agent] = CLIENT.map(|(name, _)| set(environment, name).map(str::to_owned));
        Client { url, usual_url: gateway_url(environment), key, agent }
    }
}

fn set<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Returns true if a variable makes a program load code that its command line does not name: interpreters' paths and
/// options, and settings of the programs that fetch servers.
pub fn decides_code(name: &str) -> bool {
    const NAMES: [&str; 20] = [
        "BASH_ENV",
        "CLASSPATH",
        "DENO_DIR",
        "EDITOR",
        "ENV",
        "HOME",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "_JAVA_OPTIONS",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PAGER",
        "PERL5LIB",
        "PERL5OPT",
        "PROMPT_COMMAND",
        "RUBYLIB",
        "RUBYOPT",
        "SHELL",
        "VIRTUAL_ENV",
        "ZDOTDIR",
    ];
    const PREFIXES: [&str; 8] = ["BUN_", "CARGO_", "GIT_", "NPM_CONFIG_", "PIP_", "PYTHON", "UV_", "XDG_"];
    let upper = name.to_ascii_uppercase();
    decides_program(&upper)
        || NAMES.contains(&upper.as_str())
        || PREFIXES.iter().any(|start| upper.starts_with(start))
}

/// Returns true if a variable decides which program or library a command's name stands for.
pub fn decides_program(name: &str) -> bool {
    name == "PATH" || name.starts_with("LD_") || name.starts_with("DYLD_")
}
