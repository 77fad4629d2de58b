//! The gateway as a protected resource of OAuth: what its documents say, how it challenges, whose tokens
//! it takes at which endpoint, and how it finds an issuer's keys.

use tests::jwt::{Provider, ProviderKey, hs256, in_seconds, key_set};
use tests::{Answer, Backend, Case, Code, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: a_token_is_good_at_its_own_endpoint;
    Once: documents_of_endpoints, documents_without_an_issuer, challenges, challenges_without_an_issuer, a_wrong_key_says_so,
        the_issuer_is_named,
        own_tokens_with_an_audience, an_issuers_keys_are_found, keys_by_openid_connect,
        a_document_of_another_issuer, an_issuer_that_is_away, the_hosts_own_name, mistakes_in_the_settings;
];

const PUBLIC: &str = "https://gw.example";
const ISSUER: &str = "https://id.example/realms/a";
const SECRET: &str = "a secret of more than thirty-two characters";

fn settings(provider: &Provider) -> Settings {
    Settings::new()
        .env("PUBLIC_URL", PUBLIC)
        .env("JWT_ISSUER", ISSUER)
        .env("JWKS_URL", provider.url())
        .env("LOOPBACK_ROLE", "none")
}

fn claims(issuer: &str, audience: Value) -> Value {
    json!({
        "iss": issuer, "aud": audience, "sub": "ines", "tenant": "default", "exp": in_seconds(600),
        "scope": "tools:call servers:read",
    })
}

#[track_caller]
fn wrong_audience(answer: &Answer, endpoint: &str) {
    answer.status(401);
    answer.refused(&[Code::InvalidCredential]);
    answer.must(answer.text().contains(endpoint), "it says for what a token is wanted here");
}

async fn a_token_is_good_at_its_own_endpoint(backend: Backend) {
    let key = ProviderKey::ed25519("ed");
    let provider = Provider::publish(&[&key]);
    let app = TestApp::start(backend, settings(&provider)).await;
    let with = |audience: Value| app.with_bearer(&key.sign(&claims(ISSUER, audience)));
    for good in [
        json!("https://gw.example/mcp/rpc"),
        json!("HTTPS://GW.example:443/mcp/rpc/"),
        json!(["https://other.example", "https://gw.example/mcp/rpc"]),
    ] {
        let ines = with(good);
        ines.rpc("ping", json!({})).await.result();
        ines.rpc("ping", json!({})).await.result();
        // It was taken a moment ago, and is for another endpoint than this.
        ines.get("/v1/mcp/servers").await.problem(Code::InvalidCredential);
        ines.rpc("ping", json!({})).await.result();
    }
    for bad in [
        json!("https://gw.example/mcp"),
        json!("https://gw.example/mcp/s/rpc"),
        json!("https://gw.example"),
        json!("https://gw.example/mcp/rpc?x"),
        json!("http://gw.example/mcp/rpc"),
        json!("https://other.example/mcp/rpc"),
        json!([]),
        Value::Null,
        json!(7),
    ] {
        let answer = with(bad.clone()).rpc("ping", json!({})).await;
        answer.must(answer.status == 401, &format!("a token for {bad} is refused"));
        if !bad.is_number() {
            wrong_audience(&answer, "https://gw.example/mcp/rpc");
        }
    }
    let mut without = claims(ISSUER, Value::Null);
    without.as_object_mut().unwrap().remove("aud");
    wrong_audience(&app.with_bearer(&key.sign(&without)).rpc("ping", json!({})).await, "/mcp/rpc");
    let rest = with(json!("https://gw.example/v1"));
    rest.get("/v1/mcp/servers").await.status(200);
    wrong_audience(&rest.rpc("ping", json!({})).await, "/mcp/rpc");
}

