//! Who may come in: keys, tokens, the loopback caller, and who they may say they are.

use std::time::Duration;

use tests::jwt::{Provider, ProviderKey, hs256, in_seconds, unsigned};
use tests::{Actor, Answer, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: a_key_works_until_it_is_revoked, tokens_signed_with_the_secret, nobody_grants_what_they_lack,
        the_agent_header;
    Once: a_key_expires, bad_credentials_are_never_a_fall_back, keys_of_a_provider, rsa_keys_of_a_provider,
        two_credentials_must_agree, the_loopback_role, forwarded_headers_prove_nothing, tokens_made_here,
        the_claims_of_a_token, an_old_secret_is_still_accepted, roles_allow_what_they_say, the_operators_key,
        a_key_is_kept_as_a_hash, narrow_scopes;
];

const SECRET: &str = "a secret of more than thirty-two characters";

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

fn claims(further: Value) -> Value {
    let mut claims = json!({ "sub": "jack", "tenant": "default", "exp": in_seconds(600) });
    let members = claims.as_object_mut().unwrap();
    for (name, value) in further.as_object().unwrap() {
        members.insert(name.clone(), value.clone());
        if value.is_null() {
            members.remove(name);
        }
    }
    claims
}

#[track_caller]
fn unauthenticated(answer: &Answer) {
    answer.status(401);
    answer.refused(&[Code::Unauthenticated, Code::InvalidCredential, Code::CredentialExpired]);
}

async fn tokens_signed_with_the_secret(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("JWT_SECRET", SECRET)).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let jack = app.with_bearer(&hs256(SECRET, &claims(json!({}))));
    jack.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    jack.post("/v1/tenants", json!({ "slug": "x", "name": "x" })).await.problem(Code::MissingScope);
    let rows = app.as_operator().executions("agent=jack").await;
    assert_eq!((rows.len(), &rows[0]["callerKind"]), (1, &json!("jwt")), "{rows:#?}");
    let bad = [
        ("expired", hs256(SECRET, &claims(json!({ "exp": in_seconds(-600) })))),
        ("without an end", hs256(SECRET, &claims(json!({ "exp": null })))),
        ("of another secret", hs256("another secret of thirty-two characters or so", &claims(json!({})))),
        ("without a signature", unsigned(&claims(json!({})))),
        ("not yet valid", hs256(SECRET, &claims(json!({ "nbf": in_seconds(600) })))),
        ("of a tenant that is not there", hs256(SECRET, &claims(json!({ "tenant": "nobody" })))),
    ];
    for (what, token) in bad {
        let answer = app.with_bearer(&token).rpc("ping", json!({})).await;
        answer.must(answer.status == 401, &format!("a token {what} is refused"));
        unauthenticated(&answer);
    }
    let good = hs256(SECRET, &claims(json!({})));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (head, body) = head.split_once('.').unwrap();
    let other = hs256(SECRET, &claims(json!({ "sub": "operator", "scope": "tenants:admin" })));
    let other_body = other.split('.').nth(1).unwrap();
    assert_ne!(body, other_body);
    let forged = app.with_bearer(&format!("{head}.{other_body}.{signature}"));
    unauthenticated(&forged.rpc("ping", json!({})).await);
}

async fn keys_of_a_provider(backend: Backend) {
    let key = ProviderKey::ed25519("ed");
    provider_is_trusted(backend, &key, &ProviderKey::ed25519("ed")).await;
}

async fn rsa_keys_of_a_provider(backend: Backend) {
    let openssl = tests::tls::find_openssl();
    provider_is_trusted(backend, &ProviderKey::rsa("rs", &openssl), &ProviderKey::rsa("rs", &openssl)).await;
}

