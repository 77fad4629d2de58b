//! Authentication: API keys, the loopback caller, the agent header, and the scopes of roles.

use std::time::Duration;

use tests::jwt::hs256;
use tests::{Actor, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

use crate::tokens::{SECRET, claims, unauthenticated};

pub const CASES: &[Case] = cases![
    Every: a_key_works_until_it_is_revoked, nobody_grants_what_they_lack, the_agent_header;
    Once: a_key_expires, bad_credentials_are_never_a_fall_back, two_credentials_must_agree, the_loopback_role,
        forwarded_headers_prove_nothing, roles_allow_what_they_say, the_operators_key,
        a_key_is_kept_as_a_hash, narrow_scopes;
];

async fn a_key_works_until_it_is_revoked(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("LOOPBACK_ROLE", "none")).await;
    let operator = app.as_operator();
    let (secret, id) = operator.make_key(json!({ "name": "first", "role": "agent" })).await;
    assert!(id.starts_with("key_"), "{id}");
    for actor in [app.with_key(&secret), app.with_bearer(&secret)] {
        actor.rpc("ping", json!({})).await.result();
    }
    let listed = operator.get("/v1/keys").await;
    let items = listed.json_of(200)["items"].as_array().cloned().unwrap_or_default();
    let own = items.iter().find(|item| item["id"] == id.as_str()).cloned().unwrap_or_default();
    listed.must(own["name"] == "first", "the key is listed");
    listed.must(!listed.text().contains(&secret), "its secret is shown once and never again");
    listed.must(own.get("secret").is_none_or(Value::is_null), "nor is there a member for it");
    let key = app.with_key(&secret);
    let deleted = operator.delete(&format!("/v1/keys/{id}")).await;
    deleted.must(matches!(deleted.status, 200 | 204), "a key can be revoked");
    let answer = key.rpc("ping", json!({})).await;
    answer.status(401);
    answer.refused(&[Code::CredentialRevoked]);
    key.get("/v1/mcp/servers").await.problem(Code::CredentialRevoked);
    operator.rpc("ping", json!({})).await.result();
}

async fn a_key_expires(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("LOOPBACK_ROLE", "none")).await;
    let soon = jiff::Timestamp::now() + Duration::from_millis(2500);
    let body = json!({ "name": "short", "role": "agent", "expiresAt": soon.to_string() });
    let (secret, _) = app.as_operator().make_key(body).await;
    let key = app.with_key(&secret);
    key.rpc("ping", json!({})).await.result();
    tokio::time::sleep(Duration::from_millis(3000)).await;
    let answer = key.rpc("ping", json!({})).await;
    answer.status(401);
    answer.refused(&[Code::CredentialExpired]);
    let past = json!({ "name": "past", "role": "agent", "expiresAt": "2020-01-01T00:00:00Z" });
    let answer = app.as_operator().post("/v1/keys", past).await;
    answer.must(matches!(answer.status, 400 | 422), "a key that has expired already is a mistake");
}

async fn bad_credentials_are_never_a_fall_back(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let local = app.anonymous_from_loopback();
    local.rpc("ping", json!({})).await.result();
    let bad = [
        local.header("x-mcp-key", "mcp_live_0000000000000000000000000000000000000000"),
        local.header("x-mcp-key", "nonsense"),
        local.header("x-mcp-key", ""),
        local.header("authorization", "Bearer nonsense"),
        local.header("authorization", "Bearer mcp_live_nonsense"),
        local.header("authorization", "Bearer "),
        local.header("authorization", "Basic dXNlcjpwYXNz"),
        local.header("authorization", format!("Bearer {}", hs256(SECRET, &claims(json!({}))))),
    ];
    for actor in bad {
        let answer = actor.rpc("ping", json!({})).await;
        unauthenticated(&answer);
        answer.must(answer.header("www-authenticate").is_some(), "a 401 says how to authenticate (RFC 9110)");
        actor.get("/v1/mcp/servers").await.status(401);
    }
}

