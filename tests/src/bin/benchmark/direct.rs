//! The role `direct`: the echo server over HTTP, which is the ceiling: no gateway can be faster than
//! none. Also the plain HTTP server that the bridge stands behind.

use std::convert::Infallible;
use std::io::Write;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::mcp;

pub async fn run() -> std::io::Result<()> {
    serve(|message| async move {
        let mut out = Vec::with_capacity(message.len() + 128);
        mcp::answer(&message, mcp::TOOLS, &mut out);
        out
    })
    .await
}

/// Answers bodies with bodies on a free port of loopback, whose address it prints; an empty answer is
/// a 202.
pub async fn serve<F, A>(answer: F) -> std::io::Result<()>
where
    F: Fn(Bytes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Vec<u8>> + Send,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| respond(request, &answer));
            // The agent hangs up when it is done; nobody is to be told.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond<F, A>(request: Request<Incoming>, answer: &F) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn(Bytes) -> A,
    A: Future<Output = Vec<u8>>,
{
    let mut response = Response::new(Full::default());
    match request.into_body().collect().await {
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
        Ok(body) => {
            let out = answer(body.to_bytes()).await;
            if out.is_empty() {
                *response.status_mut() = StatusCode::ACCEPTED;
            } else {
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                *response.body_mut() = Full::new(Bytes::from(out));
            }
        }
    }
    Ok(response)
}
