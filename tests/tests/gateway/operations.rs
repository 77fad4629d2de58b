//! What an operator sees and does: health, metrics, log lines, commands, a graceful end.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use tests::backend::{Source, redis_source};
use tests::programs::workspace;
use tests::redis_server::RedisServer;
use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases, json, not_run};

pub const CASES: &[Case] = cases![
    Every: health_names_the_dependencies, sigterm_drains, a_master_key_is_rotated;
    Once: metrics_are_the_documented_ones, log_lines_can_be_queried, health_check_is_for_containers,
        config_check_hides_secrets, the_api_document_is_the_committed_one, the_environment_example_is_complete,
        swagger_ui_is_served, redis_may_go_and_come_back, migrate_is_a_command;
];

async fn health_names_the_dependencies(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let local = app.anonymous_from_loopback();
    let answer = local.get("/health").await;
    let health = answer.json_of(200);
    for name in ["status", "version", "timestamp", "database", "state", "postgres", "redis"] {
        answer.must(health[name].is_string() || health[name].is_object(), &format!("health says {name}"));
    }
    answer.must(health["status"] != "degraded", "nothing is away");
    let expected = if backend == Backend::Postgres { "connected" } else { "not_configured" };
    answer.must(health["postgres"] == expected && health["redis"] == expected, "it says what is connected");
    let ready = local.get("/ready").await;
    let body = ready.json_of(200).to_string();
    for word in ["database", "state", "since"] {
        ready.must(body.contains(word), &format!("readiness says {word}"));
    }
}

async fn redis_may_go_and_come_back(backend: Backend) {
    let Ok(Source::Program(program)) = redis_source() else {
        not_run("redis-server is not on this machine, and somebody else's is not ours to stop");
    };
    let mut redis = RedisServer::start(&program).unwrap();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let app = TestApp::start(backend, Settings::new().env("REDIS_URL", url)).await;
    let local = app.anonymous_from_loopback();
    local.get("/ready").await.status(200);
    redis.stop();
    let away = local.until("/ready", Duration::from_secs(20), |answer| answer.status == 503).await;
    away.must(away.text().contains("redis") || away.text().contains("state"), "it says what is away");
    let health = local.get("/health").await;
    let body = health.json_of(200);
    health.must(body["status"] == "degraded" && body["redis"] == "disconnected", "it lives, degraded");
    let call = local.call("calculator__add", json!({ "a": 1, "b": 2 })).await;
    call.must(call.took < Duration::from_secs(5), "a call is answered in time, whatever it is answered");
    redis.start_again(&program).unwrap();
    local.until("/ready", Duration::from_secs(20), |answer| answer.status == 200).await;
    local.call("calculator__add", json!({ "a": 1, "b": 2 })).await.tool_text();
}

async fn sigterm_drains(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    operator.call("fix__count", json!({})).await.tool_text();
    let open = operator.call("fix__sleep", json!({ "ms": 1500 }));
    let ending = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let begun = std::time::Instant::now();
        let status = app.terminate(Duration::from_secs(30)).await;
        (status, begun.elapsed())
    };
    let (answer, (status, took)) = tokio::join!(open, ending);
    answer.must(answer.tool_text() == "slept 1500 ms", "the open call ends well");
    assert!(status.success(), "{status}");
    assert!(took > Duration::from_millis(900), "it did not wait for the call: {took:?}");
    app.nothing_survives(Duration::from_secs(1)).await;
    let refused = operator.try_send(reqwest::Method::GET, "/health", &[], None).await;
    assert!(refused.is_err(), "nobody listens any more");
    app.boot(None).await;
    let rows = app.as_operator().executions("tool=sleep").await;
    assert_eq!((rows.len(), &rows[0]["outcome"]), (1, &json!("ok")), "{rows:#?}");
}

