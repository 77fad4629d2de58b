//! Two gateways on one PostgreSQL and one Redis: a client may be served by either, at any moment.

use std::time::{Duration, Instant};

use tests::mcp_client::{SUBSCRIPTION, everything};
use tests::{
    Actor, Backend, Case, Exchange, McpClient, Registration, Settings, Silence, TestApp, Value, cases, json,
};

use crate::pair::{DOORS, Door, Pair, in_rounds, next_round, replied, text_of};

pub const CASES: &[Case] = cases![
    Postgres: a_session_is_served_by_both, a_question_is_answered_at_the_other, a_call_is_cancelled_at_the_other,
        changes_made_through_the_other, registrations_at_the_other, resources_touched_through_the_other,
        a_session_ends_on_both, a_stream_goes_on_at_the_other, one_reader_at_a_time, rounds_that_change_the_replica,
        a_key_revoked_at_the_other, a_tenants_change_at_the_other;
];

/// How soon the other replica knows.
const SOON: Duration = Duration::from_secs(5);

/// Two replicas, and the same agent at each.
struct Two {
    pair: Pair,
    other: TestApp,
    there: Actor,
}

impl Two {
    async fn start(backend: Backend, arguments: &[&str]) -> Two {
        let pair = Pair::start(backend, arguments).await;
        let other = pair.app.start_beside(Settings::new()).await;
        let there = moved(&pair.alice, &other);
        Two { pair, other, there }
    }

    /// The same client, sent to the other replica.
    fn moved(&self, client: &McpClient) -> McpClient {
        client.by(&self.there)
    }

    async fn session(&self, door: Door) -> (McpClient, McpClient) {
        let here = self.pair.legacy(door, "2025-11-25", everything()).await;
        let there = self.moved(&here);
        (here, there)
    }
}

/// The same key at another replica.
fn moved(actor: &Actor, there: &TestApp) -> Actor {
    let key = &actor.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1;
    there.with_key(key)
}

async fn a_session_is_served_by_both(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    for door in DOORS {
        let (here, there) = two.session(door).await;
        for client in [&there, &here, &there] {
            assert_eq!(client.result("ping", json!({})).await, json!({}));
            assert_eq!(text_of(&client.call(&door.name("greet")).await.result().await), "Hello, nobody!");
        }
        // What the session wishes is known at both.
        here.result("logging/setLevel", json!({ "level": "info" })).await;
        for (client, expected) in [(&there, 3), (&here, 3)] {
            let mut call = client.call(&door.name("test_tool_with_logging")).await;
            call.result().await;
            assert_eq!(call.heard.len(), expected, "{call:?}");
        }
        there.result("logging/setLevel", json!({ "level": "error" })).await;
        let mut call = here.call(&door.name("test_tool_with_logging")).await;
        call.result().await;
        assert!(call.heard.is_empty(), "{call:?}");
    }
}

async fn a_question_is_answered_at_the_other(backend: Backend) {
    for era in ["legacy", "modern"] {
        let two = Two::start(backend, &["--era", era]).await;
        for door in DOORS {
            let (here, there) = two.session(door).await;
            for (asks, answers) in [(&here, &there), (&there, &here)] {
                let mut call = asks.call(&door.name("test_elicitation")).await;
                let question = call.next_of("elicitation/create").await;
                answers.reply(&question, replied(&question)).await;
                let text = call.text().await;
                assert!(text.contains("accept"), "{era}: {call:?}");
            }
        }
    }
}

async fn a_call_is_cancelled_at_the_other(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    let (here, there) = two.session(Door::One).await;
    let request = here.request("tools/call", Door::One.call("test_wait_for_cancel"));
    let cancelled = json!({ "requestId": request["id"] });
    let going = tokio::spawn(async move { here.send(&request).await.rest(SOON).await });
    two.pair.until_logged("test_wait_for_cancel", 1).await;
    there.notify("notifications/cancelled", cancelled).await;
    two.pair.until_logged("cancelled ", 1).await;
    going.abort();
}

/// A modern subscription at this replica, acknowledged.
async fn subscribed(client: &McpClient, notifications: Value) -> Exchange {
    let params = json!({ "notifications": notifications });
    let mut stream = client.open("subscriptions/listen", params).await;
    let first = stream.message().await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{stream:?}");
    stream
}

