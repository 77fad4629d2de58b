//! Validation of settings beyond their types. Each mistake names the setting and the accepted form.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, MAX_MILLIS, remote_address};

/// Most seconds of clock difference: an expired token must not stay valid for longer.
const MAX_LEEWAY: u64 = 300;

/// 31 days.
const MAX_WINDOW_MILLIS: u64 = 31 * MAX_MILLIS;

/// Adds every mistake found.
pub fn check(config: &Config, mistakes: &mut Vec<String>) {
    let mut refuse = |wrong: bool, text: &str| {
        if wrong {
            mistakes.push(text.to_owned());
        }
    };
    let auth = &config.auth;
    let short = |secret: &str| !secret.is_empty() && secret.chars().count() < 32;
    refuse(
        short(&auth.jwt_secret),
        "auth.jwt_secret (JWT_SECRET): 32 characters or more are wanted; `openssl rand -base64 32` makes one",
    );
    refuse(
        short(&auth.jwt_secret_previous),
        "auth.jwt_secret_previous (JWT_SECRET_PREVIOUS): 32 characters or more are wanted",
    );
    refuse(
        life(&auth.jwt_expires_in).is_none(),
        "auth.jwt_expires_in (JWT_EXPIRES_IN): seconds, or a number with s, m, h or d, of up to 3650 days is wanted",
    );
    refuse(
        !auth.jwks_url.is_empty() && auth.jwt_issuer.is_empty(),
        "auth.jwks_url (JWKS_URL): needs auth.jwt_issuer (JWT_ISSUER), whose tokens are taken",
    );
    refuse(
        !auth.jwks_url.is_empty() && !is_http(&auth.jwks_url),
        "auth.jwks_url (JWKS_URL): an http or https address with a host is wanted",
    );
    let is_address = ["http:", "https:"].iter().any(|scheme| auth.jwt_issuer.starts_with(scheme));
    refuse(
        is_address && !is_http(&auth.jwt_issuer),
        "auth.jwt_issuer (JWT_ISSUER): an issuer that is an address has a host, as in https://id.example.com",
    );
    refuse(
        auth.issuer_url().is_some_and(|url| url.query().is_some() || url.fragment().is_some()),
        "auth.jwt_issuer (JWT_ISSUER): an issuer's address has no `?` and no `#`",
    );
    refuse(
        !config.server.public_url.is_empty() && !is_origin(&config.server.public_url),
        "server.public_url (PUBLIC_URL): http or https, a host and maybe a port is wanted, and no path",
    );
    refuse(
        !crate::ops::logs::is_level(&config.log.level),
        "log.level (LOG_LEVEL): error, warn, info, debug, trace, or a filter such as `info,proxy=debug` is wanted",
    );
    refuse(host(config).is_none(), "server.host (HOST): an IP address or `localhost` is wanted");
    refuse(config.server.max_batch == 0, "server.max_batch (MAX_BATCH): 1 or more is wanted");
    refuse(
        config.server.max_body_bytes < 1024,
        "server.max_body_bytes (MAX_BODY_BYTES): 1024 or more is wanted",
    );
    for (name, time, least) in times(config) {
        let wrong = !(least..=MAX_MILLIS).contains(&time);
        refuse(wrong, &format!("{name}: {least} to {MAX_MILLIS} is wanted"));
    }
    refuse(
        !(1..=MAX_WINDOW_MILLIS).contains(&config.limits.window_ms),
        &format!("limits.window_ms (RATE_LIMIT_WINDOW_MS): 1 to {MAX_WINDOW_MILLIS} is wanted"),
    );
    refuse(
        auth.jwt_leeway_seconds > MAX_LEEWAY,
        &format!("auth.jwt_leeway_seconds (JWT_LEEWAY_SECONDS): 0 to {MAX_LEEWAY} is wanted"),
    );
    refuse(
        config.children.line_max_bytes < 4096,
        "children.line_max_bytes (CHILD_LINE_MAX_BYTES): 4096 or more is wanted",
    );
    refuse(
        config.database.pool_max == 0 || config.database.pool_max < config.database.pool_min,
        "database.pool_max (DB_POOL_MAX): 1 or more, and no less than pool_min, is wanted",
    );
    let shared = &config.collaboration;
    refuse(
        !(1..=600).contains(&shared.file_lock_timeout),
        "collaboration.file_lock_timeout (FILE_LOCK_TIMEOUT): 1 to 600 seconds are wanted",
    );
    refuse(
        !(1..=30 * 86_400).contains(&shared.task_cache_ttl),
        "collaboration.task_cache_ttl (TASK_CACHE_TTL): 1 to 2592000 seconds are wanted",
    );
    refuse(
        shared.workspace_file_max_bytes == 0,
        "collaboration.workspace_file_max_bytes (WORKSPACE_FILE_MAX_BYTES): 1 or more is wanted",
    );
    refuse(
        shared.workspace_s3_bucket.is_empty()
            != (shared.workspace_s3_access_key.is_empty() || shared.workspace_s3_secret_key.is_empty()),
        "collaboration.workspace_s3_bucket (WORKSPACE_S3_BUCKET): goes with an access key and a secret key",
    );
    let database = &config.database.url;
    refuse(
        !["", "sqlite:", "postgres://", "postgresql://"]
            .iter()
            .any(|scheme| if scheme.is_empty() { database.is_empty() } else { database.starts_with(scheme) }),
        "database.url (DATABASE_URL): `postgres://…` or `sqlite:PATH` is wanted",
    );
    let redis = &config.state.redis_url;
    refuse(
        !redis.is_empty()
            && !["redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://"]
                .iter()
                .any(|scheme| redis.starts_with(scheme)),
        "state.redis_url (REDIS_URL): `redis://…`, `rediss://…` or `redis+sentinel://…` is wanted",
    );
    for (index, server) in config.servers.iter().enumerate() {
        let twice = config.servers[..index].iter().any(|earlier| earlier.slug == server.slug);
        refuse(twice, &format!("servers[{index}].slug: `{}` is declared twice", server.slug));
        for mistake in server.mistakes() {
            refuse(true, &format!("servers[{index}].{mistake}"));
        }
    }
}