/// The families that the endpoint shows are those of `docs/metrics.md`, and the other way round.
async fn metrics_are_the_documented_ones(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    operator.register(Registration::bad("bad", &["--die-on-call"])).await;
    operator.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    operator.call("fix__fail", json!({})).await.status(200);
    operator.call("bad__bad", json!({})).await.status(200);
    operator.call("nobody__echo", json!({})).await.status(200);
    operator.get("/v1/mcp/executions").await.status(200);
    let text = reqwest::get(format!("{}/metrics", app.metrics_url())).await.unwrap().text().await.unwrap();
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in [
        "mcp_operation_duration_seconds",
        "mcp_operation_total",
        "mcp_token_usage_total",
        "mcp_connection_pool_size",
        "mcp_connection_pool_idle",
        "http_request_duration_seconds",
        "process_cpu_user_seconds_total",
        "process_resident_memory_bytes",
    ] {
        assert!(shown.contains(name), "{name} is missing in {shown:?}");
    }
    let path = workspace().join("docs/metrics.md");
    let document = std::fs::read_to_string(&path).expect("docs/metrics.md lists the metrics");
    let documented: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.trim().strip_prefix("| `")?.split('`').next())
        .map(|name| name.split('{').next().unwrap_or(name))
        .collect();
    let (extra, gone): (Vec<_>, Vec<_>) =
        (shown.difference(&documented).collect(), documented.difference(&shown).collect());
    assert!(extra.is_empty(), "shown and not in docs/metrics.md: {extra:?}");
    assert!(gone.is_empty(), "in docs/metrics.md and not shown after some traffic: {gone:?}");
    for name in ["nobody__echo", "n-o-n-c-e", "/v1/mcp/servers/srv_"] {
        assert!(!text.contains(name), "a label has a value that a caller chose: {name}");
    }
    let elsewhere = reqwest::Client::new()
        .get(format!("{}/metrics", app.metrics_url()))
        .header("host", "prometheus.internal")
        .send()
        .await;
    assert_eq!(elsewhere.unwrap().status(), 200, "the metrics port is not guarded by host");
}

async fn log_lines_can_be_queried(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix").with("env", json!({ "TOKEN": "s3cret-env" }))).await;
    let call = operator.call("fix__echo", json!({ "nonce": "s3cret-argument" })).await;
    operator.get("/v1/nothing").await.status(404);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let lines = app.process().lines();
    let id = call.header("x-request-id").unwrap_or_default();
    let parsed: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    let own: Vec<&Value> =
        parsed.iter().filter(|line| line["requestId"] == id && line["statusCode"] == 200).collect();
    assert_eq!(own.len(), 1, "one line says how the request {id} ended:\n{}", lines.join("\n"));
    let line = own[0];
    for name in ["level", "message", "service", "timestamp", "requestId", "method", "path", "ip"] {
        assert!(line[name].is_string(), "{name} is a text in {line}");
    }
    assert!(line["duration"].is_number(), "{line}");
    assert_eq!(
        (&line["method"], &line["path"], &line["ip"]),
        (&json!("POST"), &json!("/mcp/rpc"), &json!("127.0.0.1"))
    );
    assert!(parsed.iter().any(|line| line["statusCode"] == 404), "a refused request has a line too");
    let all = lines.join("\n");
    let key = std::fs::read_to_string(app.data_dir().join("operator.key")).unwrap();
    for secret in ["s3cret", key.trim()] {
        assert!(!all.contains(secret), "a secret or a body is logged:\n{all}");
    }
}

fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn health_check_is_for_containers(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let port = app.as_operator().url("").rsplit_once(':').unwrap().1.to_owned();
    let check = |app: &TestApp| {
        let mut command = app.command(&["health-check"]);
        command.env("PORT", &port);
        run(command)
    };
    let (code, output, _) = check(&app);
    assert_eq!(code, Some(0), "{output}");
    app.kill().await;
    let (code, output, error) = check(&app);
    assert_eq!(code, Some(1), "{output}{error}");
    assert!(!format!("{output}{error}").contains("panicked"), "{error}");
}

async fn config_check_hides_secrets(backend: Backend) {
    let secret = "a secret of more than thirty-two characters";
    let settings = Settings::new()
        .env("JWT_SECRET", secret)
        .env("RATE_LIMIT_MAX_REQUESTS", 321)
        .env("REDIS_URL", "redis://:s3cret-password@127.0.0.1:1/0");
    let app = match TestApp::try_start(backend, Settings::new()).await {
        Ok(app) => app,
        Err(failed) => panic!("{failed:?}"),
    };
    let mut command = app.command(&["config", "check"]);
    command.envs(&settings.environment);
    let (code, output, error) = run(command);
    let all = format!("{output}{error}");
    assert_eq!(code, Some(0), "{all}");
    assert!(output.contains("321"), "the effective value is shown: {all}");
    assert!(!all.contains(secret) && !all.contains("s3cret-password"), "a secret is shown: {all}");
    let mut command = app.command(&["config", "check"]);
    command.env("RATE_LIMIT_MAX_REQUESTS", "many").env("LOG_FORMAT", "xml");
    let (code, output, error) = run(command);
    let all = format!("{output}{error}");
    assert_eq!(code, Some(64), "{all}");
    assert!(all.contains("RATE_LIMIT_MAX_REQUESTS") && all.contains("LOG_FORMAT"), "both at once: {all}");
}