async fn documents_of_endpoints(backend: Backend) {
    let app = TestApp::start(backend, settings(&Provider::publish(&[]))).await;
    let nobody = app.anonymous_from_loopback();
    let well_known = "/.well-known/oauth-protected-resource";
    for (path, resource) in [
        ("/mcp", "https://gw.example/mcp"),
        ("/mcp/rpc", "https://gw.example/mcp/rpc"),
        ("/mcp/s/calculator", "https://gw.example/mcp/s/calculator"),
        // Whether there is such a server is not told.
        ("/mcp/s/no-such-server", "https://gw.example/mcp/s/no-such-server"),
        ("", "https://gw.example/mcp"),
    ] {
        let answer = nobody.get(&format!("{well_known}{path}")).await;
        let document = answer.json_of(200);
        answer.must(document["resource"] == resource, "it is about this endpoint");
        answer.must(document["authorization_servers"] == json!([ISSUER]), "it names the issuer");
        answer.must(document["scopes_supported"] == json!(["tools:call"]), "and the scope to ask for");
        answer.must(document["bearer_methods_supported"] == json!(["header"]), "no tokens in addresses");
        answer.must(document["resource_name"].is_string(), "it has a name for people");
        let kind = answer.header("content-type").unwrap_or_default();
        answer.must(kind.starts_with("application/json"), "it is JSON");
    }
    for path in ["/v1", "/mcp/s/", "/mcp/s/Not_A_Slug", "/mcp/x", "/mcp/s/a/b", "/health"] {
        nobody.get(&format!("{well_known}{path}")).await.problem(Code::NotFound);
    }
    let foreign = nobody.header("origin", "https://evil.example").get(&format!("{well_known}/mcp")).await;
    foreign.problem(Code::OriginNotAllowed);
}

async fn documents_without_an_issuer(backend: Backend) {
    // A name that is no address is for this gateway's own tokens only.
    for issuer in ["", "trunkline"] {
        let app = TestApp::start(backend, Settings::new().env("JWT_ISSUER", issuer)).await;
        let answer = app.anonymous_from_loopback().get("/.well-known/oauth-protected-resource/mcp").await;
        let problem = answer.problem(Code::NotFound);
        answer.must(problem.to_string().contains("JWT_ISSUER"), "it says how that is changed");
    }
}

async fn challenges(backend: Backend) {
    let key = ProviderKey::ed25519("ed");
    let app = TestApp::start(backend, settings(&Provider::publish(&[&key]))).await;
    let challenge = |answer: &Answer| answer.header("www-authenticate").unwrap_or_default().to_owned();
    let document = "resource_metadata=\"https://gw.example/.well-known/oauth-protected-resource/mcp/rpc\"";
    let rest = format!("scope=\"tools:call\", {document}");
    let answer = app.anonymous_from_loopback().rpc("ping", json!({})).await;
    answer.status(401);
    assert_eq!(challenge(&answer), format!("Bearer {rest}"));
    let expired = key.sign(&json!({ "iss": ISSUER, "aud": PUBLIC, "sub": "x", "exp": in_seconds(-60) }));
    for bad in [expired.as_str(), "nonsense"] {
        let answer = app.with_bearer(bad).rpc("ping", json!({})).await;
        answer.status(401);
        let said = challenge(&answer);
        answer.must(
            said.starts_with("Bearer error=\"invalid_token\", error_description=\"the "),
            "what is wrong",
        );
        answer.must(said.ends_with(&format!("\", {rest}")), "and where to go on");
    }
    let mut narrow = claims(ISSUER, json!("https://gw.example/mcp/rpc"));
    narrow["scope"] = json!("servers:read");
    let answer = app.with_bearer(&key.sign(&narrow)).rpc("ping", json!({})).await;
    answer.status(403);
    let said = challenge(&answer);
    answer.must(
        said.starts_with("Bearer error=\"insufficient_scope\", error_description=\""),
        "what is missing",
    );
    answer.must(said.ends_with(&format!("\", {rest}")), "and where to go on");
    let answer = app.anonymous_from_loopback().get("/v1/mcp/servers").await;
    answer.status(401);
    assert_eq!(challenge(&answer), "Bearer", "REST has no document of its own");
}

async fn challenges_without_an_issuer(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("LOOPBACK_ROLE", "none")).await;
    let answer = app.anonymous_from_loopback().rpc("ping", json!({})).await;
    answer.status(401);
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    answer.must(challenge.starts_with("Bearer"), "it says how to authenticate");
    answer.must(!challenge.contains("resource_metadata"), "and leads to no document that is not there");
}

