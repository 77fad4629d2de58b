//! What goes wrong on the way, and what is made of it.

use std::time::Duration;

use protocol::Code;
use protocol::mcp::{Era, Eras};
use proxy::http::{RemotePlan, eras};
use proxy::server::Launch;
use serde_json::json;
use tokio::net::TcpListener;

use crate::app::{App, egress, refused, remote};
use crate::modern::usual;
use crate::server::{Answer, Seen, Server, Step};

/// A modern server whose calls go wrong in this way.
async fn failing(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> (Server, App) {
    let server = Server::start(move |seen| match seen.method() {
        "tools/call" => answer(seen),
        "server/discover" => {
            Answer::json(200, seen.result(json!({ "supportedVersions": ["2026-07-28"], "capabilities": {} })))
        }
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Modern);
    (server, app)
}

#[tokio::test]
async fn statuses() {
    for (status, code, part) in [
        (401, Code::UpstreamFailed, "HTTP status 401"),
        (403, Code::UpstreamFailed, "HTTP status 403"),
        (404, Code::UpstreamFailed, "HTTP status 404"),
        (429, Code::UpstreamUnavailable, "asked too often"),
        (500, Code::UpstreamFailed, "HTTP status 500"),
        (503, Code::UpstreamUnavailable, "HTTP status 503"),
        (302, Code::UpstreamFailed, "HTTP status 302"),
    ] {
        let (_server, app) =
            failing(move |_| Answer::text(status, "text/html", "<p>secret").with("retry-after", "7")).await;
        let refusal = refused(app.call().await, code, part);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)), "{status}");
        assert!(!refusal.reason.contains("secret"));
        if matches!(status, 401 | 403) {
            assert!(refusal.hint.unwrap().contains("check the server's headers"));
        }
    }
    let (_server, app) = failing(|_| {
        Answer::json(401, json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": 1, "message": "" } }))
    })
    .await;
    refused(app.call().await, Code::UpstreamFailed, "401");
    let (_server, app) =
        failing(|_| Answer::status(503).with("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT")).await;
    assert!(app.call().await.unwrap_err().retry_after.unwrap() > Duration::from_secs(3600));
}

#[tokio::test]
async fn bodies_that_are_no_answer() {
    let (_server, app) = failing(|_| Answer::text(200, "text/html", "<html>Welcome")).await;
    refused(app.call().await, Code::UnreadableAnswer, "it is no answer to the request");
    let (_server, app) = failing(|_| Answer::status(202)).await;
    refused(app.call().await, Code::UpstreamFailed, "no answer");
    let (_server, app) =
        failing(|_| Answer::json(200, json!({ "jsonrpc": "2.0", "id": 999, "result": {} }))).await;
    refused(app.call().await, Code::UnreadableAnswer, "it is no answer to the request");
    let (_server, app) =
        failing(|_| Answer::events(vec![Step::Write("data: {".to_owned()), Step::Break])).await;
    refused(app.call().await, Code::UpstreamFailed, "broke");
}

#[tokio::test]
async fn answers_that_are_too_large() {
    for kind in ["application/json", "text/event-stream"] {
        let server = Server::start(move |seen| match seen.method() {
            "tools/call" => Answer::text(200, kind, &format!("data: {}", "x".repeat(100_000))),
            _ => usual(seen),
        })
        .await;
        let launch = Launch::Http(remote(&server.url(), &[]));
        let app = App::with(launch, Era::Modern, |settings| settings.line_cap = 50_000);
        refused(app.call().await, Code::UpstreamFailed, "larger than 50000 bytes");
    }
}

#[tokio::test]
async fn the_guard_and_redirects() {
    let elsewhere = Server::start(usual).await;
    let away = elsewhere.url();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/mcp" => usual(seen),
        "/near" => Answer::status(307).with("location", "/mcp"),
        _ => Answer::status(307).with("location", &away),
    })
    .await;
    let launch = |url: &str| Launch::Http(remote(url, &[]));
    let shut = App::with(launch(&server.url()), Era::Modern, |settings| settings.egress = egress(&[]));
    let refusal = refused(shut.call().await, Code::UpstreamUnavailable, "EGRESS_ALLOW");
    assert!(refusal.reason.contains("loopback"));
    let by_name = format!("http://localhost:{}/mcp", server.port);
    let shut = App::with(launch(&by_name), Era::Modern, |settings| settings.egress = egress(&[]));
    refused(shut.call().await, Code::UpstreamUnavailable, "loopback");
    assert!(server.seen().is_empty(), "nothing was sent");

    let far = App::with(launch(&server.url().replace("/mcp", "/far")), Era::Modern, |_| {});
    refused(far.call().await, Code::UpstreamUnavailable, "redirects to");
    assert!(elsewhere.seen().is_empty(), "the redirect was followed");
    let near = App::with(launch(&server.url().replace("/mcp", "/near")), Era::Modern, |_| {});
    assert_eq!(near.call().await.unwrap(), "well");
}

