//! The registry by REST: servers are registered, found, changed, looked into and deleted.

use std::time::Duration;

use reqwest::Method;
use tests::{Actor, Answer, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: a_server_from_registration_to_deletion, lists_are_filtered_and_paged, secrets_are_sealed_and_never_shown,
        changes_need_the_current_revision;
    Once: a_slug_is_taken_once, slugs_never_change, discovery_shows_what_a_server_has, health_asks_the_server,
        stop_start_restart, a_change_replaces_the_child, a_disabled_server_is_refused, logs_are_the_childs_stderr,
        changes_are_audited, agents_and_tenants;
];

async fn a_server_from_registration_to_deletion(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let registration = Registration::rmcp("fix")
        .with("name", "A fixture")
        .with("description", "answers")
        .with("category", "trials")
        .with("tags", json!(["a", "b"]))
        .with("cwd", "/")
        .with("timeoutMs", 12_345)
        .with("env", json!({ "TZ": "UTC" }));
    let answer = operator.post("/v1/mcp/servers", registration.body()).await;
    let body = answer.json_of(201);
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    answer.must(id.starts_with("srv_"), "an id says what it names");
    answer.must(body["scope"] == "tenant" && body["managedBy"] == "rest", "it says whose it is");
    answer.must(body["revision"] == 1 && body["enabled"] == true, "it begins enabled, with revision 1");
    for (name, value) in registration.body().as_object().unwrap().iter().filter(|(name, _)| *name != "env") {
        answer.must(&body[name] == value, &format!("{name} comes back as it was given"));
    }
    for name in ["createdAt", "updatedAt"] {
        let time = body[name].as_str().unwrap_or_default().parse::<jiff::Timestamp>();
        answer.must(time.is_ok(), &format!("{name} is a time"));
    }
    let path = format!("/v1/mcp/servers/{id}");
    let found = operator.get(&path).await.json_of(200);
    assert_eq!(found["slug"], "fix");
    operator.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    let changed = operator.patch(&path, json!({ "name": "Renamed", "description": null })).await.json_of(200);
    assert_eq!((&changed["name"], &changed["description"]), (&json!("Renamed"), &Value::Null));
    assert_eq!(changed["category"], "trials", "what is not named stays");
    app.terminate(Duration::from_secs(20)).await;
    app.boot(None).await;
    let operator = app.as_operator();
    assert_eq!(operator.get(&path).await.json_of(200)["name"], "Renamed", "it is there after a restart");
    operator.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    let deleted = operator.delete(&path).await;
    deleted.must(matches!(deleted.status, 200 | 204), "it can be deleted");
    operator.get(&path).await.problem(Code::NotFound);
    operator.delete(&path).await.problem(Code::NotFound);
    operator.patch(&path, json!({ "name": "x" })).await.problem(Code::NotFound);
    operator
        .call("fix__echo", json!({ "nonce": "n" }))
        .await
        .refused(&[Code::UnknownTool, Code::UnknownServer]);
    assert!(!operator.tool_names().await.iter().any(|name| name.starts_with("fix__")));
    let rows = operator.executions("server=fix&outcome=ok").await;
    assert_eq!(rows.len(), 2, "its executions stay, with its slug: {rows:#?}");
    assert!(operator.executions("limit=100").await.iter().all(|row| row["serverSlug"] == "fix"));
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !app.children().is_empty() {
        assert!(std::time::Instant::now() < until, "its child is still there: {:#?}", app.children());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_slug_is_taken_once(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let first = operator.register(Registration::rmcp("fix")).await;
    let answer = operator.post("/v1/mcp/servers", Registration::rmcp("fix").body()).await;
    let problem = answer.problem(Code::SlugTaken);
    answer.must(problem.to_string().contains("fix"), "it says which slug");
    operator.delete(&first.path("")).await;
    let second = operator.register(Registration::rmcp("fix")).await;
    assert_ne!(first.id, second.id, "a slug is free again after a deletion");
    let both =
        async |name: &str| operator.post("/v1/mcp/servers", Registration::rmcp(name).body()).await.status;
    let statuses = futures_util::future::join_all((0..8).map(|_| both("race"))).await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}

async fn slugs_never_change(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    let answer = operator.patch(&server.path(""), json!({ "slug": "other" })).await;
    answer.must(matches!(answer.status, 400 | 409 | 422), "a slug is immutable");
    let answer = operator.patch(&server.path(""), json!({ "managedBy": "config", "id": "srv_1" })).await;
    answer
        .must(matches!(answer.status, 400 | 422), "a member that cannot be changed is refused, not ignored");
    assert_eq!(operator.get(&server.path("")).await.json_of(200)["slug"], "fix");
}

async fn changes_need_the_current_revision(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    let found = operator.get(&server.path("")).await;
    let tag = found.header("etag").unwrap_or_default().to_owned();
    found.must(!tag.is_empty(), "a server has an ETag");
    let patch = async |tag: &str, body: Value| {
        let headers = [("content-type", "application/json"), ("if-match", tag)];
        operator.send(Method::PATCH, &server.path(""), &headers, Some(body.to_string().into_bytes())).await
    };
    let changed = patch(&tag, json!({ "args": ["--changed"] })).await;
    let body = changed.json_of(200);
    changed.must(body["revision"] == 2, "another child is another revision");
    patch(&tag, json!({ "args": [] })).await.problem(Code::PreconditionFailed);
    let now = operator.get(&server.path("")).await;
    now.must(now.json_of(200)["args"] == json!(["--changed"]), "the refused change changed nothing");
    let tag = now.header("etag").unwrap_or_default().to_owned();
    patch(&tag, json!({ "args": [] })).await.status(200);
    patch("*", json!({ "name": "any" })).await.status(200);
    operator.patch(&server.path(""), json!({ "name": "without" })).await.status(200);
}

async fn lists_are_filtered_and_paged(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for number in 0..23 {
        let category = if number % 2 == 0 { "even" } else { "odd" };
        let registration = Registration::rmcp(&format!("s{number:02}"))
            .with("name", format!("Server {number}"))
            .with("category", category)
            .with("enabled", number != 22);
        operator.register(registration).await;
    }
    let totals = [
        ("transport=stdio", 23),
        ("category=odd", 11),
        ("category=odd&transport=stdio", 11),
        ("category=nothing", 0),
        ("search=s07", 1),
        ("search=SERVER%2012", 1),
        ("search=%25&transport=stdio", 0),
        ("search=_&transport=stdio", 0),
    ];
    for (query, total) in totals {
        let answer = operator.get(&format!("/v1/mcp/servers?{query}")).await;
        answer.must(answer.json_of(200)["total"] == total, &format!("{query} finds {total}"));
    }
    let builtin = operator.get("/v1/mcp/servers?transport=builtin").await;
    let slugs = builtin.json_of(200)["items"].to_string();
    builtin.must(
        slugs.contains("calculator") && slugs.contains("\"global\""),
        "built-in servers are global rows",
    );
    let mut seen = std::collections::BTreeSet::new();
    for (page, size) in [(1, 10), (2, 10), (3, 3), (4, 0)] {
        let query = if page == 2 { "page_size=10" } else { "pageSize=10" };
        let path = format!("/v1/mcp/servers?transport=stdio&page={page}&{query}");
        let answer = operator.get(&path).await;
        let body = answer.json_of(200);
        let items = body["items"].as_array().cloned().unwrap_or_default();
        answer.must(items.len() == size && body["total"] == 23, "a page has its size, and the total stays");
        answer.must(body["page"] == page && body["pageSize"] == 10, "it says which page it is");
        seen.extend(items.iter().map(|item| item["id"].to_string()));
    }
    assert_eq!(seen.len(), 23, "each is on one page");
    for query in ["page=0", "pageSize=0", "pageSize=100000", "page=x", "transport=pigeon", "status=nonsense"]
    {
        let answer = operator.get(&format!("/v1/mcp/servers?{query}")).await;
        answer.must(matches!(answer.status, 400 | 422), &format!("{query} is refused"));
    }
    operator.call("s00__echo", json!({ "nonce": "n" })).await.tool_text();
    let healthy = operator.get("/v1/mcp/servers?status=healthy&transport=stdio").await;
    let body = healthy.json_of(200);
    healthy.must(body["total"] == 1 && body["items"][0]["slug"] == "s00", "status filters by state");
}

async fn secrets_are_sealed_and_never_shown(backend: Backend) {
    use sea_orm::ConnectionTrait;
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let env = json!({ "TOKEN": "very-s3cret-value", "TZ": "UTC" });
    let server = operator.register(Registration::rmcp("fix").with("env", env)).await;
    let answer = operator.call("fix__env", json!({ "name": "TOKEN" })).await;
    answer.must(answer.tool_text() == "very-s3cret-value", "the child gets it");
    let paths = [server.path(""), "/v1/mcp/servers".into(), server.path("/discover"), server.path("/logs")];
    for path in paths {
        let answer = operator.get(&path).await;
        answer.status(200).must(!answer.text().contains("s3cret"), "a value is never shown");
    }
    let shown = operator.get(&server.path("")).await.json_of(200)["env"].to_string();
    assert!(shown.contains("TOKEN") && shown.contains(r#""set":true"#), "its name is: {shown}");
    operator.patch(&server.path(""), json!({ "name": "other" })).await.status(200);
    let answer = operator.call("fix__env", json!({ "name": "TOKEN" })).await;
    answer.must(answer.tool_text() == "very-s3cret-value", "a change of something else keeps it");
    let connection = app.storage.connect(&app.data_dir()).await;
    let cast = if backend == Backend::Sqlite { "hex(env_sealed)" } else { "encode(env_sealed, 'hex')" };
    let statement = format!("SELECT {cast} AS env FROM mcp_servers WHERE slug = 'fix'");
    let statement = sea_orm::Statement::from_string(connection.get_database_backend(), statement);
    let row =
        connection.query_one_raw(statement).await.expect("the row can be read").expect("there is a row");
    let kept = row.try_get::<String>("", "env").expect("something is kept");
    let plain: String = b"s3cret".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(kept.len() > 40 && !kept.to_lowercase().contains(&plain), "it is sealed: {kept}");
    drop(connection);
    app.terminate(Duration::from_secs(20)).await;
    let lines = |app: &TestApp| app.process().lines().join("\n");
    app.boot(None).await;
    let answer = app.as_operator().call("fix__env", json!({ "name": "TOKEN" })).await;
    answer.must(answer.tool_text() == "very-s3cret-value", "it can be opened after a restart");
    assert!(!lines(&app).contains("s3cret"), "nor is it logged");
}

async fn discovery_shows_what_a_server_has(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    let answer = operator.get(&server.path("/discover")).await;
    let body = answer.json_of(200);
    let names = |list: &str| -> Vec<String> {
        let items = body[list].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
    };
    answer.must(names("tools").contains(&"echo".to_owned()), "its tools are shown as it names them");
    answer.must(names("resources") == ["greeting"], "so are its resources");
    answer.must(names("prompts") == ["greet"], "and its prompts");
    answer.must(answer.text().contains("inputSchema"), "with their schemas");
    let server = operator.get(&server.path("")).await;
    server.must(server.json_of(200)["toolsCount"] == names("tools").len(), "the number of tools is kept");
    let bad = operator.register(Registration::bad("bad", &["--exit-at-once", "4"])).await;
    let answer = operator.get(&bad.path("/discover")).await;
    answer.problem(Code::UpstreamUnavailable);
}

async fn health_asks_the_server(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let good = operator.register(Registration::rmcp("fix")).await;
    let bad = operator.register(Registration::bad("bad", &["--exit-at-once", "174"])).await;
    let before = operator.get(&good.path("")).await;
    before.must(before.json_of(200)["state"] == "unknown", "nobody knows before it was asked");
    let answer = operator.post(&good.path("/health"), json!({})).await;
    answer.must(answer.json_of(200)["state"] == "healthy", "a server that answers is healthy");
    let answer = operator.post(&bad.path("/health"), json!({})).await;
    let body = answer.json_of(200);
    answer.must(body["state"] == "unhealthy" || body["state"] == "degraded", "one that does not is not");
    let why = body["stateReason"].as_str().unwrap_or_default().to_owned();
    answer.must(why.contains("174"), "and why is said: the code with which it ended");
    let missing =
        operator.post("/v1/mcp/servers/srv_00000000000070008000000000000000/health", json!({})).await;
    missing.problem(Code::NotFound);
}

async fn stop_start_restart(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    let pid = async || operator.call("fix__pid", json!({})).await.tool_text();
    let first = pid().await;
    succeeds(&operator.post(&server.path("/restart"), json!({})).await);
    let second = pid().await;
    assert_ne!(first, second, "a restart is another process");
    succeeds(&operator.post(&server.path("/stop"), json!({})).await);
    let error = operator.call("fix__pid", json!({})).await.refused(&[Code::ServerStopped]);
    assert!(error["data"]["hint"].is_string() || error["data"]["since"].is_string(), "{error}");
    assert_eq!(operator.get(&server.path("")).await.json_of(200)["state"], "stopped");
    succeeds(&operator.post(&server.path("/start"), json!({})).await);
    assert_ne!(pid().await, second);
    assert_eq!(operator.get(&server.path("")).await.json_of(200)["state"], "healthy");
}

#[track_caller]
fn succeeds(answer: &Answer) {
    answer.must((200..300).contains(&answer.status), "this should succeed");
}

async fn a_change_replaces_the_child(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix").with("env", json!({ "COLOUR": "red" }))).await;
    let colour = async |actor: &Actor| actor.call("fix__env", json!({ "name": "COLOUR" })).await.tool_text();
    assert_eq!(colour(&operator).await, "red");
    let open = operator.call("fix__sleep", json!({ "ms": 1500 }));
    let changing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        operator.patch(&server.path(""), json!({ "env": { "COLOUR": "blue" } })).await.status(200);
        assert_eq!(colour(&operator).await, "blue", "the next call has the new child");
    };
    let (answer, ()) = tokio::join!(open, changing);
    answer.must(answer.tool_text() == "slept 1500 ms", "an open call ends in the old one");
    operator.patch(&server.path(""), json!({ "timeoutMs": 300 })).await.status(200);
    operator.call("fix__sleep", json!({ "ms": 5000 })).await.refused(&[Code::TimedOut]);
}

async fn a_disabled_server_is_refused(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    operator.call("fix__pid", json!({})).await.tool_text();
    operator.patch(&server.path(""), json!({ "enabled": false })).await.status(200);
    let refused = [Code::ServerDisabled, Code::UnknownTool];
    operator.call("fix__pid", json!({})).await.refused(&refused);
    assert!(!operator.tool_names().await.iter().any(|name| name.starts_with("fix__")), "it is not listed");
    operator.patch(&server.path(""), json!({ "enabled": true })).await.status(200);
    operator.call("fix__pid", json!({})).await.tool_text();
}

async fn logs_are_the_childs_stderr(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    operator.call("fix__pid", json!({})).await.tool_text();
    let logs = operator
        .until(&server.path("/logs"), Duration::from_secs(5), |answer| {
            answer.text().contains("fixture-rmcp is ready")
        })
        .await;
    let line = logs.json_of(200)["items"][0].clone();
    logs.must(line["text"].is_string() && line["stream"].is_string(), "a line says from which stream it is");
    logs.must(
        line["at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()),
        "and when it came",
    );
}

async fn changes_are_audited(backend: Backend) {
    use sea_orm::ConnectionTrait;
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix").with("env", json!({ "TOKEN": "s3cret" }))).await;
    operator.patch(&server.path(""), json!({ "args": ["--visible-argument"] })).await.status(200);
    operator.delete(&server.path("")).await;
    let connection = app.storage.connect(&app.data_dir()).await;
    let statement = "SELECT action, CAST(details AS TEXT) AS details FROM audit_events".to_owned();
    let statement = sea_orm::Statement::from_string(connection.get_database_backend(), statement);
    let rows = connection.query_all_raw(statement).await.expect("the events can be read");
    let column = |row: &sea_orm::QueryResult, name: &str| row.try_get::<String>("", name).unwrap_or_default();
    let actions: Vec<String> = rows.iter().map(|row| column(row, "action")).collect();
    for action in ["server.create", "server.update", "server.delete"] {
        assert!(actions.iter().any(|one| one == action), "{action} is missing in {actions:?}");
    }
    let details: String = rows.iter().map(|row| column(row, "details")).collect();
    assert!(details.contains("--visible-argument"), "the whole command line is kept: {details}");
    assert!(!details.contains("s3cret"), "a secret is not: {details}");
}

async fn agents_and_tenants(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let agent = operator.post("/v1/agents", json!({ "slug": "tom", "name": "Tom" })).await.json_of(201);
    assert!(agent["id"].as_str().is_some_and(|id| id.starts_with("agt_")), "{agent}");
    operator.post("/v1/agents", json!({ "slug": "tom", "name": "Tom" })).await.problem(Code::SlugTaken);
    let listed = operator.get("/v1/agents").await.json_of(200)["items"].to_string();
    assert!(listed.contains("\"tom\""), "{listed}");
    let tenant = operator.post("/v1/tenants", json!({ "slug": "acme", "name": "Acme" })).await.json_of(201);
    assert!(tenant["id"].as_str().is_some_and(|id| id.starts_with("ten_")), "{tenant}");
    operator.post("/v1/tenants", json!({ "slug": "acme", "name": "Acme" })).await.problem(Code::SlugTaken);
    let listed = operator.get("/v1/tenants").await.json_of(200)["items"].to_string();
    assert!(listed.contains("\"acme\"") && listed.contains("\"default\""), "{listed}");
    for body in
        [json!({ "slug": "", "name": "x" }), json!({ "name": "x" }), json!({ "slug": "a b", "name": "x" })]
    {
        let answer = operator.post("/v1/tenants", body).await;
        answer.must(matches!(answer.status, 400 | 422), "a wrong body is refused");
    }
}