async fn changes_made_through_the_other(backend: Backend) {
    for era in ["legacy", "modern"] {
        let two = Two::start(backend, &["--era", era]).await;
        for door in DOORS {
            let (here, there) = two.session(door).await;
            let mut stream = here.listen(None).await;
            let modern = two.pair.modern(door, json!({}));
            let mut listen =
                subscribed(&modern, json!({ "toolsListChanged": true, "promptsListChanged": true })).await;
            there.call(&door.name("test_trigger_tool_change")).await.result().await;
            stream.next_of("notifications/tools/list_changed").await;
            // A session that can be asked has a server of its own, whose changes are its own too.
            let moved = two.moved(&modern);
            moved.call(&door.name("test_trigger_tool_change")).await.result().await;
            let told = listen.next_of("notifications/tools/list_changed").await;
            assert!(!told["params"]["_meta"][SUBSCRIPTION].is_null(), "{told}");
            moved.call(&door.name("test_trigger_prompt_change")).await.result().await;
            listen.next_of("notifications/prompts/list_changed").await;
            let plain = two.pair.legacy(door, "2025-06-18", json!({})).await;
            let mut stream = plain.listen(None).await;
            two.moved(&plain).call(&door.name("test_trigger_tool_change")).await.result().await;
            stream.next_of("notifications/tools/list_changed").await;
        }
    }
}

async fn registrations_at_the_other(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    let (here, there) = two.session(Door::All).await;
    let mut stream = here.listen(None).await;
    let mut listen =
        subscribed(&two.pair.modern(Door::All, json!({})), json!({ "toolsListChanged": true })).await;
    let begun = Instant::now();
    two.other.as_operator().register(Registration::conformance("more", &[])).await;
    stream.next_of("notifications/tools/list_changed").await;
    listen.next_of("notifications/tools/list_changed").await;
    assert!(begun.elapsed() < SOON, "told after {:?}", begun.elapsed());
    for client in [here, there] {
        let tools = client.result("tools/list", json!({})).await.to_string();
        assert!(tools.contains("more__greet"), "both list it at once");
    }
}

async fn resources_touched_through_the_other(backend: Backend) {
    for era in ["legacy", "modern"] {
        let two = Two::start(backend, &["--era", era]).await;
        let (here, there) = two.session(Door::One).await;
        let uri = "test://watched-resource";
        let modern = two.pair.modern(Door::One, json!({}));
        let mut listen = subscribed(&modern, json!({ "resourceSubscriptions": [uri] })).await;
        let mut stream = here.listen(None).await;
        here.result("resources/subscribe", json!({ "uri": uri })).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        there.call("test_touch_watched").await.result().await;
        assert_eq!(stream.next_of("notifications/resources/updated").await["params"]["uri"], uri);
        two.moved(&modern).call("test_touch_watched").await.result().await;
        assert_eq!(listen.next_of("notifications/resources/updated").await["params"]["uri"], uri);
        // A wish that was uttered at the other is a wish too.
        let (here, there) = two.session(Door::One).await;
        let mut stream = here.listen(None).await;
        there.result("resources/subscribe", json!({ "uri": uri })).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        here.call("test_touch_watched").await.result().await;
        stream.next_of("notifications/resources/updated").await;
    }
}

async fn a_session_ends_on_both(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    for door in DOORS {
        let (here, there) = two.session(door).await;
        there.result("ping", json!({})).await;
        let mut stream = there.listen(None).await;
        assert!((200..300).contains(&here.delete().await.status));
        assert_eq!(there.open("ping", json!({})).await.status, 404, "at once");
        assert_eq!(there.listen(None).await.status, 404);
        assert_eq!(stream.next_within(SOON).await, Err(Silence::Ended), "its stream at the other ends");
    }
}

async fn a_stream_goes_on_at_the_other(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    let (here, there) = two.session(Door::One).await;
    let mut stream = here.listen(None).await;
    here.call("test_trigger_tool_change").await.result().await;
    stream.next_of("notifications/tools/list_changed").await;
    let last = stream.last_event.clone();
    drop(stream);
    let mut resumed = there.listen(last.as_deref()).await;
    assert_eq!(resumed.status, 200, "{resumed:?}");
    here.call("test_trigger_prompt_change").await.result().await;
    resumed.next_of("notifications/prompts/list_changed").await;
}

