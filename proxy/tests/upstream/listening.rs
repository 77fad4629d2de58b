//! What a child says and asks besides its answers, and who hears it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use proxy::pool::{PoolKey, UpstreamEvent};
use proxy::selected::Selected;
use proxy::upstream::{ClientProfile, Listener, UpstreamAnswer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::{App, Server, lives, until};
use crate::ear::Ear;
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("progress_finds_its_listener", progress_finds_its_listener),
        test("the_only_listener_hears_what_names_nobody", the_only_listener),
        test("a_request_without_a_listener_hears_nothing", a_request_without_a_listener),
        test("what_follows_an_answer_is_not_for_its_caller", what_follows_an_answer),
        test("a_client_is_introduced_and_hears_at_home", a_client_is_introduced),
        test("an_idle_client_comes_back_as_itself", an_idle_client),
        test("a_question_is_answered_under_its_id", a_question_is_answered),
        test("a_question_is_withdrawn_or_dropped", a_question_is_withdrawn),
        test("questions_without_end_cost_no_memory", questions_without_end),
        test("news_become_events", news_become_events),
        test("a_flood_of_notifications_holds_nobody_up", a_flood),
    ]
}

/// Runs `during` while calls with these listeners are in flight.
async fn in_flight(server: &Server, ears: &[(&Arc<Ear>, Option<u64>)], during: impl AsyncFnOnce()) {
    server.assert_well().await;
    let calls = ears.iter().map(|(ear, token)| {
        let (server, ear, token) = (server.clone(), Arc::clone(ear), *token);
        tokio::spawn(async move { server.call_heard("sleep", json!({ "ms": 700 }), ear, token).await })
    });
    let calls: Vec<_> = calls.collect();
    until("all calls are in flight", 2, || server.status().in_flight == ears.len()).await;
    // The newest is the last one, which the order of polling does not promise for more than one.
    tokio::time::sleep(Duration::from_millis(50)).await;
    during().await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn question(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"a": 1.0}}}}"#)
}

