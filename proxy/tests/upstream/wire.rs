//! What goes over the wire, and what a child may do to it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use libtest_mimic::Trial;
use protocol::Code;
use proxy::pool::UpstreamEvent;
use proxy::upstream::UpstreamAnswer;
use serde_json::json;

use crate::app::{App, refused, this_program, until};
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("answers_pass_byte_for_byte", answers_pass_byte_for_byte),
        test("large_messages_pass", large_messages_pass),
        test("odd_children_are_tolerated", odd_children_are_tolerated),
        test("a_broken_answer_fails_its_call_at_once", a_broken_answer_fails_its_call_at_once),
        test("a_child_may_ask", a_child_may_ask),
        test("changes_are_counted", changes_are_counted),
        test("a_call_that_hangs_times_out_and_is_cancelled", a_call_that_hangs_times_out),
        test("a_caller_that_leaves_cancels", a_caller_that_leaves_cancels),
        test("a_line_without_end_harms_nobody_else", a_line_without_end),
        test("endless_chatter_harms_nobody_else", endless_chatter),
        test("floods_cost_no_memory", floods_cost_no_memory),
        test("a_deaf_child_harms_nobody_else", a_deaf_child),
        test("a_death_in_mid_call_says_why", a_death_in_mid_call),
        test("stderr_is_kept_and_bounded", stderr_is_kept),
    ]
}

async fn answers_pass_byte_for_byte() {
    let app = App::new();
    let server = app.fixture(&[]);
    let result = r#"{"b": 1.0,"a":[ 1e400, "\u00e9" ],  "x":{"y":null,"y":2}}"#;
    for line in [
        format!("{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{result}}}\n"),
        format!("{{\"result\":{result},\"id\":$ID,\"jsonrpc\":\"2.0\"}}\r\n"),
        format!("[{{\"id\":$ID,\"result\":{result}}}]\n"),
    ] {
        let delivered = server.deliver("raw", json!({ "text": line }), Duration::from_secs(5)).await.unwrap();
        assert_eq!(delivered.answer, UpstreamAnswer::Result(result.as_bytes().to_vec().into()));
    }
    let params = "{\n  \"name\": \"echo\",\r\n  \"arguments\": {\"text\": \"a\\nb\"}\n}";
    let delivered = server.request("tools/call", params, Duration::from_secs(5)).await.unwrap();
    let expected = br#"{"content":[{"text":"a\nb","type":"text"}]}"#;
    assert_eq!(delivered.answer, UpstreamAnswer::Result(expected.to_vec().into()));
    let error = server.request("resources/list", "{}", Duration::from_secs(5)).await.unwrap();
    assert!(matches!(error.answer, UpstreamAnswer::Error(error) if error.starts_with(b"{\"code\":-32601")));
}

async fn large_messages_pass() {
    let app = App::new();
    let server = app.fixture(&[]);
    for bytes in [100_000, 10_000_000] {
        assert_eq!(server.call("big", json!({ "bytes": bytes })).await.unwrap().len(), bytes);
        let text = "y".repeat(bytes);
        assert_eq!(server.echo(&text).await.unwrap(), text);
    }
}

async fn odd_children_are_tolerated() {
    let app = App::new();
    let server = app.fixture(&["banner"]);
    server.assert_well().await;
    assert_eq!(server.call("twice", json!({})).await.unwrap(), "once");
    let strange = "{\"jsonrpc\":\"2.0\",\"id\":424242,\"result\":{}}\n{\"id\":\"s\",\"result\":{}}\nnonsense\n\
                   {\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"content\":[{\"text\":\"fine\"}]}}\n";
    assert_eq!(server.call("raw", json!({ "text": strange })).await.unwrap(), "fine");
    for part in ["Welcome to the server!", "late or repeated", "424242", "never given", "nonsense"] {
        until(part, 2, || server.log().contains(part)).await;
    }
    assert_eq!(server.status().restarts, 0);
}

async fn a_broken_answer_fails_its_call_at_once() {
    let app = App::new();
    let server = app.fixture(&[]);
    let broken = json!({ "text": "{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{oh}}\n" });
    refused(server.call("raw", broken).await, Code::UnreadableAnswer, "it is no JSON");
    server.assert_well().await;
}

async fn a_child_may_ask() {
    let app = App::new();
    let server = app.fixture(&[]);
    let text = "{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\
                {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"roots/list\"}\n\
                {\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"content\":[{\"text\":\"asked\"}]}}\n";
    assert_eq!(server.call("raw", json!({ "text": text })).await.unwrap(), "asked");
    let answers: serde_json::Value = {
        let text = server.call("answers", json!({})).await.unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(answers[0], json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!(1), &json!(-32601)));
}