/// `stranger` is a key with the same name that the provider does not publish.
async fn provider_is_trusted(backend: Backend, key: &ProviderKey, stranger: &ProviderKey) {
    let provider = Provider::publish(&[key]);
    let settings = Settings::new()
        .env("JWKS_URL", provider.url())
        .env("JWT_ISSUER", "https://id.example")
        .env("JWT_AUDIENCE", "trunkline")
        .env("LOOPBACK_ROLE", "operator");
    let app = TestApp::start(backend, settings).await;
    let good = json!({ "iss": "https://id.example", "aud": "trunkline", "agent_id": "ines" });
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        claims(changed)
    };
    let ines = app.with_bearer(&key.sign(&claims(good.clone())));
    for _ in 0..20 {
        ines.rpc("ping", json!({})).await.result();
    }
    assert!((1..=3).contains(&provider.asked()), "the keys are kept: asked {} times", provider.asked());
    app.with_bearer(&key.sign(&with("aud", json!(["other", "trunkline"]))))
        .rpc("ping", json!({}))
        .await
        .result();
    let bad = [
        ("of a stranger", stranger.sign(&claims(good.clone()))),
        ("of another issuer", key.sign(&with("iss", json!("https://evil.example")))),
        ("for another audience", key.sign(&with("aud", json!("other")))),
        ("without an audience", key.sign(&with("aud", Value::Null))),
        ("that has expired", key.sign(&with("exp", json!(in_seconds(-600))))),
        (
            "signed with the public key as a secret",
            hs256(key.public["x"].as_str().unwrap_or("n"), &claims(good.clone())),
        ),
        ("without a signature", unsigned(&claims(good.clone()))),
    ];
    for (what, token) in bad {
        let answer = app.with_bearer(&token).rpc("ping", json!({})).await;
        answer.must(answer.status == 401, &format!("a token {what} is refused"));
        unauthenticated(&answer);
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

async fn tokens_made_here(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("JWT_SECRET", SECRET)).await;
    let operator = app.as_operator();
    let agent = operator.post("/v1/agents", json!({ "slug": "tom", "name": "Tom" })).await.json_of(201);
    let answer = operator.post("/v1/tokens", json!({ "agentId": agent["id"], "expiresIn": 2 })).await;
    let body = answer.json();
    answer.must(matches!(answer.status, 200 | 201), "a token is made");
    answer.must(body["expiresAt"].is_string(), "it says until when");
    let tom = app.with_bearer(body["token"].as_str().unwrap_or_default());
    tom.rpc("ping", json!({})).await.result();
    tom.get("/v1/mcp/executions").await.problem(Code::MissingScope);
    let further = json!({ "agentId": agent["id"], "scopes": ["tools:call", "executions:read"] });
    let body = operator.post("/v1/tokens", further).await.json();
    app.with_bearer(body["token"].as_str().unwrap_or_default()).get("/v1/mcp/executions").await.status(200);
    tokio::time::sleep(Duration::from_millis(3500)).await;
    unauthenticated(&tom.rpc("ping", json!({})).await);
    let unknown = json!({ "agentId": "agt_00000000000070008000000000000000" });
    operator.post("/v1/tokens", unknown).await.problem(Code::NotFound);
}

async fn the_claims_of_a_token(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("JWT_SECRET", SECRET)).await;
    let shapes = [
        json!({ "scope": "executions:read tools:call" }),
        json!({ "scopes": ["executions:read"] }),
        json!({ "permissions": ["executions:read"] }),
        json!({ "tenant": null, "tid": "default", "scopes": ["executions:read"] }),
        json!({ "tenant": null, "tenant_id": "default", "scopes": ["executions:read"] }),
        json!({ "sub": null, "agentId": "zoe", "scopes": ["executions:read"] }),
        json!({ "tenant": null, "scopes": ["executions:read"] }),
    ];
    for shape in shapes {
        let token = hs256(SECRET, &claims(shape.clone()));
        let answer = app.with_bearer(&token).get("/v1/mcp/executions").await;
        answer.must(answer.status == 200, &format!("{shape} is understood"));
    }
    app.tenant("acme").await;
    let without = app.with_bearer(&hs256(SECRET, &claims(json!({ "tenant": null }))));
    let answer = without.rpc("ping", json!({})).await;
    unauthenticated(&answer);
    answer
        .must(answer.text().contains("tenant"), "with two tenants, a token must name one, and this is said");
    let acme = app.with_bearer(&hs256(SECRET, &claims(json!({ "tenant": "acme" }))));
    acme.rpc("ping", json!({})).await.result();
}

async fn an_old_secret_is_still_accepted(backend: Backend) {
    let settings = Settings::new()
        .env("JWT_SECRET", SECRET)
        .env("JWT_SECRET_PREVIOUS", "the secret from before, with enough characters");
    let app = TestApp::start(backend, settings).await;
    let old = hs256("the secret from before, with enough characters", &claims(json!({})));
    app.with_bearer(&old).rpc("ping", json!({})).await.result();
    app.with_bearer(&hs256(SECRET, &claims(json!({})))).rpc("ping", json!({})).await.result();
}
