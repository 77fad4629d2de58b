//! An MCP server of the legacy era that answers with exactly the text that the request brings along, on
//! standard streams, Streamable HTTP (as JSON or as an event) and WebSocket. In the text `$ID` stands for
//! the request's id, `$TOKEN` for its progress token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// The text of a request's answer, for a tool's argument, a prompt's name or a resource's URI.
pub fn packed(text: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// What it writes for a request; nothing for a notification.
pub fn reply(message: &Value) -> Option<Vec<u8>> {
    let id = message.get("id")?;
    let params = &message["params"];
    let packed = match message["method"].as_str()? {
        "tools/call" => params["arguments"]["text"].as_str(),
        "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str().and_then(|uri| uri.strip_prefix("raw:")),
        "completion/complete" => params["ref"]["name"].as_str(),
        other => return Some(usual(id, other, params)),
    };
    let text = URL_SAFE_NO_PAD.decode(packed?).expect("the text is packed");
    let token = &params["_meta"]["progressToken"];
    Some(with(&with(&text, b"$ID", id), b"$TOKEN", token))
}

/// The text with a value wherever the mark stands.
fn with(text: &[u8], mark: &[u8], value: &Value) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.windows(mark.len()).position(|part| part == mark) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(value.to_string().as_bytes());
        rest = &rest[at + mark.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn usual(id: &Value, method: &str, params: &Value) -> Vec<u8> {
    let result = match method {
        "initialize" => json!({
            "protocolVersion": params["protocolVersion"],
            "capabilities": { "tools": {}, "prompts": {}, "resources": {}, "completions": {} },
            "serverInfo": { "name": "raw", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [{ "name": "raw", "inputSchema": { "type": "object" } }] }),
        "ping" => json!({}),
        _ => {
            let error = json!({ "code": -32601, "message": "no such method" });
            return json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string().into_bytes();
        }
    };
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string().into_bytes()
}

/// Serves standard input to its end.
pub fn serve_stdio() {
    use std::io::{BufRead, Write};
    for line in std::io::stdin().lock().lines() {
        let message = serde_json::from_str(&line.expect("a line is text")).expect("a line is JSON");
        if let Some(reply) = reply(&message) {
            let mut out = std::io::stdout().lock();
            out.write_all(&[&reply, &b"\n"[..]].concat()).and_then(|()| out.flush()).expect("somebody reads");
        }
    }
}

/// Serves HTTP on a free port, as JSON or as an event; answers the address.
pub async fn serve_http(as_event: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = format!("http://{}/mcp", listener.local_addr().expect("it has an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http(BufReader::new(stream), as_event));
        }
    });
    address
}

async fn http(mut stream: BufReader<TcpStream>, as_event: bool) -> std::io::Result<()> {
    loop {
        let (mut line, mut length, mut is_post) = (String::new(), 0, None);
        while stream.read_line(&mut line).await? > 2 {
            is_post.get_or_insert(line.starts_with("POST"));
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let Some(is_post) = is_post else { return Ok(()) };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let reply = serde_json::from_slice(&body).ok().and_then(|message| reply(&message));
        let (status, kind, text) = match reply {
            _ if !is_post => ("405 Method Not Allowed", "text/plain", Vec::new()),
            None => ("202 Accepted", "text/plain", Vec::new()),
            Some(text) if as_event => {
                ("200 OK", "text/event-stream", [b"data: ", &text[..], b"\n\n"].concat())
            }
            Some(text) => ("200 OK", "application/json", text),
        };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", text.len());
        stream.get_mut().write_all(&[head.as_bytes(), &text].concat()).await?;
    }
}

/// Serves WebSockets on a free port; answers the address.
pub async fn serve_websocket() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = format!("ws://{}/ws", listener.local_addr().expect("it has an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(websocket(stream));
        }
    });
    address
}

async fn websocket(stream: TcpStream) -> Option<()> {
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    let speaks = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", "mcp".parse().expect("it is a value"));
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, speaks).await.ok()?;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        if let Some(reply) = serde_json::from_str(&text).ok().and_then(|message| reply(&message)) {
            // A frame of text is UTF-8, or none.
            socket.send(Message::text(String::from_utf8_lossy(&reply).into_owned())).await.ok()?;
        }
    }
    Some(())
}
