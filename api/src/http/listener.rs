//! Listening sockets: accepts connections, serves them, and shuts down gracefully.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use protocol::RequestId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::http::body::RequestBody;
use crate::http::connection::{Connection, ConnectionInfo, HEAD_WITHIN};

/// Most concurrent connections; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 10_000;

/// File descriptors that connections leave to the record, the database and the children.
const RESERVED: usize = 512;

/// Returns the most connections: as many as the limit of file descriptors allows, which is raised as far as
/// this process may (getrlimit(2)).
pub fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    MAX_CONNECTIONS.min(files.saturating_sub(RESERVED)).max(files.min(64) / 2)
}

/// Serves until the token is cancelled, then finishes requests in flight, for at most `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    stop: CancellationToken,
    grace: Duration,
) {
    let tasks = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(connections));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.header_read_timeout(HEAD_WITHIN);
    loop {
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The process is probably out of file descriptors: other connections must end first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection cannot be set to send at once");
        }
        let router = router.clone();
        let permit = Arc::new(permit);
        let held = Arc::clone(&permit);
        let service = service_fn(move |request| answer(router.clone(), request, peer, Arc::clone(&held)));
        let stream = Connection::new(stream, stop.clone());
        http.timer(stream.head_timer());
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let stop = stop.clone();
        tasks.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!("some requests were still in flight when the time to finish them was over");
    }
}

/// Place of a connection among the most. A WebSocket keeps it after its request.
pub type ConnectionPermit = Arc<OwnedSemaphorePermit>;

type Accepted = std::io::Result<(tokio::net::TcpStream, SocketAddr)>;

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (OwnedSemaphorePermit, Accepted) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    (permit, listener.accept().await)
}

async fn answer(
    mut router: Router,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    permit: ConnectionPermit,
) -> Result<axum::response::Response, Infallible> {
    let (mut head, incoming) = request.into_parts();
    if head.extensions.get::<OnUpgrade>().is_some() {
        head.extensions.insert(permit);
    }
    head.extensions.insert(ConnectionInfo { peer, request: RequestId::new() });
    if incoming.is_end_stream() {
        return router.call(hyper::Request::from_parts(head, Body::empty())).await;
    }
    let body = RequestBody::new(incoming, &head.headers);
    head.extensions.insert(body.clone());
    let mut response = router.call(hyper::Request::from_parts(head, Body::new(body.clone()))).await?;
    body.settle(&mut response).await;
    Ok(response)
}