async fn two_credentials_must_agree(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("JWT_SECRET", SECRET)).await;
    let operator = app.as_operator();
    let (key, _) = operator.make_key(json!({ "name": "k", "role": "agent" })).await;
    let acme = app.tenant("acme").await;
    let (foreign, _) = operator.make_key(json!({ "name": "k", "role": "agent", "tenantId": acme })).await;
    let token = hs256(SECRET, &claims(json!({})));
    let both = |key: &str, token: &str| app.with_bearer(token).header("x-mcp-key", key);
    both(&key, &token).rpc("ping", json!({})).await.result();
    unauthenticated(&both("mcp_live_nonsense", &token).rpc("ping", json!({})).await);
    unauthenticated(&both(&key, "nonsense").rpc("ping", json!({})).await);
    both(&foreign, &token).rpc("ping", json!({})).await.status(401);
}

async fn the_loopback_role(backend: Backend) {
    let expectations: [(&str, u16, u16, u16); 4] = [
        ("operator", 200, 201, 201),
        ("tenant-admin", 200, 403, 403),
        ("agent", 200, 403, 403),
        ("none", 401, 401, 401),
    ];
    for (role, ping, register, tenant) in expectations {
        let app = TestApp::start(backend, Settings::new().env("LOOPBACK_ROLE", role)).await;
        let local = app.anonymous_from_loopback();
        local.rpc("ping", json!({})).await.status(ping);
        local.post("/v1/mcp/servers", Registration::rmcp("fix").body()).await.status(register);
        local.post("/v1/tenants", json!({ "slug": "acme", "name": "Acme" })).await.status(tenant);
        if role == "none" {
            let answer = local.rpc("ping", json!({})).await;
            answer.refused(&[Code::Unauthenticated]);
            answer.must(answer.json()["error"]["data"]["hint"].is_string(), "it says what to do");
        }
        app.as_operator().rpc("ping", json!({})).await.result();
    }
}

async fn forwarded_headers_prove_nothing(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("LOOPBACK_ROLE", "none")).await;
    for name in ["x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip", "cf-connecting-ip"] {
        let value = if name == "forwarded" { "for=127.0.0.1" } else { "127.0.0.1" };
        let actor = app.anonymous_from_loopback().header(name, value);
        actor.rpc("ping", json!({})).await.status(401);
    }
}

async fn the_agent_header(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let call = |actor: Actor| async move { actor.call("fix__echo", json!({ "nonce": "n" })).await };
    call(app.anonymous_from_loopback()).await.tool_text();
    call(app.anonymous_from_loopback().header("x-agent-id", "robin")).await.tool_text();
    assert_eq!(operator.executions("agent=local").await.len(), 1);
    assert_eq!(operator.executions("agent=robin").await.len(), 1);
    let alice = app.as_agent("alice").await;
    call(alice.header("x-agent-id", "alice")).await.tool_text();
    let answer = call(alice.header("x-agent-id", "bob")).await;
    answer.status(403);
    answer.refused(&[Code::AgentMismatch]);
    assert_eq!(operator.executions("agent=alice").await.len(), 1);
    let (secret, _) = operator.make_key(json!({ "name": "nobody's", "role": "agent" })).await;
    call(app.with_key(&secret).header("x-agent-id", "carol")).await.tool_text();
    assert_eq!(operator.executions("agent=carol").await.len(), 1, "a key without an agent obeys the header");
    for bad in ["a b", "a/b", &"x".repeat(65), "ü"] {
        let answer = call(app.anonymous_from_loopback().header("x-agent-id", bad)).await;
        answer.must((400..500).contains(&answer.status), "a name that is none is refused");
    }
}

