//! The harness and the fixtures themselves: a trial that fails because of them would accuse the
//! gateway. Nothing here needs one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, ClientConfig};
use rmcp::transport::TokioChildProcess;
use sea_orm::ConnectionTrait;
use tests::backend::{Source, redis_source};
use tests::jwt::{Provider, ProviderKey};
use tests::postgres::PostgresServer;
use tests::programs::programs;
use tests::redis_server::RedisServer;
use tests::scratch::Scratch;
use tests::storage::Storage;
use tests::tls::Certificates;
use tests::{Backend, Case, Value, cases, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

pub const CASES: &[Case] = cases![
    Once: the_sdk_fixture_serves_an_sdk_client, the_bad_fixture_behaves_and_misbehaves,
        the_conformance_fixture_keeps_to_its_era, the_guardian_ends_what_a_killed_process_left, a_provider_publishes_its_keys;
    Postgres: storage_is_the_apps_own, tls_servers_come_up;
];

async fn storage_is_the_apps_own(backend: Backend) {
    let (one, other) = (Storage::make(backend).await, Storage::make(backend).await);
    assert_ne!(one.database_url, other.database_url);
    assert_ne!(one.redis_url, other.redis_url);
    let connection = one.connect(std::path::Path::new("/")).await;
    connection.execute_unprepared("CREATE TABLE own (a INT)").await.unwrap();
    let elsewhere = other.connect(std::path::Path::new("/")).await;
    assert!(elsewhere.execute_unprepared("SELECT * FROM own").await.is_err());
    let client = redis::Client::open(one.redis_url.clone().unwrap()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let pong: String = redis::cmd("PING").query_async(&mut redis).await.unwrap();
    assert_eq!(pong, "PONG");
}

async fn the_sdk_fixture_serves_an_sdk_client(_: Backend) {
    let command = tokio::process::Command::new(programs().fixture_rmcp);
    let client = ClientConfig::default().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
    let names =
        |tools: &[rmcp::model::Tool]| tools.iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>();
    let before = names(&client.list_all_tools().await.unwrap());
    assert!(before.contains(&"echo".to_owned()) && !before.contains(&"late_comer".to_owned()), "{before:?}");
    let arguments = json!({ "nonce": "n-1" }).as_object().cloned().unwrap();
    let answer =
        client.call_tool(CallToolRequestParams::new("echo").with_arguments(arguments)).await.unwrap();
    assert_eq!(serde_json::to_value(&answer).unwrap()["content"][0]["text"], "n-1");
    let failed = client.call_tool(CallToolRequestParams::new("fail")).await.unwrap();
    assert_eq!(failed.is_error, Some(true));
    client.call_tool(CallToolRequestParams::new("grow")).await.unwrap();
    assert!(names(&client.list_all_tools().await.unwrap()).contains(&"late_comer".to_owned()));
    assert_eq!(client.list_all_resources().await.unwrap().len(), 1);
    assert_eq!(client.list_all_resource_templates().await.unwrap().len(), 1);
    assert_eq!(client.list_all_prompts().await.unwrap().len(), 1);
    let completed = client.complete_prompt_simple("greet", "style", "f").await.unwrap();
    assert_eq!(completed, ["formal", "friendly", "funny"]);
    client.cancel().await.unwrap();
}

async fn the_bad_fixture_behaves_and_misbehaves(_: Backend) {
    let bad_fixture = programs().fixture_bad;
    let talk = async |arguments: &[&str], lines: &[&str], expected| {
        talk(bad_fixture, arguments, lines, expected).await
    };
    let params = r#"{"name":"mirror","arguments":{"one":1.0,"big":123456789012345678901}}"#;
    let call = format!(r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{params}}}"#);
    let lines = talk(&[], &[&call], 1).await;
    assert!(lines[0].contains(&format!(r#""structuredContent":{{"params":{params}}}"#)), "{lines:?}");
    let bad =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"bad","arguments":{"nonce":"x"}}}"#;
    let lines = talk(&["--banner", "--twice"], &[bad], 4).await;
    assert_eq!(lines[2], lines[3]);
    let lines = talk(&["--wrong-id"], &[bad], 2).await;
    assert_eq!(serde_json::from_str::<Value>(&lines[0]).unwrap()["id"], 987_654_321);
    assert_eq!(talk(&["--hang"], &[bad], 0).await.len(), 0);
    let lines = talk(&["--big-line", "100000"], &[bad], 1).await;
    assert!(lines[0].len() > 100_000);
    assert!(talk(&["--die-on-call"], &[bad], 1).await.is_empty());
    let lines = talk(&["--half"], &[bad], 1).await;
    assert!(serde_json::from_str::<Value>(&lines[0]).is_err());
}

async fn the_conformance_fixture_keeps_to_its_era(_: Backend) {
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;
    let modern = |id: &str, method: &str, params: Value| {
        let mut params = params;
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
    };
    let discover = modern("d", "server/discover", json!({}));
    let codes = async |arguments: &[&str], lines: &[&str]| {
        let answers = talk(programs().fixture_conformance, arguments, lines, lines.len()).await;
        let mut answers: Vec<Value> =
            answers.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        answers.sort_by_key(|answer| answer["id"].to_string());
        answers.iter().map(|answer| answer["error"]["code"].as_i64().unwrap_or_default()).collect::<Vec<_>>()
    };
    // `"d"` sorts before `0`.
    assert_eq!(codes(&["--era", "legacy"], &[&discover, initialize]).await, [-32601, 0]);
    assert_eq!(codes(&["--era", "modern"], &[&discover, initialize]).await, [0, -32022]);
    assert_eq!(codes(&[], &[&discover, initialize]).await, [0, -32022]);
    assert_eq!(codes(&[], &[initialize, &discover]).await, [-32600, 0]);
    let fixture = programs().fixture_conformance;
    assert!(talk(fixture, &["--die-on-probe"], &[&discover], 1).await.is_empty());
    let lines = talk(fixture, &["--silent-on-probe"], &[&discover, initialize], 1).await;
    assert!(lines[0].contains(r#""id":0,"result""#), "{lines:?}");
    let call = modern("e", "tools/call", json!({ "name": "test_echo_anything", "x": [1.0, "é"] }));
    let lines = talk(fixture, &[], &[&call], 1).await;
    let params = call.split_once(r#""params":"#).unwrap().1.strip_suffix('}').unwrap();
    assert!(lines[0].contains(&format!(r#""structuredContent":{params},"x":[1.0,"é"]"#)), "{lines:?}");
}

/// Sends lines to a fixture and reads at most so many back.
async fn talk(program: &str, arguments: &[&str], lines: &[&str], expected: usize) -> Vec<String> {
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines {
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
    let mut output = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let mut heard = Vec::new();
    while heard.len() < expected {
        let next = tokio::time::timeout(Duration::from_secs(10), output.next_segment()).await;
        let Some(line) = next.expect("the fixture says what is expected").unwrap() else { break };
        heard.push(String::from_utf8_lossy(&line).into_owned());
    }
    heard
}

async fn the_guardian_ends_what_a_killed_process_left(_: Backend) {
    let directory = Scratch::new("guarded");
    let mut guardian = std::process::Command::new(programs().guardian).stdin(Stdio::piped()).spawn().unwrap();
    let marked = std::process::Command::new("sleep").arg("600").env("TMPDIR", directory.path()).spawn();
    let watched = std::process::Command::new("sleep").arg("600").spawn();
    let (mut marked, mut watched) = (marked.unwrap(), watched.unwrap());
    {
        use std::io::Write;
        let mut input = guardian.stdin.take().unwrap();
        let lines = format!("watch {}\nsweep {}\n", watched.id(), directory.path().display());
        input.write_all(lines.as_bytes()).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(20);
    let (mut killed, mut quit) = (None, None);
    while guardian.try_wait().unwrap().is_none() {
        // The guardian waits for their end, and they are our children to be collected.
        killed = killed.or(marked.try_wait().unwrap());
        quit = quit.or(watched.try_wait().unwrap());
        assert!(Instant::now() < until, "the guardian does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = [killed.or(marked.try_wait().unwrap()), quit.or(watched.try_wait().unwrap())];
    let _ = (marked.kill(), watched.kill());
    assert!(ended.iter().all(|status| status.is_some_and(|status| !status.success())), "{ended:?}");
    assert!(!directory.path().exists());
}

async fn a_provider_publishes_its_keys(_: Backend) {
    let key = ProviderKey::ed25519("first");
    let provider = Provider::publish(&[&key]);
    let published: Value = reqwest::get(provider.url()).await.unwrap().json().await.unwrap();
    assert_eq!(published["keys"][0]["kid"], "first");
    let token = key.sign(&json!({ "sub": "a", "exp": tests::jwt::in_seconds(60) }));
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(published["keys"][0].clone()).unwrap();
    let decoding = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    assert!(jsonwebtoken::decode::<Value>(&token, &decoding, &validation).is_ok());
    assert_eq!(provider.asked(), 1);
    let openssl = tests::tls::find_openssl();
    let key = ProviderKey::rsa("second", &openssl);
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public.clone()).unwrap();
    let decoding = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let token = key.sign(&json!({ "sub": "a", "exp": tests::jwt::in_seconds(60) }));
    let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    assert!(jsonwebtoken::decode::<Value>(&token, &decoding, &validation).is_ok());
}

async fn tls_servers_come_up(_: Backend) {
    let files = Certificates::make();
    if let Ok(Source::Program(program)) = redis_source() {
        let server =
            RedisServer::start_with_tls(&program, &files.certificate, &files.key, &files.authority).unwrap();
        assert!(std::net::TcpStream::connect(("127.0.0.1", server.port)).is_ok());
    }
    if let Ok(Source::Program(programs)) = tests::backend::postgres_source() {
        let files = [("server.crt", files.certificate.as_path()), ("server.key", files.key.as_path())];
        let server = PostgresServer::start_with_files(&programs, &["ssl = on"], &files).unwrap();
        let url = format!("{}?sslmode=require", server.url("postgres"));
        let connection = sea_orm::Database::connect(url).await.unwrap();
        connection.execute_unprepared("SELECT 1").await.unwrap();
    }
}
