//! Sessions that end, requests that are given up, and bodies that are unusual, in the legacy era.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::Code;
use protocol::mcp::Era;
use serde_json::json;

use crate::app::{App, error, refused, result, until};
use crate::legacy::usual;
use crate::server::{Answer, Server, Step};

#[tokio::test]
async fn a_lost_session_is_begun_anew() {
    // As the specification has it, and as older servers say it.
    let sentence = json!({ "code": -32000, "message": "Bad Request: No valid session ID provided" });
    let older = json!({ "jsonrpc": "2.0", "id": null, "error": sentence });
    for (status, body) in [(404, json!("who?")), (400, older)] {
        let sessions = Arc::new(AtomicUsize::new(0));
        let server = Server::start(move |seen| match seen.method() {
            "initialize" => {
                let count = sessions.fetch_add(1, Ordering::Relaxed) + 1;
                let result = json!({ "protocolVersion": "2025-11-25", "capabilities": {} });
                Answer::json(200, seen.result(result)).with("mcp-session-id", &format!("session-{count}"))
            }
            "tools/call" if seen.header("mcp-session-id") == Some("session-1") => {
                Answer::json(status, body.clone())
            }
            _ => usual(seen),
        })
        .await;
        let app = App::new(&server.url(), Era::Legacy);
        assert_eq!(app.call().await.unwrap(), "well");
        assert_eq!(server.of("tools/call")[1].header("mcp-session-id"), Some("session-2"));
        assert_eq!(server.of("initialize").len(), 2);
    }
}

#[tokio::test]
async fn who_goes_away_cancels() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::events(vec![Step::Hold]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    let hurried = app.ask_for("tools/call", json!({}), None, Duration::from_millis(900)).await;
    refused(hurried, Code::TimedOut, "did not answer within");
    let dropped = tokio::time::timeout(Duration::from_millis(200), app.call()).await;
    assert!(dropped.is_err());
    until("both are cancelled", || server.of("notifications/cancelled").len() == 2).await;
    let calls: Vec<_> = server.of("tools/call").iter().map(|seen| seen.id().clone()).collect();
    let cancelled: Vec<_> = server
        .of("notifications/cancelled")
        .iter()
        .map(|seen| seen.body["params"]["requestId"].clone())
        .collect();
    assert_eq!(calls, cancelled);
    assert_eq!(server.of("notifications/cancelled")[0].header("mcp-session-id"), Some("session-1"));
}

#[tokio::test]
async fn a_long_stream_outlives_the_settings_time_out() {
    // The time-out of the way out is half a second here.
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::events(vec![
            Step::Sleep(1500),
            Step::event(&seen.result(json!({ "content": [{ "text": "slow" }] }))),
        ]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    assert_eq!(app.call().await.unwrap(), "slow");
}

#[tokio::test]
async fn batches_and_errors_without_an_id() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::json(
            200,
            json!([{ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }, seen.result(json!({ "ok": 1 }))]),
        ),
        "tools/list" => Answer::json(200, json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -1, "message": "m" } })),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    assert_eq!(result(app.ask("tools/call", json!({})).await.unwrap()), json!({ "ok": 1 }));
    assert_eq!(error(app.ask("tools/list", json!({})).await.unwrap())["code"], -1);
}

#[tokio::test]
async fn a_stop_refuses_what_is_in_flight() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::events(vec![Step::Hold]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    let stop = async {
        until("it is in flight", || !server.of("tools/call").is_empty()).await;
        app.pool.stop(app.key.tenant, &app.spec).await;
    };
    let (call, ()) = tokio::join!(app.call(), stop);
    refused(call, Code::ServerStopped, "stopped");
    assert_eq!(server.of("DELETE").len(), 1);
    refused(app.call().await, Code::ServerStopped, "stopped");
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_leaves_nothing_behind() {
    let server = Server::start(|_| Answer::events(vec![Step::Hold])).await;
    let plan =
        proxy::http::RemotePlan::for_probe("left", crate::app::egress(&["127.0.0.0/8"]), "trunkline", "1");
    let launch = crate::app::remote(&server.url(), &[]);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let start = proxy::http::start(&plan, &launch, 1, deadline);
    assert!(tokio::time::timeout(Duration::from_millis(200), start).await.is_err());
    plan.peer.tasks.close();
    tokio::time::timeout(Duration::from_secs(2), plan.peer.tasks.wait()).await.expect("its tasks end");
}
