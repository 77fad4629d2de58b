//! The marketplace: entries, the official Registry API, and installations that are approved by their digest.

use tests::{Backend, Case, Code, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: an_entry_is_installed_after_its_plan_is_approved;
    Once: entries_are_found, the_official_api_lists_them, wrong_installations;
];

const TIME: &str = "/v1/mcp/registry/io.github.modelcontextprotocol%2Fserver-time";
const FILES: &str = "/v1/mcp/registry/io.github.modelcontextprotocol%2Fserver-filesystem";
const GITHUB: &str = "/v1/mcp/registry/io.github.github%2Fgithub-mcp-server";

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

async fn entries_are_found(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let alice = app.as_agent("alice").await;
    let all = alice.get("/v1/mcp/registry").await.json_of(200);
    let total = all["total"].as_u64().unwrap();
    assert!(total > 20 && names(&all).len() as u64 == total);
    let found = |query: &str| {
        let path = format!("/v1/mcp/registry?{query}");
        let alice = alice.clone();
        async move { names(&alice.get(&path).await.json_of(200)) }
    };
    assert!(found("search=TIME%20ZONE").await.contains(&"server-time".to_owned()));
    assert_eq!(found("transport=streamable-http&search=pull%20requests").await, ["github-mcp-server"]);
    assert_eq!(found("search=nothing-has-this").await, [""; 0]);
    assert_eq!(found("pageSize=2&page=2").await, names(&all)[2..4]);
    let reference = found("tag=reference").await;
    assert!(reference.contains(&"server-git".to_owned()) && reference.len() < names(&all).len());
    let entry = alice.get(TIME).await.json_of(200);
    assert_eq!(entry["server"]["packages"][0]["identifier"], "mcp-server-time");
    assert!(entry["tried"].is_string() && entry["notTried"].is_null());
    alice.get("/v1/mcp/registry/nobody%2Fnothing").await.problem(Code::NotFound);
    alice.get("/v1/mcp/registry?transport=pigeon").await.problem(Code::ValidationFailed);
}

async fn the_official_api_lists_them(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let alice = app.as_agent("alice").await;
    let total = alice.get("/v1/mcp/registry").await.json_of(200)["total"].as_u64().unwrap();
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = alice.get(&format!("/v0.1/servers?limit=10{cursor}")).await.json_of(200);
        let servers = page["servers"].as_array().unwrap();
        assert_eq!(page["metadata"]["count"], servers.len());
        for server in servers {
            assert_eq!(server["_meta"]["io.modelcontextprotocol.registry/official"]["isLatest"], true);
            seen.push(server["server"]["name"].as_str().unwrap().to_owned());
        }
        match page["metadata"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!(seen.len() as u64, total);
    assert!(seen.is_sorted(), "{seen:?}");
    let name = "io.github.modelcontextprotocol%2Fserver-time";
    for path in [format!("{name}/versions/latest"), format!("{name}/versions/2026.10.19")] {
        let found = alice.get(&format!("/v0.1/servers/{path}")).await.json_of(200);
        assert_eq!(found["server"]["title"], "Time");
    }
    alice.get(&format!("/v0.1/servers/{name}/versions/0.0.1")).await.problem(Code::NotFound);
    let versions = alice.get(&format!("/v0.1/servers/{name}/versions")).await.json_of(200);
    assert_eq!(versions["metadata"]["count"], 1);
    let none = alice.get("/v0.1/servers?updated_since=2099-01-01T00:00:00Z").await.json_of(200);
    assert_eq!(none["servers"], json!([]));
}

async fn an_entry_is_installed_after_its_plan_is_approved(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let mut body = json!({ "slug": "zeit", "inputs": { "--local-timezone": "Europe/Berlin" } });
    let plan = operator.post(&format!("{TIME}/install"), body.clone()).await.json_of(200);
    assert_eq!((&plan["command"], &plan["transport"]), (&json!("uvx"), &json!("stdio")));
    assert_eq!(plan["args"], json!(["mcp-server-time@2026.10.19", "--local-timezone=Europe/Berlin"]));
    operator.get("/v1/mcp/servers/zeit").await.problem(Code::NotFound);
    body["approve"] = plan["digest"].clone();
    let mut other = body.clone();
    other["inputs"]["--local-timezone"] = "Asia/Tokyo".into();
    let refused = operator.post(&format!("{TIME}/install"), other).await;
    assert!(refused.problem(Code::Conflict)["digest"].is_string());
    let admin = app.as_tenant_admin("other").await;
    let without = admin.post(&format!("{TIME}/install"), body.clone()).await;
    assert_eq!(without.problem(Code::MissingScope)["rule"], "scope servers:launch");
    let installed = operator.post(&format!("{TIME}/install"), body.clone()).await;
    let server = installed.json_of(201);
    assert_eq!(
        (&server["slug"], &server["args"], &server["version"]),
        (&json!("zeit"), &plan["args"], &json!("2026.10.19"))
    );
    assert_eq!(operator.get("/v1/mcp/servers/zeit").await.json_of(200)["command"], "uvx");
    operator.post(&format!("{TIME}/install"), body).await.problem(Code::SlugTaken);
    let audit = operator.get("/v1/audit").await.text();
    assert!(audit.contains("server.create") && audit.contains("mcp-server-time@2026.10.19"), "{audit}");

    // A hosted server needs no right to run programs, and its secret is neither shown nor logged.
    let mut body = json!({ "inputs": { "token": "s3cret-token" } });
    let answer = admin.post(&format!("{GITHUB}/install"), body.clone()).await;
    let plan = answer.json_of(200);
    answer.must(!answer.text().contains("s3cret"), "the plan has names only");
    assert_eq!(plan["headers"], json!(["Authorization", "X-MCP-Readonly"]));
    body["approve"] = plan["digest"].clone();
    let installed = admin.post(&format!("{GITHUB}/install"), body).await;
    installed.status(201);
    installed.must(!installed.text().contains("s3cret"), "nor has the server");
}

async fn wrong_installations(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for (path, body, part) in [
        (FILES, json!({}), "inputs.directory is missing"),
        (FILES, json!({ "inputs": { "directory": "/x", "root": "/" } }), "inputs.root is not known"),
        (FILES, json!({ "inputs": { "directory": "a\nb" } }), "control character"),
        (FILES, json!({ "inputs": ["directory"] }), "inputs is an object"),
        (FILES, json!({ "transport": "streamable-http" }), "is not offered"),
        (FILES, json!({ "inputs": { "directory": "/x" }, "approve": "yes" }), "approve"),
        (FILES, json!({ "command": "sh" }), "command is not known"),
        (TIME, json!({ "slug": "Not A Slug" }), "slug"),
    ] {
        let answer = operator.post(&format!("{path}/install"), body).await;
        let problem = answer.problem(Code::ValidationFailed);
        answer.must(problem["detail"].as_str().is_some_and(|detail| detail.contains(part)), part);
    }
    operator.post("/v1/mcp/registry/a%2Fb/install", json!({})).await.problem(Code::NotFound);
    app.as_agent("alice").await.post(&format!("{TIME}/install"), json!({})).await.problem(Code::MissingScope);
}