#[tokio::test]
async fn servers_that_are_not_there_or_not_described_well() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let app = App::new(&format!("http://{closed}/mcp?key=secret"), Era::Legacy);
    let refusal = refused(app.call().await, Code::UpstreamUnavailable, "cannot be reached");
    assert!(!refusal.reason.contains("secret"));
    for (url, headers, part) in [
        ("no url", &[][..], "URL"),
        ("ftp://example.com/", &[], "scheme"),
        ("http://127.0.0.1:1/", &[("Host", "x")], "Host"),
        ("http://127.0.0.1:1/", &[("Mcp-Session-Id", "x")], "Mcp-Session-Id"),
    ] {
        let app = App::with(Launch::Http(remote(url, headers)), Era::Legacy, |_| {});
        refused(app.call().await, Code::NotConfigured, part);
    }
}

#[tokio::test]
async fn a_server_that_is_late() {
    let server = Server::start(|_| Answer::events(vec![Step::Hold])).await;
    let mut app = App::new(&server.url(), Era::Legacy);
    std::sync::Arc::get_mut(&mut app.spec).unwrap().start_timeout = Duration::from_millis(300).into();
    refused(app.call().await, Code::UpstreamUnavailable, "did not answer the handshake in time");
    assert!(server.of("notifications/cancelled").is_empty(), "a handshake is not cancelled");
}

async fn probe(
    handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (Server, Result<Option<Eras>, protocol::Refusal>) {
    let server = Server::start(handler).await;
    let plan = RemotePlan::for_probe("probed", egress(&["127.0.0.0/8"]), "trunkline", "1");
    let deadline = std::time::Instant::now() + Duration::from_millis(800);
    let found = eras(&plan, &remote(&server.url(), &[]), deadline).await;
    assert!(server.of("tools/call").is_empty());
    (server, found)
}

fn hello(seen: &Seen) -> Answer {
    let result = json!({ "protocolVersion": "2025-11-25", "capabilities": {} });
    Answer::json(200, seen.result(result)).with("mcp-session-id", "s")
}

#[tokio::test]
async fn eras_are_found_out() {
    let (server, found) = probe(|seen| match seen.method() {
        "initialize" => hello(seen),
        _ => usual(seen),
    })
    .await;
    assert_eq!(found.unwrap(), Some(Eras::DUAL));
    assert_eq!(server.of("DELETE").len(), 1, "the session is ended");
    assert_eq!(probe(usual).await.1.unwrap(), Some(Eras::MODERN));
    for unknown in [
        |seen: &Seen| Answer::json(200, seen.error(-32601, json!(null))),
        |seen: &Seen| Answer::json(400, seen.error(-32600, json!(null))),
        |seen: &Seen| Answer::json(400, seen.error(-32022, json!({ "supported": ["2099-01-01"] }))),
        |_: &Seen| Answer::text(400, "text/plain", "Bad Request: no session"),
        |_: &Seen| Answer::status(404),
        |_: &Seen| Answer::status(405),
        |_: &Seen| Answer::text(200, "text/html", "<html>"),
    ] {
        let (_, found) =
            probe(move |seen| if seen.method() == "initialize" { hello(seen) } else { unknown(seen) }).await;
        assert_eq!(found.unwrap(), Some(Eras::LEGACY));
        assert_eq!(probe(unknown).await.1.unwrap(), None);
    }
    for code in [-32020, -32021, -32022] {
        let (_, found) =
            probe(move |seen| Answer::json(400, seen.error(code, json!({ "supported": ["2026-07-28"] }))))
                .await;
        assert_eq!(found.unwrap(), Some(Eras::MODERN), "{code}");
    }
}

#[tokio::test]
async fn what_is_no_evidence_is_no_verdict() {
    for status in [401, 403, 429, 500, 502, 503] {
        let (_, found) = probe(move |_| Answer::status(status)).await;
        assert!(found.unwrap_err().reason.contains(&status.to_string()));
        let (_, found) =
            probe(
                move |seen| if seen.method() == "initialize" { hello(seen) } else { Answer::status(status) },
            )
            .await;
        assert!(found.is_err());
    }
    let (_, found) = probe(|_| Answer::events(vec![Step::Hold])).await;
    refused(found, Code::UpstreamUnavailable, "in time");
    let plan = RemotePlan::for_probe("probed", egress(&[]), "trunkline", "1");
    let deadline = std::time::Instant::now() + Duration::from_millis(800);
    refused(
        eras(&plan, &remote("http://127.0.0.1:9/", &[]), deadline).await,
        Code::UpstreamUnavailable,
        "loopback",
    );
}
