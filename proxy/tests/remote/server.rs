//! An HTTP server that keeps what it is sent and answers as a test says.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub verb: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub fn id(&self) -> &Value {
        &self.body["id"]
    }

    pub fn result(&self, result: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.id(), "result": result })
    }

    pub fn error(&self, code: i32, data: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.id(), "error": { "code": code, "message": "no", "data": data } })
    }

    /// Answers a tool call with a text, as JSON.
    pub fn text(&self, text: &str) -> Answer {
        Answer::json(200, self.result(json!({ "content": [{ "type": "text", "text": text }] })))
    }
}

pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    steps: Vec<Step>,
}

/// What a body does next.
pub enum Step {
    Write(String),
    /// A text that is there by then.
    Later(Arc<Mutex<String>>),
    Sleep(u64),
    Wait(Arc<Notify>),
    /// Nothing more, and no end.
    Hold,
    /// The connection breaks.
    Break,
}

impl Step {
    pub fn event(data: &Value) -> Step {
        Step::Write(format!("data: {data}\n\n"))
    }

    pub fn event_id(id: &str, data: &str) -> Step {
        Step::Write(format!("id: {id}\ndata: {data}\n\n"))
    }
}

impl Answer {
    pub fn json(status: u16, body: Value) -> Answer {
        Self::text(status, "application/json", &body.to_string())
    }

    pub fn text(status: u16, kind: &str, body: &str) -> Answer {
        let headers = vec![(CONTENT_TYPE.as_str(), kind.to_owned())];
        Answer { status, headers, steps: vec![Step::Write(body.to_owned())] }
    }

    pub fn events(steps: Vec<Step>) -> Answer {
        let headers = vec![(CONTENT_TYPE.as_str(), "text/event-stream; charset=utf-8".to_owned())];
        Answer { status: 200, headers, steps }
    }

    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), steps: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.push((name, value.to_owned()));
        self
    }
}

type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

pub struct Server {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub async fn start(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let (kept, handler): (_, Arc<Handler>) = (seen.clone(), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (kept, handler) = (kept.clone(), handler.clone());
                let service = service_fn(move |request| answer(request, kept.clone(), handler.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Server { port, connections, seen }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// The requests that are, or answer, this method; `GET` and `DELETE` for those.
    pub fn of(&self, method: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method() == method || seen.verb == method).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Handler>,
) -> Result<Response<BoxBody<Bytes, std::io::Error>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let seen = Seen {
        verb: parts.method.to_string(),
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    kept.lock().push(seen.clone());
    let answer = handler(&seen);
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    let whole = answer.steps.iter().all(|step| matches!(step, Step::Write(_)));
    let body = if whole {
        let text: String = answer
            .steps
            .iter()
            .filter_map(|step| if let Step::Write(text) = step { Some(&**text) } else { None })
            .collect();
        Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
    } else {
        let frames = stream::iter(answer.steps).then(perform).filter_map(|frame| async { frame });
        BodyExt::boxed(StreamBody::new(Box::pin(sync(frames))))
    };
    Ok(response.body(body).unwrap())
}

async fn perform(step: Step) -> Option<Result<Frame<Bytes>, std::io::Error>> {
    match step {
        Step::Write(text) => return Some(Ok(Frame::data(text.into()))),
        Step::Later(text) => return Some(Ok(Frame::data(text.lock().clone().into()))),
        Step::Sleep(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Step::Wait(notify) => notify.notified().await,
        Step::Hold => std::future::pending().await,
        Step::Break => return Some(Err(std::io::ErrorKind::ConnectionReset.into())),
    }
    None
}

/// A body has to be `Sync`; a channel makes one of any stream.
fn sync<T: Send + 'static>(
    frames: impl futures_util::Stream<Item = T> + Send + 'static,
) -> impl futures_util::Stream<Item = T> + Send + Sync {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut frames = std::pin::pin!(frames);
        loop {
            let next = tokio::select! {
                next = frames.next() => next,
                () = sender.closed() => return,
            };
            let Some(frame) = next else { return };
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    stream::poll_fn(move |cx| receiver.poll_recv(cx))
}