/// A client that looks for an authorization server after a 401 is told what is wrong with its key.
async fn a_wrong_key_says_so(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("LOOPBACK_ROLE", "none")).await;
    let operator = app.as_operator();
    let (revoked, id) = operator.make_key(json!({ "name": "k", "role": "agent" })).await;
    operator.delete(&format!("/v1/keys/{id}")).await.status(204);
    for (key, said) in [("mcp_live_wrong", "the API key is not known"), (&revoked, "the API key was revoked")]
    {
        for path in ["/mcp", "/mcp/s/calculator", "/mcp/rpc", "/v1/mcp/servers", "/v1/mcp/execute"] {
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
            let key = app.with_key(key);
            let answer = match path {
                "/v1/mcp/servers" => key.get(path).await,
                _ => key.post(path, body).await,
            };
            answer.status(401);
            answer.must(answer.text().contains(said), "the body says what is wrong");
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            let expected = format!("Bearer error=\"invalid_token\", error_description=\"{said}\"");
            answer.must(challenge.starts_with(&expected), "so does the header (RFC 6750, section 3)");
        }
    }
    let nobody = app.anonymous_from_loopback();
    let cause = "the API key is missing, unknown, expired or revoked";
    for path in ["/register", "/token", "/authorize"] {
        let answer = nobody.post(path, json!({ "redirect_uris": ["http://127.0.0.1/"] })).await;
        let error = answer.json_of(400);
        answer.must(error["error"].is_string(), "it is an error of OAuth (RFC 6749, section 5.2)");
        let said = error["error_description"].as_str().unwrap_or_default();
        answer.must(said.starts_with(cause) && said.contains("X-MCP-Key"), "what is wrong and what to do");
        nobody.get(path).await.status(400);
    }
    let registered = nobody.post("/register", json!({})).await;
    assert_eq!(registered.json_of(400)["error"], "invalid_client_metadata");
    for name in ["oauth-protected-resource", "oauth-authorization-server", "openid-configuration"] {
        for path in [
            format!("/.well-known/{name}"),
            format!("/.well-known/{name}/mcp"),
            format!("/.well-known/{name}/mcp/s/calculator"),
            format!("/mcp/.well-known/{name}"),
            format!("/mcp/rpc/.well-known/{name}"),
            format!("/mcp/s/calculator/.well-known/{name}"),
        ] {
            let answer = nobody.get(&path).await;
            let problem = answer.problem(Code::NotFound);
            answer.must(problem["detail"].as_str().unwrap_or_default().starts_with(cause), "what is wrong");
        }
    }
}

/// Where there is an issuer, a client that asks the gateway instead is told who it is.
async fn the_issuer_is_named(backend: Backend) {
    let app = TestApp::start(backend, settings(&Provider::publish(&[]))).await;
    let nobody = app.anonymous_from_loopback();
    let error = nobody.post("/register", json!({})).await.json_of(400);
    assert!(error["error_description"].as_str().unwrap_or_default().contains(ISSUER), "{error}");
    let problem = nobody.get("/.well-known/oauth-authorization-server").await.problem(Code::NotFound);
    assert!(problem.to_string().contains(ISSUER), "{problem}");
}

async fn own_tokens_with_an_audience(backend: Backend) {
    let app =
        TestApp::start(backend, Settings::new().env("JWT_SECRET", SECRET).env("PUBLIC_URL", PUBLIC)).await;
    let with = |audience: Value| {
        let mut claims = claims(ISSUER, audience);
        if claims["aud"].is_null() {
            claims.as_object_mut().unwrap().remove("aud");
        }
        app.with_bearer(&hs256(SECRET, &claims))
    };
    with(Value::Null).rpc("ping", json!({})).await.result();
    with(json!("https://gw.example/mcp/rpc")).rpc("ping", json!({})).await.result();
    wrong_audience(&with(json!("https://gw.example/mcp")).rpc("ping", json!({})).await, "/mcp/rpc");
    let app = TestApp::start(
        backend,
        Settings::new().env("JWT_SECRET", SECRET).env("JWT_AUDIENCE", "trunkline").env("PUBLIC_URL", PUBLIC),
    )
    .await;
    for (audience, good) in
        [("trunkline", true), ("https://gw.example/mcp/rpc", true), ("https://gw.example/mcp", false)]
    {
        let token = hs256(SECRET, &claims(ISSUER, json!(audience)));
        let answer = app.with_bearer(&token).rpc("ping", json!({})).await;
        answer.must((answer.status == 200) == good, &format!("{audience} is judged"));
    }
}

/// A provider whose metadata lies at this path, and names this issuer (its own address and a path).
fn discoverable(place: &'static str, issuer: &'static str, key: &ProviderKey) -> Provider {
    let keys = key_set(&[key]);
    Provider::serve(move |origin, path| match path {
        "/the/keys" => Some(keys.clone()),
        path if path == place => {
            Some(json!({ "issuer": format!("{origin}{issuer}"), "jwks_uri": format!("{origin}/the/keys") }))
        }
        _ => None,
    })
}

