//! Refusals that come before the request's body was read: the client reads each of them, with the
//! request's id, and its connection is kept or its end announced.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tests::{Backend, Case, Code, PlainAnswer, PlainHttp, Sending, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Once: every_early_refusal_arrives, no_answer_is_lost, half_a_head_is_not_waited_for;
];

const UNKNOWN_KEY: (&str, &str) = ("x-mcp-key", "mcp_live_0000000000000000000000000000000000000000000");

/// A request that is refused before its body is read.
struct Row {
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    code: Code,
}

fn rows(used_up: &str, reader: &str) -> Vec<Row> {
    let row = |path, headers: &[(&'static str, &str)], code| Row {
        path,
        headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        code,
    };
    vec![
        row("/mcp", &[UNKNOWN_KEY], Code::InvalidCredential),
        row("/mcp/s/calculator", &[UNKNOWN_KEY], Code::InvalidCredential),
        row("/mcp/rpc", &[UNKNOWN_KEY], Code::InvalidCredential),
        row("/v1/mcp/execute", &[UNKNOWN_KEY], Code::InvalidCredential),
        row("/v1/mcp/servers", &[UNKNOWN_KEY], Code::InvalidCredential),
        row("/mcp", &[("x-mcp-key", reader)], Code::MissingScope),
        row("/mcp/rpc", &[("x-mcp-key", reader)], Code::MissingScope),
        row("/mcp/rpc", &[("x-mcp-key", used_up)], Code::RateLimited),
        row("/v1/mcp/execute", &[("x-mcp-key", used_up)], Code::RateLimited),
        row("/mcp", &[("host", "evil.example")], Code::HostNotAllowed),
        row("/mcp/rpc", &[("origin", "https://evil.example")], Code::OriginNotAllowed),
        row("/v1/mcp/servers", &[("host", "evil.example")], Code::HostNotAllowed),
        row("/mcp", &[("accept", "text/html")], Code::NotAcceptable),
        row("/mcp/s/No-Slug", &[], Code::UnknownServer),
        row("/nothing/here", &[], Code::NotFound),
    ]
}

fn call(id: &Value, bytes: usize) -> Vec<u8> {
    let arguments = json!({ "a": 1, "b": 2, "pad": "x".repeat(bytes) });
    let params = json!({ "name": "calculator__add", "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string().into_bytes()
}

async fn every_early_refusal_arrives(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 1).env("RATE_LIMIT_WINDOW_MS", 600_000);
    let app = TestApp::start(backend, settings).await;
    let loopback = app.anonymous_from_loopback();
    // Each agent may make one request by REST in ten minutes.
    let key = async |agent: &str, body: Value| {
        let maker = loopback.header("x-agent-id", agent);
        maker.post("/v1/keys", body).await.json_of(201)["secret"].as_str().expect("a secret").to_owned()
    };
    let used_up = key("one", json!({ "name": "used up", "role": "agent" })).await;
    let reader = key("two", json!({ "name": "reads", "scopes": ["servers:read"] })).await;
    app.with_key(&used_up).rpc("tools/list", json!({})).await.status(200);
    let url = loopback.url("");
    let rows = rows(&used_up, &reader);
    tokio::task::spawn_blocking(move || rows.iter().for_each(|row| row.is_answered(&url))).await.unwrap();
}

impl Row {
    /// Sends it in every way; small bodies keep their connection.
    fn is_answered(&self, url: &str) {
        for sending in [Sending::Together, Sending::Apart, Sending::Chunked, Sending::Expecting] {
            let mut client = PlainHttp::new(url);
            for id in [json!(7), json!("seven"), json!(0)] {
                let answer = self.post(&mut client, &call(&id, 0), sending);
                // Who is known is asked for a small body; a limit counts what is in it.
                let read = sending != Sending::Expecting || self.code == Code::RateLimited;
                self.is_right(&answer, if read { &id } else { &Value::Null }, sending);
                assert_eq!(answer.closes(), !read, "{} {sending:?}: {answer:?}", self.path);
            }
            let kept = sending != Sending::Expecting || self.code == Code::RateLimited;
            assert_eq!(client.connections, if kept { 1 } else { 3 }, "{} {sending:?}", self.path);
            let large = self.post(&mut client, &call(&json!(7), 3 << 20), sending);
            self.is_right(&large, &Value::Null, sending);
            assert!(large.closes(), "{} {sending:?}: the end is announced: {large:?}", self.path);
        }
    }

    fn post(&self, client: &mut PlainHttp, body: &[u8], sending: Sending) -> PlainAnswer {
        let mut headers = vec![("accept", "application/json, text/event-stream")];
        headers.retain(|(name, _)| !self.headers.iter().any(|(own, _)| own == name));
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        match client.post(self.path, &headers, body, sending) {
            Ok(answer) => answer,
            Err(error) => panic!("{} {:?} {sending:?}: no answer: {error}", self.path, self.code),
        }
    }

    fn is_right(&self, answer: &PlainAnswer, id: &Value, sending: Sending) {
        let what = format!("{} {sending:?}: {answer:?}", self.path);
        assert_eq!(answer.status, self.code.http(), "{what}");
        let body = answer.json();
        if self.path.starts_with("/mcp") {
            assert_eq!(body["error"]["data"]["code"], self.code.as_str(), "{what}");
            assert_eq!(body.get("id"), Some(id), "{what}");
        } else {
            assert_eq!(body["code"], self.code.as_str(), "{what}");
        }
        assert_eq!(answer.header("retry-after").is_some(), self.code == Code::RateLimited, "{what}");
    }
}

/// An ordinary client reads 80 answers of each kind: 401 and 429, to small bodies and to 3 MB.
async fn no_answer_is_lost(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 1).env("RATE_LIMIT_WINDOW_MS", 600_000);
    let app = TestApp::start(backend, settings).await;
    let local = app.anonymous_from_loopback();
    local.rpc("tools/list", json!({})).await.status(200);
    let url = local.url("");
    let lost = tokio::task::spawn_blocking(move || {
        let mut lost = Vec::new();
        for (headers, status) in [(&[UNKNOWN_KEY][..], 401), (&[][..], 429)] {
            for bytes in [0, 3 << 20] {
                let (mut client, body) = (PlainHttp::new(&url), call(&json!(1), bytes));
                for _ in 0..80 {
                    match client.post("/mcp/rpc", headers, &body, Sending::Apart) {
                        Ok(answer) => assert_eq!(answer.status, status, "{answer:?}"),
                        Err(error) => lost.push(format!("{status} to {bytes} bytes: {error}")),
                    }
                }
            }
        }
        lost
    });
    let lost = lost.await.unwrap();
    assert!(lost.is_empty(), "{} of 320 answers were lost: {lost:#?}", lost.len());
}

async fn half_a_head_is_not_waited_for(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let host = app.anonymous_from_loopback().url("").trim_start_matches("http://").to_owned();
    let whole = format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let half = &whole[..20];
    let ended = |first: String, rest: Option<String>| {
        let host = host.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(host).expect("the gateway takes connections");
            stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
            stream.write_all(first.as_bytes()).unwrap();
            let mut byte = [0; 4096];
            if let Some(rest) = rest {
                let read = stream.read(&mut byte).expect("the first request is answered");
                assert!(read > 0, "the first request is answered");
                std::thread::sleep(Duration::from_secs(17));
                stream.write_all(rest.as_bytes()).expect("a kept connection without a request stays open");
            }
            let begun = Instant::now();
            while stream.read(&mut byte).expect("the connection ends within 40 s") > 0 {}
            begun.elapsed()
        })
    };
    let never = ended(String::new(), None);
    let new = ended(half.to_owned(), None);
    let kept = ended(whole.clone(), Some(half.to_owned()));
    let last = format!("GET /health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let alive = ended(whole.clone(), Some(last));
    for (name, ended) in [("nothing sent", never), ("half a head", new), ("half a second head", kept)] {
        let took = ended.await.unwrap();
        let bounds = Duration::from_secs(14)..Duration::from_secs(20);
        assert!(bounds.contains(&took), "{name}: the connection ended after {took:?}");
    }
    assert!(alive.await.unwrap() < Duration::from_secs(5), "a whole second request is answered");
}
