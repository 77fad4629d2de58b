//! The wall between tenants: what is another's is not found, at every door and on every path.

use reqwest::Method;
use tests::{Actor, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: another_tenants_ids_are_not_found, lists_show_ones_own, a_slug_is_each_tenants_own;
    Once: a_tenants_server_hides_a_global_one, others_keep_a_child_of_what_one_tenant_hides, children_are_not_shared, the_operator_acts_for_a_tenant,
        a_deleted_tenant_is_gone, builtin_servers_are_nobodys_to_change;
];

/// One thing of each kind in a tenant.
struct Belongings {
    server: String,
    config: String,
    execution: String,
    key: String,
    agent: String,
    tenant: String,
}

async fn furnish(app: &TestApp, tenant: &str) -> (Actor, Belongings) {
    let operator = app.as_operator_for(tenant).await;
    let admin = app.as_tenant_admin(tenant).await;
    let id = |value: Value| value["id"].as_str().unwrap_or_default().to_owned();
    let server = operator.register(Registration::rmcp("fix")).await.id;
    let config = admin.post("/v1/mcp/configs", json!({ "serverId": server })).await.json_of(201);
    let agent = admin.post("/v1/agents", json!({ "slug": "own", "name": "Own" })).await.json_of(201);
    let (_, key) = admin.make_key(json!({ "name": "k", "role": "agent" })).await;
    admin.call("fix__echo", json!({ "nonce": tenant })).await.tool_text();
    let execution = id(admin.executions("tool=echo").await.remove(0));
    let tenant = app.tenant(tenant).await;
    (admin, Belongings { server, config: id(config), execution, key, agent: id(agent), tenant })
}

async fn another_tenants_ids_are_not_found(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (_, theirs) = furnish(&app, "acme").await;
    let (mine, own) = furnish(&app, "globex").await;
    let Belongings { server, config, execution, key, agent, tenant } = &theirs;
    let requests = [
        (Method::GET, format!("/v1/mcp/servers/{server}"), None),
        (Method::PATCH, format!("/v1/mcp/servers/{server}"), Some(json!({ "name": "mine now" }))),
        (Method::DELETE, format!("/v1/mcp/servers/{server}"), None),
        (Method::GET, format!("/v1/mcp/servers/{server}/discover"), None),
        (Method::GET, format!("/v1/mcp/servers/{server}/logs"), None),
        (Method::POST, format!("/v1/mcp/servers/{server}/health"), Some(json!({}))),
        (Method::POST, format!("/v1/mcp/servers/{server}/stop"), Some(json!({}))),
        (Method::POST, format!("/v1/mcp/servers/{server}/start"), Some(json!({}))),
        (Method::POST, format!("/v1/mcp/servers/{server}/restart"), Some(json!({}))),
        (Method::GET, format!("/v1/mcp/configs/{config}"), None),
        (Method::PATCH, format!("/v1/mcp/configs/{config}"), Some(json!({ "enabled": false }))),
        (Method::DELETE, format!("/v1/mcp/configs/{config}"), None),
        (Method::POST, "/v1/mcp/configs".into(), Some(json!({ "serverId": server }))),
        (Method::GET, format!("/v1/mcp/executions/{execution}"), None),
        (Method::DELETE, format!("/v1/keys/{key}"), None),
        (Method::DELETE, format!("/v1/agents/{agent}"), None),
        (Method::POST, "/v1/keys".into(), Some(json!({ "name": "k", "role": "agent", "agentId": agent }))),
    ];
    for (method, path, body) in requests {
        let headers = [("content-type", "application/json")];
        let body = body.map(|body| body.to_string().into_bytes());
        mine.send(method, &path, &headers, body).await.problem(Code::NotFound);
    }
    let config = json!({ "serverId": own.server, "agentId": agent });
    mine.post("/v1/mcp/configs", config).await.problem(Code::NotFound);
    let answer = mine.post("/v1/keys", json!({ "name": "k", "role": "agent", "tenantId": tenant })).await;
    answer.must(matches!(answer.status, 403 | 404), "no key for another tenant");
    let answer = mine.post("/v1/tokens", json!({ "agentId": agent })).await;
    answer.problem(Code::NotFound);
    let answer = mine.get(&format!("/v1/tenants/{tenant}")).await;
    answer.must(matches!(answer.status, 403 | 404), "another tenant cannot be read");
    // All of it is still there for its owner.
    let owner = app.as_tenant_admin("acme").await;
    let body = owner.get(&format!("/v1/mcp/servers/{server}")).await.json_of(200);
    assert_eq!(body["name"], "fix", "nothing was changed: {body}");
    owner.call("fix__echo", json!({ "nonce": "still" })).await.tool_text();
}