async fn the_api_document_is_the_committed_one(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let served = app.anonymous_from_loopback().get("/openapi.json").await.json_of(200);
    let path = workspace().join("openapi/openapi.json");
    let committed: Value = std::fs::read_to_string(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
        .unwrap_or_else(|error| {
            panic!("{error}: make it with `cargo run -- openapi > openapi/openapi.json`")
        });
    let (code, printed, error) = run(app.command(&["openapi"]));
    assert_eq!(code, Some(0), "{error}");
    let printed: Value = serde_json::from_str(&printed).expect("the command prints JSON");
    assert!(printed == served, "`trunkline openapi` and GET /openapi.json differ");
    assert!(
        committed == served,
        "openapi/openapi.json is out of date: `cargo run -- openapi > openapi/openapi.json`, and commit it"
    );
    for path in
        ["/mcp/rpc", "/v1/mcp/servers", "/v1/mcp/servers/{id}", "/v1/mcp/execute", "/v1/keys", "/health"]
    {
        assert!(served["paths"][path].is_object(), "{path} is not described");
    }
    let operations = served["paths"].as_object().into_iter().flatten();
    let ids: Vec<&str> = operations
        .flat_map(|(_, methods)| methods.as_object().into_iter().flatten())
        .filter_map(|(_, operation)| operation["operationId"].as_str())
        .collect();
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "an operation id is there twice: {ids:?}"
    );
}

async fn the_environment_example_is_complete(backend: Backend) {
    let path = workspace().join(".env.example");
    let example =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for name in [
        "HOST",
        "PORT",
        "METRICS_PORT",
        "ENABLE_METRICS",
        "DATA_DIR",
        "DATABASE_URL",
        "REDIS_URL",
        "JWT_SECRET",
        "JWT_SECRET_PREVIOUS",
        "JWT_EXPIRES_IN",
        "JWKS_URL",
        "RATE_LIMIT_WINDOW_MS",
        "RATE_LIMIT_MAX_REQUESTS",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "DB_POOL_MIN",
        "DB_POOL_MAX",
        "DB_IDLE_TIMEOUT_MS",
        "DEFAULT_TIMEOUT_MS",
        "DB_QUERY_TIMEOUT_MS",
        "TRUSTED_NETWORKS",
        "ALLOWED_HOSTS",
        "ALLOWED_ORIGINS",
        "LOOPBACK_ROLE",
        "CHILD_ENV_PASSTHROUGH",
        "RECORD_DURABILITY",
    ] {
        let there = example.lines().any(|line| {
            line.trim_start_matches(['#', ' ']).strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
        });
        assert!(there, "{name} is missing in .env.example");
    }
    let app = TestApp::start(backend, Settings::new()).await;
    let (code, printed, error) = run(app.command(&["config", "env"]));
    assert_eq!(code, Some(0), "{printed}{error}");
    assert!(
        printed.trim() == example.trim(),
        ".env.example is out of date: `cargo run -- config env > .env.example`, and commit it"
    );
    let file = path.display().to_string();
    let (code, output, error) = run(app.command(&["--env-file", &file, "config", "check"]));
    assert_eq!(code, Some(0), "the example itself is accepted: {output}{error}");
}

async fn swagger_ui_is_served(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let local = app.anonymous_from_loopback();
    let page = local.get("/docs/").await;
    page.status(200).must(page.text().contains("swagger"), "the page is Swagger UI");
    let redirected = local.get("/docs").await;
    redirected.must(matches!(redirected.status, 200 | 301 | 302 | 303 | 307 | 308), "/docs leads to it");
}

async fn migrate_is_a_command(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    app.terminate(Duration::from_secs(20)).await;
    std::fs::remove_dir_all(app.data_dir()).unwrap();
    let (code, output, error) = run(app.command(&["migrate"]));
    assert_eq!(code, Some(0), "{output}{error}");
    let (code, output, error) = run(app.command(&["migrate"]));
    assert_eq!(code, Some(0), "a second time there is nothing to do: {output}{error}");
    app.boot(None).await;
    app.as_operator().rpc("ping", json!({})).await.result();
}

async fn a_master_key_is_rotated(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix").with("env", json!({ "TOKEN": "kept" }))).await;
    app.terminate(Duration::from_secs(20)).await;
    let secrets = |app: &TestApp| {
        let files =
            std::fs::read_dir(app.data_dir()).unwrap().flatten().filter(|entry| entry.path().is_file());
        let keys = files.filter(|entry| entry.file_name().to_string_lossy().contains("master"));
        keys.map(|entry| std::fs::read(entry.path()).unwrap()).collect::<Vec<_>>()
    };
    let before = secrets(&app);
    assert!(!before.is_empty(), "the master key is a file of DATA_DIR");
    let (code, output, error) = run(app.command(&["rotate", "master"]));
    assert_eq!(code, Some(0), "{output}{error}");
    assert_ne!(before, secrets(&app), "there is another key now");
    app.boot(None).await;
    let answer = app.as_operator().call("fix__env", json!({ "name": "TOKEN" })).await;
    answer.must(answer.tool_text() == "kept", "what was sealed can still be opened");
}