/// No message comes on two streams, wherever they are.
async fn one_reader_at_a_time(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    let (here, there) = two.session(Door::One).await;
    let mut first = there.listen(None).await;
    there.call("test_trigger_tool_change").await.result().await;
    first.next_of("notifications/tools/list_changed").await;
    // The change has reached the other replica too by then, where nobody reads yet.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut second = here.listen(None).await;
    assert_eq!(second.status, 200);
    assert_eq!(first.next_within(SOON).await, Err(Silence::Ended), "the older stream ends");
    there.call("test_trigger_tool_change").await.result().await;
    let told = second.rest(Duration::from_secs(1)).await;
    assert_eq!(told.len(), 1, "the newer stream is told: {told:?}");
}

/// Streams at this replica end within 2 s after their key was revoked, or their agent deleted, at the other.
async fn a_key_revoked_at_the_other(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    let (operator, there) = (two.pair.app.as_operator(), two.other.as_operator());
    operator.post("/v1/agents", json!({ "slug": "eve", "name": "eve" })).await.status(201);
    let (key, id) = operator.make_key(json!({ "name": "k", "role": "agent" })).await;
    let (eves, _) = operator.make_key(json!({ "name": "k", "role": "agent", "agentId": "eve" })).await;
    for (secret, path) in [(key, format!("/v1/keys/{id}")), (eves, "/v1/agents/eve".to_owned())] {
        let client = McpClient::modern(&two.pair.app.with_key(&secret), "/mcp");
        let mut stream = subscribed(&client, json!({ "toolsListChanged": true })).await;
        there.delete(&path).await.status(204);
        let silence = stream.next_within(Duration::from_secs(2)).await;
        assert_eq!(silence, Err(Silence::Ended), "{path}: {stream:?}");
    }
}

/// A tenant's change, made at one replica, touches no other tenant at the other; the operator's reaches all.
async fn a_tenants_change_at_the_other(backend: Backend) {
    let two = Two::start(backend, &[]).await;
    let here = &two.pair.app;
    let global = here.as_operator().register(Registration::rmcp("shared").with("scope", "global")).await;
    let acme = moved(&here.as_tenant_admin("acme").await, &two.other);
    let globex = moved(&here.as_tenant_admin("globex").await, &two.other);
    until_lists(&globex, "shared__pid").await;
    let pid = async |actor: &Actor| actor.call("shared__pid", json!({})).await.tool_text();
    let before = [pid(&acme).await, pid(&globex).await];

    let own = here.as_operator_for("acme").await.register(Registration::conformance("shared", &[])).await;
    until_lists(&acme, "shared__greet").await;
    assert_eq!(pid(&globex).await, before[1], "its child of the server that another tenant hides");

    here.as_operator_for("acme").await.delete(&own.path("")).await.status(204);
    here.as_operator().patch(&global.path(""), json!({ "args": ["--changed"] })).await.status(200);
    let until = Instant::now() + SOON;
    for (actor, before) in [&acme, &globex].into_iter().zip(&before) {
        until_lists(actor, "shared__pid").await;
        while pid(actor).await == *before {
            assert!(Instant::now() < until, "the operator's change reaches each tenant");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn until_lists(actor: &Actor, tool: &str) {
    let until = Instant::now() + SOON;
    while !actor.tool_names().await.iter().any(|name| name == tool) {
        assert!(Instant::now() < until, "{tool} is known at the other replica");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A call that waits for its answer waits at one replica: the next round finds it, or is refused with a
/// reason.
async fn rounds_that_change_the_replica(backend: Backend) {
    let two = Two::start(backend, &["--era", "legacy"]).await;
    let here = two.pair.modern(Door::One, everything());
    let there = two.moved(&here);
    let call = Door::One.call("test_elicitation");
    let asked = here.result("tools/call", call.clone()).await;
    let mut moved = there.open("tools/call", next_round(&call, &asked)).await;
    let answer = moved.answer().await;
    assert_eq!(answer["error"]["code"], -32602, "{moved:?}");
    let result = here.result("tools/call", next_round(&call, &asked)).await;
    assert!(text_of(&result).contains("accept"), "it still waits where it began: {result}");
    drop(two);
    // The states of a server of this era are good everywhere.
    let two = Two::start(backend, &["--era", "modern"]).await;
    let here = two.pair.modern(Door::All, everything());
    let call = Door::All.call("test_input_required_result_request_state");
    let asked = here.result("tools/call", call.clone()).await;
    let result = two.moved(&here).result("tools/call", next_round(&call, &asked)).await;
    assert!(text_of(&result).starts_with("state-ok"), "{result}");
    let (result, _) = in_rounds(&two.moved(&here), "tools/call", &call).await;
    assert!(text_of(&result).starts_with("state-ok"), "{result}");
}