async fn lists_show_ones_own(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (acme, theirs) = furnish(&app, "acme").await;
    let (globex, own) = furnish(&app, "globex").await;
    for path in
        ["/v1/mcp/servers?pageSize=100", "/v1/mcp/configs", "/v1/mcp/executions", "/v1/keys", "/v1/agents"]
    {
        let (here, there) = (globex.get(path).await, acme.get(path).await);
        for id in [&theirs.server, &theirs.config, &theirs.execution, &theirs.key, &theirs.agent] {
            here.status(200).must(!here.text().contains(id.as_str()), "another's is not listed");
        }
        let mine = [&own.server, &own.config, &own.execution, &own.key, &own.agent];
        here.must(mine.iter().any(|id| here.text().contains(id.as_str())), "one's own is");
        there.must(!mine.iter().any(|id| there.text().contains(id.as_str())), "and the other way round");
    }
    for query in [format!("server={}", theirs.server), format!("agent={}", theirs.agent)] {
        assert_eq!(globex.executions(&query).await.len(), 0, "a filter opens nothing");
    }
    let page = acme.get("/v1/mcp/executions?limit=1").await.json_of(200);
    if let Some(cursor) = page["nextCursor"].as_str() {
        let answer = globex.get(&format!("/v1/mcp/executions?cursor={cursor}")).await;
        answer.must(!answer.text().contains(&theirs.execution), "nor does another's cursor");
    }
}

async fn a_slug_is_each_tenants_own(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    for (tenant, colour) in [("acme", "red"), ("globex", "blue")] {
        let registration = Registration::rmcp("same").with("env", json!({ "COLOUR": colour }));
        app.as_operator_for(tenant).await.register(registration).await;
    }
    for (tenant, colour) in [("acme", "red"), ("globex", "blue"), ("acme", "red")] {
        let admin = app.as_tenant_admin(tenant).await;
        let answer = admin.call("same__env", json!({ "name": "COLOUR" })).await;
        answer.must(answer.tool_text() == colour, "the same name is another server for another tenant");
    }
    let stranger = app.as_tenant_admin("initech").await;
    stranger
        .call("same__env", json!({ "name": "COLOUR" }))
        .await
        .refused(&[Code::UnknownTool, Code::UnknownServer]);
    assert!(!stranger.tool_names().await.iter().any(|name| name.starts_with("same__")));
}

async fn a_tenants_server_hides_a_global_one(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let acme = app.as_tenant_admin("acme").await;
    acme.call("calculator__add", json!({ "a": 1, "b": 2 })).await.tool_text();
    app.as_operator_for("acme").await.register(Registration::rmcp("calculator")).await;
    let names = acme.tool_names().await;
    assert!(names.contains(&"calculator__echo".to_owned()), "{names:?}");
    assert!(!names.contains(&"calculator__divide".to_owned()), "{names:?}");
    let other = app.as_tenant_admin("globex").await;
    assert!(
        other.tool_names().await.contains(&"calculator__divide".to_owned()),
        "others have the global one"
    );
}

