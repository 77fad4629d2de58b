//! The way out, against a server of the test's own on loopback, which the guard must refuse unless it
//! is opened.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proxy::egress::{Egress, EgressError, EgressSettings, Method, Url, read_limited};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// A server that answers each path with a fixed text, and counts who came.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answers: &[(&'static str, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let answers: Arc<HashMap<_, _>> = Arc::new(answers.iter().cloned().collect());
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let answers = answers.clone();
                tasks.spawn(async move {
                    let mut request = vec![0; 8192];
                    let length = stream.read(&mut request).await.unwrap();
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap_or_default();
                    let Some(answer) = answers.get(path) else {
                        return tokio::time::sleep(Duration::from_secs(60)).await;
                    };
                    stream.write_all(answer.as_bytes()).await.ok();
                });
            }
        });
        Self { port, connections }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
}

fn egress(allow: &[&str], trusted: &[&str]) -> Egress {
    Egress::new(EgressSettings {
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_millis(800),
        allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
        trusted: trusted.iter().map(|url| Url::parse(url).unwrap()).collect(),
        follow: true,
    })
}

#[tokio::test]
async fn loopback_is_refused_by_address_and_by_name() {
    let server = Server::start(&[("/", ok("{}"))]).await;
    let out = egress(&[], &[]);
    for host in ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0x7f000001"] {
        let url = format!("http://{host}:{}/", server.port);
        let error = out.fetch_json::<Value>(&url, 100).await.unwrap_err();
        assert!(matches!(error, EgressError::NotPublic { kind: "loopback", .. }), "{host}: {error}");
        assert!(error.to_string().contains("EGRESS_ALLOW"), "{error}");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 0, "somebody was connected to");
}

#[tokio::test]
async fn what_the_operator_opened_is_reached() {
    let server = Server::start(&[("/keys", ok(r#"{"keys":[]}"#))]).await;
    let url = server.url("/keys");
    let by_network = egress(&["127.0.0.0/8", "::1/128"], &[]);
    assert_eq!(by_network.fetch_json::<Value>(&url, 100).await.unwrap()["keys"], Value::Array(Vec::new()));
    let by_name = url.replace("127.0.0.1", "localhost");
    assert!(by_network.fetch_json::<Value>(&by_name, 100).await.is_ok());

    // An origin is scheme, host and port: another port of the same host stays shut.
    let by_origin = egress(&[], &[&server.url("/elsewhere")]);
    assert!(by_origin.fetch_json::<Value>(&url, 100).await.is_ok());
    let other = Server::start(&[("/keys", ok("{}"))]).await;
    let refused = by_origin.fetch_json::<Value>(&other.url("/keys"), 100).await;
    assert!(matches!(refused, Err(EgressError::NotPublic { .. })));
    let by_name = by_origin.fetch_json::<Value>(&by_name, 100).await;
    assert!(matches!(by_name, Err(EgressError::NotPublic { .. })), "{by_name:?}");
}

#[tokio::test]
async fn redirects_stay_on_their_host() {
    let other = Server::start(&[("/", ok("{}"))]).await;
    let server = Server::start(&[
        ("/near", redirect("/end")),
        ("/end", ok("{}")),
        ("/far", redirect(&other.url("/"))),
        ("/round", redirect("/round")),
        ("/file", redirect("file:///etc/passwd")),
    ])
    .await;
    let out = egress(&["127.0.0.0/8"], &[]);
    let fetch = |path: &'static str| {
        let (out, url) = (out.clone(), server.url(path));
        async move { out.fetch_json::<Value>(&url, 100).await }
    };
    assert!(fetch("/near").await.is_ok());
    let far = fetch("/far").await.unwrap_err();
    assert!(matches!(far, EgressError::Redirect { .. }), "{far}");
    assert!(matches!(fetch("/round").await, Err(EgressError::TooManyRedirects { .. })));
    assert!(fetch("/file").await.is_err());
    assert_eq!(other.connections.load(Ordering::Relaxed), 0, "the redirect was followed");
}

#[tokio::test]
async fn a_client_that_does_not_follow_returns_the_redirect() {
    let server = Server::start(&[("/near", redirect("/end")), ("/end", ok("{}"))]).await;
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let out = Egress::new(EgressSettings { allow, follow: false, ..EgressSettings::default() });
    let url = Url::parse(&server.url("/near")).unwrap();
    let response = out.send(out.request(Method::GET, &url).unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 302);
    assert_eq!(response.headers()["location"], "/end");
    assert_eq!(server.connections.load(Ordering::Relaxed), 1, "the redirect was followed");
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_time() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        format!("3e8\r\n{}\r\n", "x".repeat(1000)).repeat(20)
    );
    let server = Server::start(&[
        ("/large", ok(&format!("\"{}\"", "x".repeat(1000)))),
        ("/chunked", chunked),
        ("/text", ok("hello")),
        ("/missing", "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()),
    ])
    .await;
    let out = egress(&["127.0.0.0/8"], &[]);
    for path in ["/large", "/chunked"] {
        let error = out.fetch_json::<Value>(&server.url(path), 1001).await.unwrap_err();
        assert!(matches!(error, EgressError::TooLarge { limit: 1001, .. }), "{path}: {error}");
    }
    assert!(out.fetch_json::<Value>(&server.url("/large"), 1002).await.is_ok());
    assert!(matches!(
        out.fetch_json::<Value>(&server.url("/text"), 100).await,
        Err(EgressError::NotJson { .. })
    ));
    assert!(matches!(
        out.fetch_json::<Value>(&server.url("/missing"), 100).await,
        Err(EgressError::Status { status: 404, .. })
    ));

    let started = Instant::now();
    let silent = out.fetch_json::<Value>(&server.url("/never"), 100).await;
    assert!(matches!(silent, Err(EgressError::TimedOut { .. })), "{silent:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn nothing_but_http_and_no_secret_in_an_error() {
    let out = egress(&["127.0.0.0/8"], &[]);
    assert!(matches!(out.fetch_json::<Value>("file:///etc/passwd", 9).await, Err(EgressError::Scheme(_))));
    assert!(matches!(out.fetch_json::<Value>("no url", 9).await, Err(EgressError::NotUrl(_))));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error =
        out.fetch_json::<Value>(&format!("http://u:secret@{closed}/?key=secret"), 9).await.unwrap_err();
    assert!(
        matches!(error, EgressError::Unreachable { .. }) && !error.to_string().contains("secret"),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_carries_what_it_is_given() {
    let server = Server::start(&[("/", ok("body"))]).await;
    let out = egress(&["127.0.0.0/8"], &[]);
    let url = Url::parse(&server.url("/")).unwrap();
    let response = out.send(out.request(Method::POST, &url).unwrap().body("x")).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(&read_limited(response, 10).await.unwrap()[..], b"body");
}