async fn nobody_grants_what_they_lack(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("JWT_SECRET", SECRET)).await;
    let admin = app.as_tenant_admin("acme").await;
    let other = app.tenant("other").await;
    let mut refused = vec![
        json!({ "name": "k", "role": "operator" }),
        json!({ "name": "k", "scopes": ["servers:launch"] }),
        json!({ "name": "k", "scopes": ["tools:call", "tenants:admin"] }),
    ];
    for body in refused.drain(..) {
        admin.post("/v1/keys", body).await.problem(Code::MissingScope);
    }
    let answer = admin.post("/v1/keys", json!({ "name": "k", "role": "agent", "tenantId": other })).await;
    answer.must(matches!(answer.status, 403 | 404), "nor for another tenant");
    let (secret, _) = admin.make_key(json!({ "name": "k", "role": "agent" })).await;
    app.with_key(&secret).rpc("ping", json!({})).await.result();
    let agent = app.with_key(&secret);
    let answer = agent.post("/v1/keys", json!({ "name": "k", "role": "agent" })).await;
    answer.problem(Code::MissingScope);
    for body in [
        json!({ "name": "k", "scopes": ["of:nothing"] }),
        json!({ "name": "k", "role": "king" }),
        json!({ "name": "k" }),
        json!({ "name": "k", "role": "agent", "scopes": ["tools:call"] }),
        json!({ "role": "agent" }),
    ] {
        let answer = app.as_operator().post("/v1/keys", body).await;
        answer.must(matches!(answer.status, 400 | 422), "what a key may do is said once and plainly");
    }
}

async fn roles_allow_what_they_say(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    agent.get("/v1/mcp/servers").await.status(200);
    agent.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    agent.post("/v1/mcp/servers", Registration::rmcp("mine").body()).await.problem(Code::MissingScope);
    agent.post("/v1/mcp/configs", json!({ "serverId": "srv_x" })).await.problem(Code::MissingScope);
    agent.get("/v1/mcp/executions").await.problem(Code::MissingScope);
    agent.get("/v1/tenants").await.problem(Code::MissingScope);
    agent.get("/v1/keys").await.status(403);
    let admin = app.as_tenant_admin("acme").await;
    admin.get("/v1/mcp/executions").await.status(200);
    let answer = admin.post("/v1/mcp/servers", Registration::rmcp("mine").body()).await;
    let said = answer.problem(Code::MissingScope);
    answer.must(said.to_string().contains("servers:launch"), "it says which scope is missing");
    admin.post("/v1/tenants", json!({ "slug": "x", "name": "x" })).await.problem(Code::MissingScope);
    let other = app.tenant("other").await;
    admin.header("x-tenant-id", other).get("/v1/mcp/servers").await.problem(Code::TenantMismatch);
}

async fn narrow_scopes(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let server = app.as_operator().register(Registration::rmcp("fix")).await;
    let (reader, _) = app.as_operator().make_key(json!({ "name": "r", "scopes": ["servers:read"] })).await;
    let (writer, _) = app.as_operator().make_key(json!({ "name": "w", "scopes": ["servers:write"] })).await;
    let (reader, writer) = (app.with_key(&reader), app.with_key(&writer));
    reader.get(&server.path("")).await.status(200);
    let answer = reader.call("fix__echo", json!({ "nonce": "n" })).await;
    answer.refused(&[Code::MissingScope]);
    writer.patch(&server.path(""), json!({ "description": "changed" })).await.status(200);
    // Who may change a server but not launch programs may not turn it into another program.
    for change in
        [json!({ "command": "sh" }), json!({ "args": ["-c", "true"] }), json!({ "env": { "A": "b" } })]
    {
        writer.patch(&server.path(""), change).await.problem(Code::MissingScope);
    }
}

async fn the_operators_key(backend: Backend) {
    use std::os::unix::fs::PermissionsExt;
    let app = TestApp::start(backend, Settings::new()).await;
    let path = app.data_dir().join("operator.key");
    let mode = std::fs::metadata(&path).expect("it is made at first boot").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "only its owner reads it");
    let secret = std::fs::read_to_string(&path).unwrap();
    app.with_key(secret.trim()).post("/v1/tenants", json!({ "slug": "acme", "name": "A" })).await.status(201);
    let lines = app.process().lines().join("\n");
    assert!(
        lines.contains("operator.key") && !lines.contains(secret.trim()),
        "its path is logged, it is not"
    );
}

async fn a_key_is_kept_as_a_hash(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let (secret, _) = app.as_operator().make_key(json!({ "name": "k", "role": "agent" })).await;
    app.terminate(Duration::from_secs(20)).await;
    for entry in std::fs::read_dir(app.data_dir()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the secret is in {}", entry.path().display());
    }
    app.boot(None).await;
    app.with_key(&secret).rpc("ping", json!({})).await.result();
}
