//! Remote servers in the registry: who may register them, where they may be, what is sealed.

use tests::{Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: a_remote_server_is_registered;
    Once: addresses_that_are_not_public, opened_networks, declared_remote_servers,
        mistakes_in_remote_declarations, sealed_headers_stay_where_they_are, the_era_is_shown;
];

fn remote(slug: &str, transport: &str, url: &str) -> Value {
    json!({ "slug": slug, "name": slug, "transport": transport, "url": url })
}

async fn a_remote_server_is_registered(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    // A tenant's administrator has `servers:write` and no `servers:launch`.
    let admin = app.as_tenant_admin("acme").await;
    let mut body = remote("far", "streamable-http", "https://mcp.example.com/mcp");
    body["headers"] = json!({ "Authorization": "Bearer hunter2" });
    let answer = admin.post("/v1/mcp/servers", body).await;
    let made = answer.json_of(201);
    answer
        .must(made["headers"] == json!({ "Authorization": { "set": true } }), "of headers, names are shown");
    answer.must(!answer.text().contains("hunter2"), "and no values");
    answer.must(made["era"] == "auto" && made["eraFound"].is_null(), "nothing was found out yet");
    answer.must(made["state"] == "unknown", "it was not asked for anything yet");
    let socket =
        admin.post("/v1/mcp/servers", remote("socket", "websocket", "wss://mcp.example.com/ws")).await;
    socket.must(socket.json_of(201)["transport"] == "websocket", "a WebSocket is another transport");
    let listed = admin.get("/v1/mcp/servers?transport=websocket").await.json_of(200);
    assert_eq!((&listed["total"], &listed["items"][0]["slug"]), (&json!(1), &json!("socket")));
    let path = format!("/v1/mcp/servers/{}", made["id"].as_str().unwrap_or_default());
    let changed = admin.patch(&path, json!({ "url": "https://mcp.example.com/v2", "era": "modern" })).await;
    let changed = changed.json_of(200);
    assert_eq!((&changed["revision"], &changed["era"]), (&json!(2), &json!("modern")));
    for (member, value) in [
        ("transport", json!("carrier-pigeon")),
        ("url", json!("ftp://mcp.example.com")),
        ("url", json!("https://user:hunter2@mcp.example.com")),
        ("url", Value::Null),
        ("command", json!("uvx")),
        ("env", json!({ "A": "b" })),
        ("headers", json!({ "Host": "evil.example" })),
        ("headers", json!({ "Mcp-Session-Id": "x" })),
        ("headers", json!({ "X-A": "a\r\nX-B: b" })),
        ("era", json!("dual")),
    ] {
        let mut body = remote("bad", "streamable-http", "https://mcp.example.com/mcp");
        body[member] = value;
        let answer = admin.post("/v1/mcp/servers", body).await;
        let problem = answer.problem(Code::ValidationFailed);
        answer.must(problem["errors"][0]["field"] == member, &format!("{member} is named"));
        answer.must(!answer.text().contains("hunter2"), "and no secret repeated");
    }
}

async fn addresses_that_are_not_public(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for url in [
        "http://127.0.0.1/mcp",
        "http://2130706433:8080/",
        "https://[::1]/mcp",
        "http://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/mcp",
    ] {
        let answer = operator.post("/v1/mcp/servers", remote("near", "streamable-http", url)).await;
        let problem = answer.problem(Code::ValidationFailed);
        let detail = problem["errors"][0]["detail"].as_str().unwrap_or_default();
        answer.must(problem["errors"][0]["field"] == "url", "the address is at fault");
        answer.must(detail.contains("EGRESS_ALLOW"), "it says how it could be opened");
    }
    let answer = operator.post("/v1/mcp/servers", remote("near", "websocket", "ws://10.1.2.3/ws")).await;
    answer.problem(Code::ValidationFailed);
    answer.must(answer.text().contains("10.1.2.3"), "it names the address");
    let made =
        operator.post("/v1/mcp/servers", remote("far", "streamable-http", "https://mcp.example.com/mcp"));
    let made = made.await.json_of(201);
    let path = format!("/v1/mcp/servers/{}", made["id"].as_str().unwrap_or_default());
    operator.patch(&path, json!({ "url": "http://192.168.0.1/mcp" })).await.problem(Code::ValidationFailed);
}