async fn others_keep_a_child_of_what_one_tenant_hides(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("shared").with("scope", "global")).await;
    let globex = app.as_tenant_admin("globex").await;
    let before = globex.call("shared__pid", json!({})).await.tool_text();
    let acme = app.as_tenant_admin("acme").await;
    acme.call("shared__pid", json!({})).await.tool_text();
    app.as_operator_for("acme").await.register(Registration::rmcp("shared")).await;
    assert_eq!(globex.call("shared__pid", json!({})).await.tool_text(), before);
}

async fn children_are_not_shared(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let global = Registration::rmcp("shared").with("scope", "global");
    app.as_operator().register(global).await;
    let acme = app.as_tenant_admin("acme").await.call("shared__pid", json!({})).await.tool_text();
    let globex = app.as_tenant_admin("globex").await.call("shared__pid", json!({})).await.tool_text();
    assert_ne!(acme, globex, "a global server has a child for each tenant");
    let admin = app.as_tenant_admin("acme").await;
    let global = Registration::rmcp("mine").with("scope", "global");
    let answer = admin.post("/v1/mcp/servers", global.body()).await;
    answer.must(answer.status == 403, "a global server is the operator's to make");
}

async fn the_operator_acts_for_a_tenant(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator_for("acme").await;
    operator.register(Registration::rmcp("fix")).await;
    operator.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    assert_eq!(app.as_tenant_admin("acme").await.executions("tool=echo").await.len(), 1);
    assert_eq!(app.as_operator().executions("tool=echo").await.len(), 0, "it happened in that tenant");
    let nobody = app.as_operator().header("x-tenant-id", "ten_00000000000070008000000000000000");
    let answer = nobody.get("/v1/mcp/servers").await;
    answer.must((400..500).contains(&answer.status), "a tenant that is not there is refused");
    let nonsense = app.as_operator().header("x-tenant-id", "not an id");
    let answer = nonsense.get("/v1/mcp/servers").await;
    answer.must((400..500).contains(&answer.status), "so is what is no id");
    let agent = app.as_agent("alice").await;
    let foreign = agent.header("x-tenant-id", app.tenant("acme").await);
    foreign.get("/v1/mcp/servers").await.problem(Code::TenantMismatch);
    let answer = foreign.rpc("ping", json!({})).await;
    answer.status(403);
    answer.refused(&[Code::TenantMismatch]);
}

async fn a_deleted_tenant_is_gone(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (admin, own) = furnish(&app, "acme").await;
    let deleted = app.as_operator().delete(&format!("/v1/tenants/{}", own.tenant)).await;
    deleted.must(matches!(deleted.status, 200 | 204), "the operator may delete a tenant");
    let answer = admin.rpc("ping", json!({})).await;
    answer.must(answer.status == 401, "its keys are of no use any more");
}

async fn builtin_servers_are_nobodys_to_change(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let listed = app.as_operator().get("/v1/mcp/servers?search=calculator").await;
    let id = listed.json_of(200)["items"][0]["id"].as_str().unwrap_or_default().to_owned();
    listed.must(id.starts_with("srv_"), "the calculator is listed");
    let admin = app.as_tenant_admin("acme").await;
    for (method, body) in [(Method::PATCH, Some(json!({ "enabled": false }))), (Method::DELETE, None)] {
        let headers = [("content-type", "application/json")];
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = admin.send(method, &format!("/v1/mcp/servers/{id}"), &headers, body).await;
        answer.must(matches!(answer.status, 403 | 404 | 409), "a tenant does not change a global server");
    }
    let config = json!({ "serverId": id, "blockedTools": ["power"] });
    admin.post("/v1/mcp/configs", config).await.status(201);
    admin.call("calculator__power", json!({})).await.refused(&[Code::DeniedByPolicy]);
    let other = app.as_tenant_admin("globex").await;
    assert!(other.tool_names().await.contains(&"calculator__power".to_owned()), "its config is its own");
}
