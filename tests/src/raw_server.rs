//! An MCP server of the legacy era that answers with exactly the text that the request brings along, on
//! standard streams, Streamable HTTP (as JSON or as an event), HTTP with SSE and WebSocket. In the text `$ID`
//! stands for the request's id, `$TOKEN` for its progress token, `$PID` for the number of the process, `$SEEN`
//! for what it was sent besides calls: methods, and answers as they are. What it answers to other methods can
//! be told it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// How long a stream of events is held open after its answer.
const HELD: Duration = Duration::from_secs(60);

/// The text of a request's answer, for a tool's argument, a prompt's name or a resource's URI.
pub fn packed(text: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn unpacked(packed: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(packed).expect("the text is packed")
}

/// How an answer is put on its transport; each means something on one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Usual,
    /// Standard streams: without a line end.
    Bare,
    /// WebSocket: as a binary frame.
    Binary,
    /// Events: with a byte-order mark before the stream.
    Marked,
    /// None at all.
    Silent,
}

impl Manner {
    const ALL: [Manner; 5] = [Manner::Usual, Manner::Bare, Manner::Binary, Manner::Marked, Manner::Silent];

    /// The tool's argument `manner`.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// What is written for a request.
pub struct Reply {
    text: Vec<u8>,
    manner: Manner,
}

/// What it answers to methods whose requests bring no text along, `initialize` for instance.
#[derive(Default)]
pub struct Raw {
    said: HashMap<String, Vec<Vec<u8>>>,
    seen: Mutex<Vec<Value>>,
}

impl Raw {
    /// Answers the method with this text, and with the next one where a cursor says which.
    pub fn saying(mut self, method: &str, texts: &[&str]) -> Raw {
        self.said.insert(method.to_owned(), texts.iter().map(|text| text.as_bytes().to_vec()).collect());
        self
    }

    /// The arguments by which the program says the same.
    pub fn arguments(&self) -> Vec<String> {
        let pairs = self.said.iter().flat_map(|(method, texts)| [method.clone(), packed(&texts[0])]);
        pairs.collect()
    }

    /// What it writes for a request; nothing for a notification.
    pub fn reply(&self, message: &Value) -> Option<Reply> {
        match message.get("method") {
            Some(method) if method == "tools/call" => {}
            other => self.seen.lock().expect("nobody panics").push(other.unwrap_or(message).clone()),
        }
        let id = message.get("id")?;
        let params = &message["params"];
        let method = message["method"].as_str()?;
        let manner = Manner::ALL.into_iter().find(|manner| params["arguments"]["manner"] == manner.name());
        let manner = manner.unwrap_or(Manner::Usual);
        if let Some(texts) = self.said.get(method) {
            // The cursor is the number of the page.
            let page = params["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
            let text = texts.get(page).expect("the cursor was given");
            return Some(Reply { text: with(text, b"$ID", id), manner });
        }
        let text = match method {
            "tools/call" => unpacked(params["arguments"]["text"].as_str()?),
            "prompts/get" => unpacked(params["name"].as_str()?),
            "resources/read" => unpacked(params["uri"].as_str()?.strip_prefix("raw:")?),
            "completion/complete" => unpacked(params["ref"]["name"].as_str()?),
            other => usual(other, params),
        };
        let token = &params["_meta"]["progressToken"];
        let text = with(&with(&text, b"$ID", id), b"$TOKEN", token);
        let text = with(&text, b"$PID", &std::process::id().into());
        let text = with(&text, b"$SEEN", &json!(*self.seen.lock().expect("nobody panics")));
        Some(Reply { text, manner }).filter(|reply| reply.manner != Manner::Silent)
    }
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

fn usual(method: &str, params: &Value) -> Vec<u8> {
    let result = match method {
        "initialize" => json!({
            "protocolVersion": params["protocolVersion"],
            "capabilities": { "tools": {}, "prompts": {}, "resources": {}, "completions": {} },
            "serverInfo": { "name": "raw", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [{ "name": "raw", "inputSchema": { "type": "object" } }] }),
        "ping" => json!({}),
        _ => {
            let error = r#"{"code":-32601,"message":"no such method"}"#;
            return format!(r#"{{"jsonrpc":"2.0","id":$ID,"error":{error}}}"#).into_bytes();
        }
    };
    format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#).into_bytes()
}

/// Serves standard input to its end. Arguments come in pairs: a method, and the packed text of its answer.
pub fn serve_stdio(arguments: &[String]) {
    use std::io::{BufRead, Write};
    let mut raw = Raw::default();
    for pair in arguments.chunks_exact(2) {
        raw.said.insert(pair[0].clone(), vec![unpacked(&pair[1])]);
    }
    for line in std::io::stdin().lock().lines() {
        let message = serde_json::from_str(&line.expect("a line is text")).expect("a line is JSON");
        let Some(Reply { text, manner }) = raw.reply(&message) else { continue };
        let end = if manner == Manner::Bare { &b""[..] } else { b"\n" };
        let mut out = std::io::stdout().lock();
        out.write_all(&[&text, end].concat()).and_then(|()| out.flush()).expect("somebody reads");
    }
}

/// The form of an answer by HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    /// A stream that ends after its event.
    Event,
    /// A stream that goes on after its event.
    HeldOpen,
}

/// Serves HTTP on a free port; answers the address.
pub async fn serve_http(raw: Raw, form: Form) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = format!("http://{}/mcp", listener.local_addr().expect("it has an address"));
    let raw = Arc::new(raw);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http(raw.clone(), BufReader::new(stream), form));
        }
    });
    address
}