async fn opened_networks(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("EGRESS_ALLOW", "10.0.0.0/8")).await;
    let operator = app.as_operator();
    operator.post("/v1/mcp/servers", remote("a", "streamable-http", "http://10.1.2.3/mcp")).await.status(201);
    operator
        .post("/v1/mcp/servers", remote("b", "streamable-http", "http://127.0.0.1/mcp"))
        .await
        .problem(Code::ValidationFailed);
}

async fn declared_remote_servers(backend: Backend) {
    let file = "[[servers]]\nslug = \"near\"\ntransport = \"streamable-http\"\nurl = \"http://127.0.0.1:${NEAR_PORT}/mcp\"\n\
                headers = { Authorization = \"Bearer ${NEAR_TOKEN}\" }\nera = \"legacy\"\n";
    let settings = Settings::new().env("NEAR_PORT", "9").env("NEAR_TOKEN", "hunter2").file(file);
    let app = TestApp::start(backend, settings).await;
    let operator = app.as_operator();
    let listed = operator.get("/v1/mcp/servers?search=near").await;
    let near = listed.json_of(200)["items"][0].clone();
    listed.must(near["managedBy"] == "config" && near["era"] == "legacy", "it is a row of the file's");
    listed.must(near["url"] == "http://127.0.0.1:9/mcp", "a private address is the operator's own business");
    listed.must(near["headers"]["Authorization"]["set"] == true, "its headers are set");
    listed.must(!listed.text().contains("hunter2"), "and sealed");
    // The operator's address is open to the operator's declaration, not to those who register.
    let mine = remote("mine", "streamable-http", "http://127.0.0.1:9/mcp");
    operator.post("/v1/mcp/servers", mine).await.problem(Code::ValidationFailed);
}

async fn mistakes_in_remote_declarations(backend: Backend) {
    let server =
        |further: &str| format!("[[servers]]\nslug = \"far\"\ntransport = \"streamable-http\"\n{further}\n");
    for (further, said) in [
        ("", "servers[0].url: a remote server needs one"),
        ("url = \"wss://x.example\"", "servers[0].url: is an address that begins with https://"),
        ("url = \"https://u:p@x.example\"", "servers[0].url: has a user"),
        ("url = \"https://${NOT_SET_ANYWHERE}/\"", "NOT_SET_ANYWHERE"),
        ("url = \"https://x.example\"\ncommand = \"c\"", "servers[0].command: does not belong"),
        ("url = \"https://x.example\"\nheaders = { Host = \"y\" }", "servers[0].headers: has `Host`"),
        ("url = \"https://x.example\"\nera = \"dual\"", "servers[0].era"),
    ] {
        match TestApp::try_start(backend, Settings::new().file(server(further))).await {
            Ok(_) => panic!("this was accepted: {further}"),
            Err(failed) => assert!(failed.output.contains(said), "{said}:\n{}", failed.output),
        }
    }
}

async fn sealed_headers_stay_where_they_are(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let admin = app.as_tenant_admin("acme").await;
    let mut body = remote("far", "streamable-http", "https://mcp.example.com/mcp");
    body["headers"] = json!({ "X-Key": "hunter2" });
    let made = admin.post("/v1/mcp/servers", body).await.json_of(201);
    let path = format!("/v1/mcp/servers/{}", made["id"].as_str().unwrap_or_default());
    let moved = admin.patch(&path, json!({ "url": "https://evil.example/mcp" })).await;
    moved.problem(Code::ValidationFailed);
    moved.must(moved.text().contains("X-Key"), "it says which headers would go there");
    admin.patch(&path, json!({ "url": "https://mcp.example.com/v2" })).await.status(200);
    let moved = admin.patch(&path, json!({ "url": "https://evil.example/mcp", "headers": null })).await;
    assert_eq!(moved.json_of(200)["headers"], json!({}));
}

async fn the_era_is_shown(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let made = operator.register(Registration::rmcp("fix").with("era", "legacy")).await;
    let answer = operator.get(&made.path("")).await;
    let body = answer.json_of(200);
    answer.must(body["era"] == "legacy" && body["eraFound"].is_null(), "what is said needs no finding out");
    operator.patch(&made.path(""), json!({ "eraFound": null })).await.problem(Code::ValidationFailed);
}