/// Returns every time limit in milliseconds, with its name and minimum. `children.list_check_ms` is an age and has
/// no bound.
fn times(config: &Config) -> [(&'static str, u64, u64); 13] {
    let Config { server, database, calls, children, health, record, collaboration, .. } = config;
    [
        ("server.shutdown_grace_ms (SHUTDOWN_GRACE_MS)", server.shutdown_grace_ms, 0),
        ("database.idle_timeout_ms (DB_IDLE_TIMEOUT_MS)", database.idle_timeout_ms, 0),
        ("database.query_timeout_ms (DB_QUERY_TIMEOUT_MS)", database.query_timeout_ms, 1),
        ("calls.default_timeout_ms (DEFAULT_TIMEOUT_MS)", calls.default_timeout_ms, 1),
        ("calls.http_timeout_ms (HTTP_TIMEOUT_MS)", calls.http_timeout_ms, 1),
        ("calls.list_timeout_ms (LIST_TIMEOUT_MS)", calls.list_timeout_ms, 1),
        ("children.idle_timeout_ms (CHILD_IDLE_TIMEOUT_MS)", children.idle_timeout_ms, 0),
        ("children.start_timeout_ms (CHILD_START_TIMEOUT_MS)", children.start_timeout_ms, 1),
        ("children.stop_grace_ms (CHILD_STOP_GRACE_MS)", children.stop_grace_ms, 0),
        ("health.check_interval_ms (HEALTH_CHECK_INTERVAL_MS)", health.check_interval_ms, 0),
        ("record.interval_ms (RECORD_INTERVAL_MS)", record.interval_ms, 1),
        (
            "collaboration.sync_from_postgres_interval (SYNC_FROM_POSTGRES_INTERVAL)",
            collaboration.sync_from_postgres_interval,
            10,
        ),
        (
            "collaboration.sync_to_postgres_interval (SYNC_TO_POSTGRES_INTERVAL)",
            collaboration.sync_to_postgres_interval,
            10,
        ),
    ]
}

/// Returns the address to bind.
pub fn host(config: &Config) -> Option<IpAddr> {
    match config.server.host.as_str() {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        text => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}

/// Reads a duration: seconds, or a number with s, m, h or d.
pub fn life(text: &str) -> Option<Duration> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(factor)?;
    (1..=10 * 365 * 86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
}

fn is_origin(text: &str) -> bool {
    let Ok(url) = remote_address::address(text, &["http", "https"]) else { return false };
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    url.path() == "/" && bare && url.password().is_none()
}

fn is_http(text: &str) -> bool {
    remote_address::address(text, &["http", "https"]).is_ok()
}
