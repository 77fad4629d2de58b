//! Sessions of the legacy era: whose they are, how they end, what they outlive, and that nothing of a
//! broken connection is lost. What a thief may try with other handles is in `stolen`.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};
use tests::mcp_client::LEGACY;
use tests::{Actor, Backend, Case, McpClient, Registration, Settings, Silence, TestApp, Value, cases, json};

use crate::pair::{Door, Pair, text_of};

pub const CASES: &[Case] = cases![
    Every: a_session_is_its_callers_and_its_endpoints, a_deleted_session_is_gone, a_session_outlives_its_gateway,
        lost_messages_come_once, the_answer_of_a_cut_request_comes_once, ids_are_nowhere_kept;
    Once: headers_of_a_session, the_stream_hears_of_servers, a_second_reader_takes_over;
];

const QUIET: Duration = Duration::from_millis(700);

/// What a session answers to a ping, without the parts that differ between any two refusals.
async fn ping(client: &McpClient) -> (u16, Value) {
    let mut sent = client.open("ping", json!({})).await;
    let mut answer = sent.answer().await;
    if answer["error"]["data"]["requestId"].take().is_string() {
        answer["id"].take();
    }
    (sent.status, answer)
}

async fn a_session_is_its_callers_and_its_endpoints(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let app = &pair.app;
    app.as_operator().register(Registration::conformance("other", &[])).await;
    let client = pair.legacy(Door::One, "2025-11-25", json!({})).await;
    let at_all = pair.legacy(Door::All, "2025-11-25", json!({})).await;
    assert_eq!(ping(&client).await.0, 200);
    let with = |actor: &Actor, path: &str, session: &str| {
        let mut thief = McpClient::modern(actor, path).speaking("2025-11-25");
        thief.session = Some(session.to_owned());
        thief
    };
    let id = client.session.clone().unwrap();
    let bob = app.as_agent("bob").await;
    let (keyless, _) = app.as_operator().make_key(json!({ "name": "no agent", "role": "agent" })).await;
    let elsewhere = app.as_tenant_admin("elsewhere").await;
    app.as_operator_for("elsewhere").await.register(Registration::conformance("fix", &[])).await;
    let operator = app.as_operator();
    for (who, thief) in [
        ("another agent", with(&bob, "/mcp/s/fix", &id)),
        ("a key of no agent", with(&app.with_key(&keyless), "/mcp/s/fix", &id)),
        ("the operator", with(&operator, "/mcp/s/fix", &id)),
        ("loopback", with(&app.anonymous_from_loopback(), "/mcp/s/fix", &id)),
        ("another tenant", with(&elsewhere, "/mcp/s/fix", &id)),
        ("the other door", with(&pair.alice, "/mcp", &id)),
        ("another server", with(&pair.alice, "/mcp/s/other", &id)),
        ("the other door back", with(&pair.alice, "/mcp/s/fix", at_all.session.as_ref().unwrap())),
    ] {
        let unknown = with(&thief.actor, &thief.path, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let (refused, expected) = (ping(&thief).await, ping(&unknown).await);
        assert_eq!((refused.0, &refused), (404, &expected), "{who}: the same as an id that never was");
        assert_eq!(thief.listen(None).await.status, 404, "{who} reads");
        assert_eq!(thief.delete().await.status, 404, "{who} ends it");
        let reply = json!({ "jsonrpc": "2.0", "id": 1, "result": {} });
        assert_eq!(thief.send(&reply).await.status, 404, "{who} replies");
    }
    assert_eq!(ping(&client).await.0, 200, "nothing happened to it");
    let ids = [&client.session, &at_all.session].map(|id| id.clone().unwrap());
    assert!(ids.iter().all(|id| id.len() >= 22 && id.bytes().all(|byte| byte.is_ascii_graphic())), "{ids:?}");
}

async fn a_deleted_session_is_gone(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    for (door, version) in [(Door::One, LEGACY[3]), (Door::All, LEGACY[1])] {
        let client = pair.legacy(door, version, json!({})).await;
        let other = pair.legacy(door, version, json!({})).await;
        let mut stream = client.listen(None).await;
        let deleted = client.delete().await;
        assert!((200..300).contains(&deleted.status), "{deleted:?}");
        assert_eq!(ping(&client).await.0, 404);
        assert_eq!(client.listen(None).await.status, 404);
        assert_eq!(client.delete().await.status, 404);
        let ended = stream.next_within(Duration::from_secs(10)).await;
        assert_eq!(ended, Err(Silence::Ended), "its stream ends with it");
        assert_eq!(ping(&other).await.0, 200, "another session of the same caller lives");
    }
}

async fn headers_of_a_session(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let client = pair.legacy(Door::One, "2025-11-25", json!({})).await;
    let mut without = client.clone();
    without.session = None;
    let (status, answer) = ping(&without).await;
    assert_eq!(status, 400, "{answer}");
    // The revision of the handshake counts when the header is missing.
    let request = client.request("ping", json!({}));
    for (version, expected) in
        [(None, 200), (Some("2025-11-25"), 200), (Some("1999-01-01"), 400), (Some(""), 400)]
    {
        let mut headers = client.headers();
        headers.retain(|(name, _)| name != "mcp-protocol-version");
        headers.extend(version.map(|version| ("mcp-protocol-version".to_owned(), version.to_owned())));
        let sent = client.exchange(
            "POST".parse().unwrap(),
            &headers,
            request["id"].clone(),
            Some(request.to_string()),
        );
        assert_eq!(sent.await.status, expected, "{version:?}");
    }
    // Two ids are none, and one that cannot be one is unknown.
    let mut headers = client.headers();
    headers.push(("mcp-session-id".to_owned(), "second".to_owned()));
    let twice = client.exchange("POST".parse().unwrap(), &headers, json!(0), Some(request.to_string())).await;
    assert_eq!(twice.status, 400, "{twice:?}");
    let mut strange = client.clone();
    strange.session = Some("x".repeat(5_000));
    assert_eq!(ping(&strange).await.0, 404);
    let mut no_stream = client.clone();
    no_stream.session = None;
    assert_eq!(no_stream.listen(None).await.status, 405);
}

async fn the_stream_hears_of_servers(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let client = pair.legacy(Door::All, "2025-11-25", json!({})).await;
    let mut stream = client.listen(None).await;
    assert!(stream.status == 200 && stream.is_stream(), "{stream:?}");
    pair.app.as_operator().register(Registration::conformance("more", &[])).await;
    stream.next_of("notifications/tools/list_changed").await;
    let tools = client.result("tools/list", json!({})).await;
    assert!(tools.to_string().contains("more__test_simple_text"), "the new one is in the list");
    // Nobody of another tenant hears of it.
    let elsewhere = pair.app.as_tenant_admin("elsewhere").await;
    let foreign = McpClient::legacy(&elsewhere, "/mcp", "2025-11-25", json!({})).await;
    let mut silent = foreign.listen(None).await;
    pair.app.as_operator().register(Registration::conformance("third", &[])).await;
    stream.next_of("notifications/tools/list_changed").await;
    let heard = silent.rest(QUIET).await;
    assert!(heard.is_empty(), "{heard:?}");
}

/// The kinds of what was told.
fn methods(told: &[Value]) -> Vec<String> {
    let mut methods: Vec<String> =
        told.iter().map(|told| told["method"].as_str().unwrap_or("answer").to_owned()).collect();
    methods.sort();
    methods
}

async fn lost_messages_come_once(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let client = pair.legacy(Door::One, "2025-11-25", json!({})).await;
    let watched = json!({ "uri": "test://watched-resource" });
    client.result("resources/subscribe", watched).await;
    let mut stream = client.listen(None).await;
    client.call("test_touch_watched").await.result().await;
    stream.next_of("notifications/resources/updated").await;
    let last = stream.last_event.clone().expect("events of the stream have ids");
    drop(stream);
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.call("test_trigger_prompt_change").await.result().await;
    client.call("test_trigger_tool_change").await.result().await;
    client.call("test_touch_watched").await.result().await;
    tokio::time::sleep(QUIET).await;
    let mut resumed = client.listen(Some(&last)).await;
    assert_eq!(resumed.status, 200, "{resumed:?}");
    let told = resumed.rest(QUIET).await;
    let expected = ["prompts/list_changed", "resources/updated", "tools/list_changed"];
    assert_eq!(methods(&told), expected.map(|kind| format!("notifications/{kind}")), "{resumed:?}");
    // It goes on, and a stream without a wish gets nothing of what was read.
    client.call("test_touch_watched").await.result().await;
    resumed.next_of("notifications/resources/updated").await;
    drop(resumed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let again = client.listen(None).await.rest(QUIET).await;
    assert!(again.is_empty(), "{again:?}");
}

async fn the_answer_of_a_cut_request_comes_once(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    for door in [Door::One, Door::All] {
        let client = pair.legacy(door, "2025-11-25", json!({})).await;
        let mut home = client.listen(None).await;
        let mut params = door.call("test_tool_with_progress");
        params["_meta"] = json!({ "progressToken": "p" });
        let mut call = client.open("tools/call", params).await;
        assert_eq!(call.message().await["params"]["progress"], 0, "{call:?}");
        let last = call.last_event.clone().expect("events of a session have ids");
        drop(call);
        tokio::time::sleep(QUIET).await;
        let mut resumed = client.listen(Some(&last)).await;
        let told = resumed.rest(Duration::from_secs(2)).await;
        let [half, whole, answer] = told.as_slice() else {
            panic!("three messages are missing: {resumed:?}")
        };
        assert_eq!((&half["params"]["progress"], &whole["params"]["progress"]), (&json!(50), &json!(100)));
        assert_eq!(text_of(&answer["result"]), "all of it is done", "{resumed:?}");
        let elsewhere = home.rest(QUIET).await;
        assert!(elsewhere.is_empty(), "messages of one stream come on no other: {elsewhere:?}");
        // Another session of the same caller cannot read it.
        let other = pair.legacy(door, "2025-11-25", json!({})).await;
        let told = other.listen(Some(&last)).await.rest(QUIET).await;
        assert!(told.iter().all(|one| one["error"]["data"]["code"] == "bad_request"), "{told:?}");
    }
    assert_eq!(pair.logged("cancelled "), 0, "to be cut off is not to cancel");
}

async fn a_second_reader_takes_over(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let client = pair.legacy(Door::One, "2025-11-25", json!({})).await;
    let mut first = client.listen(None).await;
    client.call("test_trigger_tool_change").await.result().await;
    first.next_of("notifications/tools/list_changed").await;
    let mut second = client.listen(None).await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(first.next_within(Duration::from_secs(10)).await, Err(Silence::Ended));
    client.call("test_trigger_prompt_change").await.result().await;
    let told = second.rest(QUIET).await;
    assert_eq!(methods(&told), ["notifications/prompts/list_changed"], "{second:?}");
}

async fn a_session_outlives_its_gateway(backend: Backend) {
    let mut pair = Pair::start(backend, &[]).await;
    let client = pair.legacy(Door::One, "2025-11-25", json!({})).await;
    let at_all = pair.legacy(Door::All, "2024-11-05", json!({})).await;
    client.result("logging/setLevel", json!({ "level": "info" })).await;
    client.result("resources/subscribe", json!({ "uri": "test://watched-resource" })).await;
    for ends_well in [true, false] {
        if ends_well {
            pair.app.terminate(Duration::from_secs(30)).await;
        } else {
            pair.app.kill().await;
        }
        pair.app.boot(None).await;
        for client in [&client, &at_all] {
            assert_eq!(ping(client).await.0, 200, "{}", client.path);
        }
        // What the session wished for is still so.
        let mut call = client.call("test_tool_with_logging").await;
        assert_eq!(text_of(&call.result().await), "three messages were logged");
        assert_eq!(call.heard.len(), 3, "{call:?}");
        let mut stream = client.listen(None).await;
        client.call("test_touch_watched").await.result().await;
        stream.next_of("notifications/resources/updated").await;
    }
    client.delete().await;
    pair.app.terminate(Duration::from_secs(30)).await;
    pair.app.boot(None).await;
    assert_eq!(ping(&client).await.0, 404, "a deleted one stays so");
}

async fn ids_are_nowhere_kept(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("LOG_LEVEL", "trace")).await;
    app.as_operator().register(Registration::conformance("fix", &[])).await;
    let alice = app.as_agent("alice").await;
    let client = McpClient::legacy(&alice, "/mcp/s/fix", "2025-11-25", json!({})).await;
    let ended = McpClient::legacy(&alice, "/mcp", "2025-11-25", json!({})).await;
    let stream = client.listen(None).await;
    client.call("test_simple_text").await.result().await;
    ended.delete().await;
    ping(&ended).await;
    let mut unknown = client.clone();
    unknown.session = Some("this-one-never-was-a-session-here".to_owned());
    ping(&unknown).await;
    drop(stream);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut all = app.process().lines().join("\n").into_bytes();
    let mut directories = vec![app.data_dir()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => directories.push(path),
                path => all.extend(std::fs::read(path).unwrap_or_default()),
            }
        }
    }
    if backend == Backend::Postgres {
        let rows = app.storage.connect(&app.data_dir()).await;
        let query = "SELECT schema_to_xml('public', true, true, '')::text AS all";
        let statement = Statement::from_string(rows.get_database_backend(), query);
        let dump: String = rows.query_one_raw(statement).await.unwrap().unwrap().try_get("", "all").unwrap();
        assert!(dump.contains("alice"), "the rows were read");
        all.extend(dump.into_bytes());
        let redis = redis::Client::open(app.storage.redis_url.clone().unwrap()).unwrap();
        let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
        for key in keys {
            let dump: Result<Vec<u8>, _> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await;
            all.extend(key.into_iter().chain(dump.unwrap_or_default()));
        }
    }
    for id in [&client.session, &ended.session, &unknown.session].map(|id| id.clone().unwrap()) {
        let found = memchr::memmem::find(&all, id.as_bytes());
        let around = |at: usize| String::from_utf8_lossy(&all[at.saturating_sub(200)..at]).into_owned();
        assert!(found.is_none(), "an id is kept after {:?}", found.map(around));
    }
}