fn introduction(home: Option<Arc<dyn Listener>>) -> Arc<ClientProfile> {
    let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
    Arc::new(ClientProfile {
        capabilities: raw(r#"{"sampling": {}, "x": 1.0}"#),
        info: Some(raw(r#"{"name":"somebody","version":"9"}"#)),
        listener: home,
    })
}

/// The upstream of one client.
fn owned(server: &Server, owner: u64, home: Option<Arc<dyn Listener>>) -> Server {
    let key = PoolKey { owner, declared: 7, ..server.key };
    server.pool.set_profile(&key, introduction(home));
    Server { key, ..server.clone() }
}

async fn progress_finds_its_listener() {
    let app = App::new();
    let server = app.fixture(&[]);
    let (one, two) = (Ear::new(), Ear::new());
    in_flight(&server, &[(&one, Some(41)), (&two, Some(42))], async || {
        let say = |token: &str| {
            notification("notifications/progress", &format!(r#"{{"progressToken":{token},"progress": 0.5}}"#))
        };
        let batch = format!("[{}]", say("42"));
        let lines = [say("41"), batch, say("43"), say("\"41\""), say("null")];
        server.make_say(&lines.join("\n")).await;
        assert_eq!(one.told(), [r#"notifications/progress {"progressToken":41,"progress": 0.5}"#]);
        assert_eq!(two.told(), [r#"notifications/progress {"progressToken":42,"progress": 0.5}"#]);
    })
    .await;
    server.make_say(&notification("notifications/progress", r#"{"progressToken":41}"#)).await;
    assert!(one.told().is_empty(), "its call is over");
}

async fn the_only_listener() {
    let app = App::new();
    let server = app.fixture(&[]);
    let (one, two) = (Ear::new(), Ear::new());
    let said = notification("notifications/message", r#"{"data":"hi"}"#);
    in_flight(&server, &[(&one, None)], async || {
        server.make_say(&said).await;
        assert_eq!(one.told(), [r#"notifications/message {"data":"hi"}"#]);
    })
    .await;
    in_flight(&server, &[(&one, None), (&two, None)], async || {
        server.make_say(&format!("{said}\n{}", question("1", "roots/list"))).await;
    })
    .await;
    assert!(one.told().is_empty() && two.told().is_empty(), "it may be for either of them");
    let answers = server.see("answers").await;
    assert_eq!((&answers[0]["id"], &answers[0]["error"]["code"]), (&json!(1), &json!(-32601)));
}

/// A request of the gateway itself, such as for a list, beside the call of the one client.
async fn a_request_without_a_listener() {
    let app = App::new();
    let server = owned(&app.fixture(&[]), 5, None);
    let ear = Ear::new();
    in_flight(&server, &[(&ear, None)], async || {
        let (slept, ()) = tokio::join!(server.call("sleep", json!({ "ms": 300 })), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.make_say(&question("1", "roots/list")).await;
        });
        slept.unwrap();
        ear.asked().await.answer(UpstreamAnswer::Result(r#"{"roots":[]}"#.into()));
    })
    .await;
    until("it is answered", 2, || server.status().in_flight == 0).await;
    assert_eq!(server.see("answers").await[0]["result"], json!({ "roots": [] }));
}

/// All in one write: the notification comes after the answer, but is read at the same time.
async fn what_follows_an_answer() {
    let app = App::new();
    let server = app.fixture(&[]);
    let ear = Ear::new();
    let (before, after) = (notification("x/before", "{}"), notification("x/after", "{}"));
    let text = format!("{before}\n{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{{}}}}\n{after}\n");
    server.call_heard("raw", json!({ "text": text }), ear.clone(), None).await.unwrap();
    server.assert_well().await;
    assert_eq!(ear.told(), ["x/before {}"]);
}

async fn a_client_is_introduced() {
    let app = App::new();
    let shared = app.fixture(&[]);
    let home = Ear::new();
    let server = owned(&shared, 5, Some(home.clone()));
    assert!(!server.pool.is_running(&server.key));
    let hello = server.see("hello").await;
    assert_eq!(hello["capabilities"], json!({ "sampling": {}, "x": 1.0 }));
    assert_eq!(hello["clientInfo"], json!({ "name": "somebody", "version": "9" }));
    assert_eq!(shared.see("hello").await["capabilities"], json!({}));
    assert_eq!(shared.see("hello").await["clientInfo"]["name"], "trunkline");

    server.make_say(&notification("notifications/message", "{}")).await;
    assert_eq!(home.told(), ["notifications/message {}"]);
    server.make_say(&question("\"q\"", "roots/list")).await;
    home.asked().await.answer(UpstreamAnswer::Result(r#"{"roots":[]}"#.into()));
    let (one, two) = (Ear::new(), Ear::new());
    in_flight(&server, &[(&one, None)], async || {
        let another = server.call_heard("sleep", json!({ "ms": 300 }), two.clone(), None);
        let (slept, ()) = tokio::join!(another, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.make_say(&notification("notifications/message", "{}")).await;
        });
        slept.unwrap();
    })
    .await;
    assert_eq!((one.told().len(), two.told().len(), home.told().len()), (0, 1, 0), "the newest call");

    server.pool.notify(&server.selected(), "notifications/roots/list_changed", b"");
    server.pool.notify(
        &Selected::for_gateway(server.spec.clone(), PoolKey { owner: 6, ..server.key }),
        "notifications/roots/list_changed",
        b"",
    );
    assert_eq!(server.see("told").await, json!(["notifications/roots/list_changed"]));
    let pid = server.see("pid").await.as_u64().unwrap() as u32;
    server.pool.dismiss(5);
    until("it is ended", 5, || !lives(pid) && !server.pool.is_running(&server.key)).await;
    assert!(server.pool.is_running(&shared.key));
}

async fn an_idle_client() {
    let app = App::new();
    let idle = Duration::from_millis(200).into();
    let server = owned(&app.fixture_with(&[], |spec| spec.idle_timeout = idle), 5, None);
    for _ in 0..2 {
        assert_eq!(server.see("hello").await["clientInfo"]["name"], "somebody");
        assert!(server.pool.is_running(&server.key));
        until("it is ended", 5, || !server.pool.is_running(&server.key)).await;
    }
}

async fn a_question_is_answered() {
    let app = App::new();
    let server = app.fixture(&[]);
    let ear = Ear::new();
    in_flight(&server, &[(&ear, None)], async || {
        let ids = ["7", "\"7\"", "\"\\u0061\""];
        for id in ids {
            server.make_say(&question(id, "sampling/createMessage")).await;
        }
        let first = ear.asked().await;
        assert_eq!(
            (&*first.method, first.params.as_deref()),
            ("sampling/createMessage", Some(&b"{\"a\": 1.0}"[..]))
        );
        first.answer(UpstreamAnswer::Result("{\"x\":\n1.0}".into()));
        ear.asked().await.refuse(protocol::Code::Cancelled, "the user said no");
        drop(ear.asked().await);
    })
    .await;
    until("all are answered", 2, || server.status().in_flight == 0).await;
    let answers = server.see("answers").await;
    let find =
        |id: Value| answers.as_array().unwrap().iter().find(|answer| answer["id"] == id).unwrap().clone();
    assert_eq!(find(json!(7))["result"], json!({ "x": 1.0 }));
    assert_eq!(find(json!("7"))["error"], json!({ "code": 49900, "message": "the user said no" }));
    assert_eq!(find(json!("a"))["error"]["code"], -32603);
}

async fn a_question_is_withdrawn() {
    let app = App::new();
    let server = app.fixture(&[]);
    let ear = Ear::new();
    in_flight(&server, &[(&ear, None)], async || {
        server.make_say(&question("\"w\"", "elicitation/create")).await;
        let mut asked = ear.asked().await;
        assert!(tokio::time::timeout(Duration::from_millis(50), asked.withdrawn()).await.is_err());
        let cancelled = r#"{"requestId":"w","reason":"enough"}"#;
        server.make_say(&notification("notifications/cancelled", cancelled)).await;
        tokio::time::timeout(Duration::from_secs(2), asked.withdrawn()).await.unwrap();
        asked.answer(UpstreamAnswer::Result("{}".into()));
        // The id is free again.
        server.make_say(&question("\"w\"", "elicitation/create")).await;
        ear.asked().await.answer(UpstreamAnswer::Result("{}".into()));
    })
    .await;
    assert_eq!(server.see("answers").await.as_array().unwrap().len(), 1);
}

async fn questions_without_end() {
    let app = App::new();
    let server = app.fixture(&[]);
    let ear = Ear::new();
    in_flight(&server, &[(&ear, None)], async || {
        let many: Vec<String> = (0..400).map(|id| question(&id.to_string(), "roots/list")).collect();
        server.make_say(&many.join("\n")).await;
        assert_eq!(ear.asked.lock().len(), 256);
        ear.asked.lock().clear();
    })
    .await;
    assert_eq!(server.see("answers").await.as_array().unwrap().len(), 400);
}

async fn news_become_events() {
    let app = App::new();
    let server = app.fixture(&[]);
    let ear = Ear::new();
    let mut events = app.pool.events();
    let soon = Instant::now() + Duration::from_secs(5);
    let _subscribed = server.pool.subscribe(&server.selected(), "a:b", soon).await.unwrap().unwrap();
    in_flight(&server, &[(&ear, None)], async || {
        let lines = [
            notification("notifications/prompts/list_changed", "{}"),
            format!("[{}]", notification("notifications/resources/updated", r#"{"uri": "a:b"}"#)),
            // Nobody subscribed to it.
            notification("notifications/resources/updated", r#"{"uri":"a:c"}"#),
        ];
        server.make_say(&lines.join("\n")).await;
    })
    .await;
    let expected = [
        UpstreamEvent::PromptsChanged,
        UpstreamEvent::ResourceUpdated { uri: "a:b".into(), params: r#"{"uri": "a:b"}"#.into() },
    ];
    for news in expected {
        let event = events.try_recv().unwrap();
        assert_eq!((event.key, event.event), (server.key, news));
    }
    assert!(events.try_recv().is_err());
    assert!(ear.told().is_empty());
}

async fn a_flood() {
    let app = App::new();
    let (bad, good) = (app.fixture(&[]), app.fixture(&[]));
    let ear = Ear::new();
    in_flight(&bad, &[(&ear, None)], async || {
        assert_eq!(bad.call("chatter", json!({})).await.unwrap(), "chattering");
        for _ in 0..20 {
            bad.assert_well().await;
            good.assert_well().await;
        }
        until("the listener is flooded", 2, || ear.told.lock().len() == 100).await;
    })
    .await;
    bad.assert_well().await;
}