async fn http(raw: Arc<Raw>, mut stream: BufReader<TcpStream>, form: Form) -> std::io::Result<()> {
    while let Some((line, body)) = read_request(&mut stream).await? {
        let is_post = line.starts_with("POST");
        let message: Option<Value> = serde_json::from_slice(&body).ok();
        let reply = message.as_ref().and_then(|message| raw.reply(message));
        let is_request = |message: Value| message.get("id").and(message.get("method")).is_some();
        let silent = message.is_some_and(is_request) && reply.is_none();
        if silent {
            tokio::time::sleep(HELD).await;
        }
        let (status, kind, text) = match reply {
            _ if !is_post => ("405 Method Not Allowed", "text/plain", Vec::new()),
            None => ("202 Accepted", "text/plain", Vec::new()),
            Some(reply) if form == Form::Json => ("200 OK", "application/json", reply.text),
            Some(reply) => ("200 OK", "text/event-stream", event(&reply)),
        };
        let held = form == Form::HeldOpen && kind == "text/event-stream";
        let end =
            if held { "connection: close".to_owned() } else { format!("content-length: {}", text.len()) };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{end}\r\n\r\n");
        stream.get_mut().write_all(&[head.as_bytes(), &text].concat()).await?;
        if held {
            tokio::time::sleep(HELD).await;
            return Ok(());
        }
    }
    Ok(())
}

/// Each line of the text is a line of the event's data.
fn event(reply: &Reply) -> Vec<u8> {
    let mut out = if reply.manner == Manner::Marked { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
    for line in reply.text.split(|byte| *byte == b'\n') {
        out.extend_from_slice(&[b"data: ", line, b"\n"].concat());
    }
    out.push(b'\n');
    out
}

/// Serves HTTP with SSE (2024-11-05) on a free port; answers the address.
pub async fn serve_sse(raw: Raw) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = format!("http://{}/sse", listener.local_addr().expect("it has an address"));
    let (raw, streams) = (Arc::new(raw), Streams::default());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(sse(raw.clone(), BufReader::new(stream), streams.clone()));
        }
    });
    address
}

/// The open streams, whose numbers are in the paths that their messages are sent to.
type Streams = Arc<Mutex<Vec<mpsc::UnboundedSender<Vec<u8>>>>>;

async fn sse(raw: Arc<Raw>, mut stream: BufReader<TcpStream>, streams: Streams) -> std::io::Result<()> {
    while let Some((line, body)) = read_request(&mut stream).await? {
        let write = stream.get_mut();
        if let Some(rest) = line.strip_prefix("POST /message/") {
            let number = rest.split(' ').next().and_then(|number| number.parse::<usize>().ok());
            let events = streams.lock().expect("nobody panics")[number.expect("it was given")].clone();
            write.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await?;
            if let Some(reply) = serde_json::from_slice(&body).ok().and_then(|message| raw.reply(&message)) {
                drop(events.send(event(&reply)));
            }
        } else if line.starts_with("GET") {
            let (sender, mut events) = mpsc::unbounded_channel();
            let number = {
                let mut streams = streams.lock().expect("nobody panics");
                streams.push(sender);
                streams.len() - 1
            };
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close";
            let endpoint = format!("event: endpoint\ndata: /message/{number}");
            write.write_all(format!("{head}\r\n\r\n{endpoint}\n\n").as_bytes()).await?;
            while let Some(event) = events.recv().await {
                write.write_all(&event).await?;
            }
        } else {
            write.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n").await?;
        }
    }
    Ok(())
}

/// Reads the request line and the body; none at the end of the connection.
async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let (mut line, mut length, mut first) = (String::new(), 0, None);
    while stream.read_line(&mut line).await? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        first.get_or_insert_with(|| line.clone());
        line.clear();
    }
    let Some(first) = first else { return Ok(None) };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((first, body)))
}

/// Serves WebSockets on a free port; answers the address.
pub async fn serve_websocket(raw: Raw) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = format!("ws://{}/ws", listener.local_addr().expect("it has an address"));
    let raw = Arc::new(raw);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(websocket(raw.clone(), stream));
        }
    });
    address
}

async fn websocket(raw: Arc<Raw>, stream: TcpStream) -> Option<()> {
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    let speaks = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", "mcp".parse().expect("it is a value"));
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, speaks).await.ok()?;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Some(reply) = serde_json::from_str(&text).ok().and_then(|message| raw.reply(&message)) else {
            continue;
        };
        let kind = if reply.manner == Manner::Binary { Data::Binary } else { Data::Text };
        // As it is: a frame of text that is not UTF-8 too.
        let frame = Frame::message(reply.text, OpCode::Data(kind), true);
        socket.send(Message::Frame(frame)).await.ok()?;
    }
    Some(())
}