async fn finds_keys(backend: Backend, place: &'static str) {
    let key = ProviderKey::ed25519("ed");
    let provider = discoverable(place, "/realms/a", &key);
    let issuer = provider.at("/realms/a");
    let app =
        TestApp::start(backend, Settings::new().env("PUBLIC_URL", PUBLIC).env("JWT_ISSUER", &issuer)).await;
    let audience = json!("https://gw.example/mcp/rpc");
    let ines = app.with_bearer(&key.sign(&claims(&issuer, audience.clone())));
    for _ in 0..5 {
        ines.rpc("ping", json!({})).await.result();
    }
    let asked = provider.asked();
    assert!((2..=4).contains(&asked), "metadata and keys are kept: asked {asked} times");
    let other = app.with_bearer(&key.sign(&claims("https://evil.example", audience.clone())));
    other.rpc("ping", json!({})).await.refused(&[Code::InvalidCredential]);
    let stranger = ProviderKey::ed25519("unknown");
    for _ in 0..5 {
        let answer =
            app.with_bearer(&stranger.sign(&claims(&issuer, audience.clone()))).rpc("ping", json!({})).await;
        answer.refused(&[Code::InvalidCredential]);
    }
    assert_eq!(provider.asked(), asked, "unknown keys cause no flood");
}

async fn an_issuers_keys_are_found(backend: Backend) {
    finds_keys(backend, "/.well-known/oauth-authorization-server/realms/a").await;
}

async fn keys_by_openid_connect(backend: Backend) {
    finds_keys(backend, "/.well-known/openid-configuration/realms/a").await;
    finds_keys(backend, "/realms/a/.well-known/openid-configuration").await;
}

async fn a_document_of_another_issuer(backend: Backend) {
    let key = ProviderKey::ed25519("ed");
    let provider = discoverable("/.well-known/oauth-authorization-server/realms/a", "/realms/b", &key);
    let issuer = provider.at("/realms/a");
    let app =
        TestApp::start(backend, Settings::new().env("PUBLIC_URL", PUBLIC).env("JWT_ISSUER", &issuer)).await;
    let token = key.sign(&claims(&issuer, json!("https://gw.example/mcp/rpc")));
    let answer = app.with_bearer(&token).rpc("ping", json!({})).await;
    answer.refused(&[Code::StateUnavailable]);
    let mut said = String::new();
    for _ in 0..50 {
        said = app.process().lines().join("\n");
        if said.contains("realms/b") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the operator reads why:\n{said}");
}

async fn an_issuer_that_is_away(backend: Backend) {
    let settings = Settings::new()
        .env("PUBLIC_URL", PUBLIC)
        .env("JWT_ISSUER", "http://127.0.0.1:9")
        .env("JWT_SECRET", SECRET);
    let app = TestApp::start(backend, settings).await;
    let key = ProviderKey::ed25519("ed");
    let token = key.sign(&claims("http://127.0.0.1:9", json!("https://gw.example/mcp/rpc")));
    app.with_bearer(&token).rpc("ping", json!({})).await.refused(&[Code::StateUnavailable]);
    // Nobody else is harmed.
    let mut own = claims("http://127.0.0.1:9", Value::Null);
    own.as_object_mut().unwrap().remove("aud");
    app.with_bearer(&hs256(SECRET, &own)).rpc("ping", json!({})).await.result();
}

async fn the_hosts_own_name(backend: Backend) {
    let key = ProviderKey::ed25519("ed");
    let provider = Provider::publish(&[&key]);
    let settings = settings(&provider).env("PUBLIC_URL", "").env("ALLOWED_HOSTS", "gw.example");
    let app = TestApp::start(backend, settings).await;
    let nobody = app.anonymous_from_loopback();
    let document = nobody.get("/.well-known/oauth-protected-resource/mcp/rpc").await.json_of(200);
    let resource = nobody.url("/mcp/rpc");
    assert_eq!(document["resource"], resource.as_str(), "without PUBLIC_URL the request's host counts");
    app.with_bearer(&key.sign(&claims(ISSUER, json!(resource)))).rpc("ping", json!({})).await.result();
    let named = nobody.header("host", "GW.example").get("/.well-known/oauth-protected-resource/mcp").await;
    named.must(named.json_of(200)["resource"] == "http://gw.example/mcp", "also a name of ALLOWED_HOSTS");
}

async fn mistakes_in_the_settings(backend: Backend) {
    for (name, value) in [
        ("PUBLIC_URL", "gw.example"),
        ("PUBLIC_URL", "https://gw.example/mcp"),
        ("PUBLIC_URL", "https://u:p@gw.example"),
        ("PUBLIC_URL", "ftp://gw.example"),
        ("JWT_ISSUER", "https://id.example/?a=b"),
        ("JWKS_URL", "https://id.example/keys"),
    ] {
        match TestApp::try_start(backend, Settings::new().env(name, value)).await {
            Ok(_) => panic!("{name}={value} was accepted"),
            Err(failed) => assert!(failed.output.contains(name), "{value}:\n{}", failed.output),
        }
    }
}
