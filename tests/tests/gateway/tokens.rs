//! Bearer tokens: JWTs signed with the gateway's secret or by an identity provider, and their claims.

use std::time::Duration;

use tests::jwt::{Provider, ProviderKey, hs256, in_seconds, unsigned};
use tests::{Answer, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: tokens_signed_with_the_secret;
    Once: keys_of_a_provider, rsa_keys_of_a_provider, tokens_made_here, the_claims_of_a_token,
        an_old_secret_is_still_accepted;
];

pub const SECRET: &str = "a secret of more than thirty-two characters";

pub fn claims(further: Value) -> Value {
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
pub fn unauthenticated(answer: &Answer) {
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
