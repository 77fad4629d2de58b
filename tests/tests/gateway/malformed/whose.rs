//! Whom an unreadable answer is for, what is told of it besides, and handshakes that cannot be read.

use std::time::{Duration, Instant};

use tests::raw_server::{Manner, Raw, packed};
use tests::{Backend, Code, McpClient, Value, json};

use super::rows::{CALL, Way, fine, not_utf8};
use super::{AT_ONCE, Answers, fault_of_envelope, gateway, registration};

/// How long a start may take that fails for its handshake, with the question for the era before it.
const START: Duration = Duration::from_secs(5);

pub async fn violations_are_logged(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    for (way, slug) in [(Way::Stdio, "lines"), (Way::Json, "body"), (Way::WebSocket, "frames")] {
        let registered =
            operator.post("/v1/mcp/servers", registration(slug, way, Raw::default()).await).await;
        let id = registered.json_of(201)["id"].as_str().expect("it has an id").to_owned();
        for (sent, noted) in [
            (r#"{"jsonrpc":"2.0","id":$ID,"error":"marker-error"}"#, "marker-error"),
            (r#"{"jsonrpc":"2.0","id":$ID,"result":"marker-result"}"#, "marker-result"),
            (r#"{"jsonrpc":"2.0","id":$ID,"result":{"x": NaN},"m":"marker-nan"}"#, "marker-nan"),
        ] {
            let arguments = json!({ "text": packed(sent.as_bytes()) });
            operator.call(&format!("{slug}__raw"), arguments).await.status(200);
            let logs = operator.get(&format!("/v1/mcp/servers/{id}/logs")).await;
            logs.must(logs.json_of(200)["items"].to_string().contains(noted), "what it sent is noted");
        }
    }
}

pub async fn anothers_answer_is_not_shown(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    for (way, slug) in [(Way::Stdio, "lines"), (Way::WebSocket, "frames")] {
        operator.post("/v1/mcp/servers", registration(slug, way, Raw::default()).await).await.status(201);
        let client = McpClient::modern(&operator, &format!("/mcp/s/{slug}"));
        let nameless =
            r#"{"jsonrpc":"2.0","id":null,"result":{"content":[{"type":"text","text":"secret"}]}}"#;
        let call = |manner: Manner| json!({ "name": "raw", "arguments": { "text": packed(nameless.as_bytes()), "manner": manner.name() } });
        let shown = client.answer_to(CALL, call(Manner::Usual)).await.answer;
        assert!(shown["error"]["data"]["original"].to_string().contains("secret"), "{shown}");
        // From here on an answer to somebody who went away may still come.
        let body = json!({ "server": slug, "tool": "raw", "timeoutMs": 200, "arguments": call(Manner::Silent)["arguments"] });
        let gone = operator.post("/v1/mcp/execute", body).await;
        gone.must(gone.json_of(200)["outcome"] == "timed_out", "nobody answered");
        let hidden = client.answer_to(CALL, call(Manner::Usual)).await;
        assert_eq!(hidden.answer["error"]["data"]["code"], "unreadable_answer", "{}", hidden.answer);
        assert!(!hidden.answer.to_string().contains("secret"), "{}", hidden.answer);
        assert!(hidden.took < AT_ONCE, "it took {:?}", hidden.took);
    }
}

/// `mcp.execute` shows the whole result of a tool that failed without a text.
pub async fn a_failure_without_a_text_is_shown(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let registered = registration("lines", Way::Stdio, Raw::default()).await;
    operator.post("/v1/mcp/servers", registered).await.status(201);
    let failed = async |result: Value| {
        let line = format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#);
        let params = json!({ "text": packed(line.as_bytes()) });
        let call = json!({ "service": "lines", "operation": "raw", "params": params });
        operator.rpc("mcp.execute", call).await.refused(&[Code::ToolFailed])["data"].clone()
    };
    let image = json!({ "type": "image", "data": "AA==", "mimeType": "image/png" });
    for result in [
        json!({ "content": [image], "isError": true }),
        json!({ "content": [], "structuredContent": { "reason": "full" }, "isError": true }),
    ] {
        assert_eq!(failed(result.clone()).await["result"], result);
    }
    let told =
        failed(json!({ "content": [{ "type": "text", "text": "the disk is full" }], "isError": true })).await;
    assert_eq!((&told["reason"], &told["result"]), (&json!("the disk is full"), &Value::Null));
}

/// A frame of text that is no text ends the connection (RFC 6455, section 8.1), and the next one is begun.
pub async fn a_frame_that_is_no_text(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let registered = registration("frames", Way::WebSocket, Raw::default()).await;
    operator.post("/v1/mcp/servers", registered).await.status(201);
    let client = McpClient::modern(&operator, "/mcp/s/frames");
    let params = json!({ "name": "raw", "arguments": { "text": packed(&not_utf8()) } });
    let broken = client.answer_to(CALL, params).await;
    assert_eq!(fault_of_envelope(&broken.answer), None, "{}", broken.answer);
    assert_eq!(broken.answer["error"]["data"]["code"], "upstream_failed", "{}", broken.answer);
    assert!(broken.took < AT_ONCE, "it took {:?}", broken.took);
    let next = client.answer_to(CALL, fine().params()).await.answer;
    assert_eq!(next["result"]["content"][0]["text"], "a", "{next}");
}

pub async fn a_handshake_that_cannot_be_read(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let ways = [(Way::Stdio, "a"), (Way::Json, "b"), (Way::HeldOpen, "c"), (Way::WebSocket, "d")];
    for (number, hello) in [
        r#"{"jsonrpc":"2.0","id":$ID,"error":"marker"}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":"marker"}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":null,"m":"marker"}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"protocolVersion":5,"m":"marker"}}"#,
        r#"{"jsonrpc": "2.0", "id": $ID, "result": {"x": NaN, "m": "marker"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{"m":"marker"}}"#,
    ]
    .into_iter()
    .enumerate()
    {
        for (way, letter) in ways {
            let slug = format!("{letter}{number}");
            let raw = Raw::default().saying("initialize", &[hello]);
            operator.post("/v1/mcp/servers", registration(&slug, way, raw).await).await.status(201);
            let begun = Instant::now();
            let arguments = json!({ "text": "" });
            let answer =
                operator.rpc(CALL, json!({ "name": format!("{slug}__raw"), "arguments": arguments })).await;
            let took = begun.elapsed();
            let what = format!("{way:?}: {hello}: {}", answer.text());
            assert_eq!(fault_of_envelope(&answer.json()), None, "{what}");
            assert_eq!(answer.json()["error"]["code"], 50300, "{what}");
            assert!(answer.json()["error"]["data"].get("original").is_some(), "{what}");
            assert!(took < START, "it took {took:?}: {what}");
        }
    }
}
