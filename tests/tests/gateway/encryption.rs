//! TLS to PostgreSQL and to Redis, against servers with a certificate of the trial's own authority:
//! trusted when the gateway is told so, refused when it is not.

use std::path::Path;

use tests::backend::{Source, postgres_source, redis_source};
use tests::postgres::PostgresServer;
use tests::redis_server::RedisServer;
use tests::tls::Certificates;
use tests::{Backend, Case, Settings, TestApp, cases, json, not_run};

pub const CASES: &[Case] = cases![Once: postgres_by_tls, redis_by_tls;];

async fn postgres_by_tls(_: Backend) {
    let Ok(Source::Program(programs)) = postgres_source() else {
        not_run("PostgreSQL's programs are not on this machine");
    };
    let files = Certificates::make();
    let stranger = Certificates::make();
    let placed = [("server.crt", files.certificate.as_path()), ("server.key", files.key.as_path())];
    let only_tls = format!("hba_file = '{}'", only_tls(&files).display());
    let server = PostgresServer::start_with_files(&programs, &["ssl = on", &only_tls], &placed).unwrap();
    let url = |mode: &str, authority: &Path| {
        format!("{}?sslmode={mode}&sslrootcert={}", server.url("postgres"), authority.display())
    };
    // With SQLite as the trial's backend, this URL is the only one the gateway sees.
    let start = |url: String| TestApp::try_start(Backend::Sqlite, Settings::new().env("DATABASE_URL", url));
    let mut calls = 0;
    for url in [url("verify-full", &files.authority), format!("{}?sslmode=require", server.url("postgres"))] {
        let app = start(url.clone()).await.unwrap_or_else(|failed| panic!("{url}: {}", failed.output));
        let health = app.anonymous_from_loopback().get("/health").await;
        health.must(health.json_of(200)["postgres"] == "connected", "the database is reached");
        app.as_operator().call("calculator__add", json!({ "a": 1, "b": 2 })).await.tool_text();
        calls += 1;
        assert_eq!(app.as_operator().executions("tool=add").await.len(), calls, "the record is kept there");
        drop(app);
    }
    let refused = [
        url("verify-full", &stranger.authority),
        format!("{}?sslmode=disable", server.url("postgres")),
        url("verify-full", Path::new("/nowhere/ca.pem")),
    ];
    for url in refused {
        let Err(failed) = start(url.clone()).await else { panic!("{url} was accepted") };
        let code = failed.status.and_then(|status| status.code());
        assert!(matches!(code, Some(64 | 69)), "{url}: {code:?}: {}", failed.output);
        assert!(failed.output.contains("DATABASE_URL"), "{}", failed.output);
    }
}

/// A file that lets nobody in without TLS.
fn only_tls(files: &Certificates) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = files.authority.with_file_name("pg_hba.conf");
    std::fs::write(&path, "hostssl all all 127.0.0.1/32 trust\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    path
}

async fn redis_by_tls(backend: Backend) {
    let Ok(Source::Program(program)) = redis_source() else {
        not_run("redis-server is not on this machine");
    };
    let files = Certificates::make();
    let stranger = Certificates::make();
    let server =
        RedisServer::start_with_tls(&program, &files.certificate, &files.key, &files.authority).unwrap();
    let settings = |authority: &Path| {
        Settings::new()
            .env("REDIS_URL", format!("rediss://127.0.0.1:{}/0", server.port))
            .env("REDIS_CA_FILE", authority.display())
    };
    let app = TestApp::start(backend, settings(&files.authority)).await;
    let health = app.anonymous_from_loopback().get("/health").await;
    health.must(health.json_of(200)["redis"] == "connected", "Redis is reached");
    // A gateway starts without its Redis and says so: nothing is sent to a stranger.
    let app = TestApp::start(backend, settings(&stranger.authority)).await;
    let health = app.anonymous_from_loopback().get("/health").await;
    health.must(health.json_of(200)["redis"] == "disconnected", "a stranger's certificate is refused");
    let ready = app.anonymous_from_loopback().get("/ready").await;
    ready.status(503);
}
