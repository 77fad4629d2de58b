//! One keep-alive connection to a server on loopback, for agents under load and for the administration.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

const KEY: HeaderName = HeaderName::from_static("x-mcp-key");

/// A connection, opened at the first request and again after a failure.
pub struct Connection {
    address: SocketAddr,
    headers: HeaderMap,
    sender: Option<SendRequest<Full<Bytes>>>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Connection {
    pub fn to(address: SocketAddr, key: Option<&str>) -> Connection {
        let mut headers = HeaderMap::new();
        let mut put = |name, value: &str| {
            headers.insert(name, HeaderValue::from_str(value).expect("addresses and keys are plain"))
        };
        put(HOST, &address.to_string());
        put(CONTENT_TYPE, "application/json");
        put(ACCEPT, "application/json, text/event-stream");
        if let Some(key) = key {
            put(KEY, key);
        }
        Connection { address, headers, sender: None }
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn send(
        &mut self,
        method: Method,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.sender = None;
                Err(format!("{path}: {error}"))
            }
            Err(_) => {
                self.sender = None;
                Err(format!("{path}: no answer within {PATIENCE:?}"))
            }
        }
    }

    /// Sends a body to REST; anything but success is an error that shows the answer.
    pub async fn make(&mut self, path: &'static str, body: Value) -> Result<Value, String> {
        let answer = self.send(Method::POST, path, body.to_string().into_bytes()).await?;
        if !answer.status.is_success() {
            return Err(format!("{path}: {} {}", answer.status, shown(&answer.body)));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| format!("{path}: {error}: {}", shown(&answer.body)))
    }

    /// Opens the connection, so that the first call does not pay for it.
    pub async fn open(&mut self) -> Result<(), String> {
        let opened = self.connected().await.map(|_| ());
        opened.map_err(|error| format!("{}: {error}", self.address))
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<Answer, BoxError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::from_static(path);
        *request.headers_mut() = self.headers.clone();
        let sender = self.connected().await?;
        sender.ready().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, BoxError> {
        let open = self.sender.take().filter(|sender| !sender.is_closed());
        let sender = match open {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        Ok(self.sender.insert(sender))
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The beginning of a body, for messages.
pub fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned()
}