async fn changes_are_counted() {
    let app = App::new();
    let server = app.fixture(&[]);
    assert_eq!(server.pool.changes(&server.key), 0);
    server.assert_well().await;
    let before = server.pool.changes(&server.key);
    let text = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\
                {\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"content\":[{\"text\":\"x\"}]}}\n";
    server.call("raw", json!({ "text": text })).await.unwrap();
    let changed = (before + 1) | UpstreamEvent::ToolsChanged.list_bit();
    assert_eq!(server.pool.changes(&server.key), changed);
    server.pool.restart(app.tenant, &server.spec).await.unwrap();
    assert!(server.pool.changes(&server.key) > changed);
}

async fn a_call_that_hangs_times_out() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.assert_well().await;
    let begun = Instant::now();
    let hangs = server.deliver("hang", json!({}), Duration::from_millis(300));
    let other = server.deliver("sleep", json!({ "ms": 500 }), Duration::from_secs(5));
    let (hung, other) = tokio::join!(hangs, async {
        let other = other.await;
        (other, begun.elapsed())
    });
    refused(hung, Code::TimedOut, "did not answer within 3");
    assert!(other.0.is_ok() && other.1 >= Duration::from_millis(500));
    assert_eq!(server.call("cancelled", json!({})).await.unwrap(), "1");
}

async fn a_caller_that_leaves_cancels() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.assert_well().await;
    let leaves = server.call("sleep", json!({ "ms": 200 }));
    tokio::time::timeout(Duration::from_millis(50), leaves).await.unwrap_err();
    assert_eq!(server.call("cancelled", json!({})).await.unwrap(), "1");
    assert_eq!(server.status().in_flight, 0);
    until("it is noted", 2, || server.log().contains("late or repeated")).await;
    server.assert_well().await;
}

async fn a_line_without_end() {
    let app = App::with(|settings| settings.line_cap = 1 << 20);
    let (bad, good) = (app.fixture(&[]), app.fixture(&[]));
    bad.assert_well().await;
    good.assert_well().await;
    let (flooded, waiting) = tokio::join!(bad.call("flood", json!({})), bad.call("hang", json!({})));
    refused(flooded, Code::UpstreamFailed, "more than 1048576 bytes");
    refused(waiting, Code::UpstreamFailed, "more than 1048576 bytes");
    good.assert_well().await;
    bad.assert_well().await;
    assert_eq!((bad.status().restarts, good.status().restarts), (1, 0));
}

async fn endless_chatter() {
    let app = App::new();
    let (bad, good) = (app.fixture(&[]), app.fixture(&[]));
    assert_eq!(bad.call("chatter", json!({})).await.unwrap(), "chattering");
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        good.assert_well().await;
        bad.assert_well().await;
    }
}

/// In a process of its own: here the other tests use memory, too.
async fn floods_cost_no_memory() {
    let host = std::process::Command::new(this_program()).args(["host", "memory"]).output().unwrap();
    let grown: usize = String::from_utf8(host.stdout).unwrap().trim().parse().unwrap();
    assert!(grown < 8 << 20, "grown by {grown} bytes");
}

async fn a_deaf_child() {
    let app = App::with(|settings| settings.write_cap = 4 << 20);
    let (bad, good) = (app.fixture(&[]), app.fixture(&[]));
    assert_eq!(bad.call("deaf", json!({})).await.unwrap(), "deaf from now on");
    let text = "z".repeat(1 << 20);
    let begun = Instant::now();
    let calls = (0..8).map(|_| {
        let arguments = json!({ "text": text });
        bad.deliver("echo", arguments, Duration::from_millis(500))
    });
    let (results, ()) = tokio::join!(join_all(calls), good.assert_well());
    let codes: Vec<Code> = results.into_iter().map(|result| result.unwrap_err().code).collect();
    assert!(codes.contains(&Code::TimedOut) && codes.contains(&Code::UpstreamUnavailable), "{codes:?}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    good.assert_well().await;
    bad.pool.restart(app.tenant, &bad.spec).await.unwrap();
    bad.assert_well().await;
}

async fn a_death_in_mid_call() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.assert_well().await;
    let (hangs, exits) =
        tokio::join!(server.call("hang", json!({})), server.call("exit", json!({ "code": 9 })));
    refused(exits, Code::UpstreamFailed, "exited with status 9; on stderr: last words");
    refused(hangs, Code::UpstreamFailed, "last words");
    server.assert_well().await;
    assert_eq!(server.status().restarts, 1);
}

async fn stderr_is_kept() {
    let app = App::with(|settings| settings.log_lines = 100);
    let server = app.fixture(&[]);
    server.call("shout", json!({ "lines": 5000 })).await.unwrap();
    until("the last line is there", 5, || server.log().contains("line 4999\n")).await;
    assert_eq!(server.log().lines().count(), 100);
}
