//! The `subscriptions/listen` of Streamable HTTP: the answer of one POST that is held open.

use std::sync::Arc;

use protocol::mcp::method;

use super::client::{Events, Reply};
use super::connection::HttpConnection;
use super::failure::Trouble;
use crate::egress::Method;
use crate::peer::Connection;
use crate::peer::listen::{Honoured, ListenError};
use crate::peer::message;
use crate::peer::router::Stream;
use crate::upstream::{Params, UpstreamAnswer};

/// The stream that stands, and the id of its request.
pub struct ListenStream {
    id: u64,
    events: Box<Events>,
}

/// Sends the request and waits until the server acknowledges it.
pub async fn open(
    connection: &Arc<HttpConnection>,
    params: &str,
) -> Result<(ListenStream, Honoured), ListenError> {
    let id = connection.next_id();
    let body = message::request(id, method::LISTEN, Params::raw(params.as_bytes()));
    let headers = connection.headers(method::LISTEN, params.as_bytes(), &[]);
    let failed = |what: &str| ListenError::failed(connection.server(), what);
    match connection.client.send(Method::POST, headers, Some(body.into()), None).await {
        Ok((Reply::Events(events), _)) => {
            let mut stream = ListenStream { id, events };
            let honoured = acknowledged(connection, &mut stream).await?;
            Ok((stream, honoured))
        }
        Ok((Reply::Explained { error, .. }, _)) => Err(ListenError::Refused(error)),
        Ok((Reply::Json(text), _)) => Err(match connection.take(&text, Some(id), Stream::OfListen(id)) {
            Some(Ok(answer)) => ListenError::of_answer(connection.server(), answer),
            Some(Err(refusal)) => ListenError::Failed(refusal),
            None => failed("answered a subscription with something else"),
        }),
        Ok((Reply::Nothing, _)) => Err(failed("answered a subscription with nothing")),
        Err(Trouble { failure, status: Some(404 | 405 | 501), .. }) => {
            Err(ListenError::NotThere(failure.refusal))
        }
        Err(trouble) => Err(ListenError::Failed(trouble.failure.refusal)),
    }
}

async fn acknowledged(
    connection: &Arc<HttpConnection>,
    stream: &mut ListenStream,
) -> Result<Honoured, ListenError> {
    let acknowledgements = connection.router.acknowledgements();
    loop {
        let answer = next(connection, stream).await?;
        if let Some((id, honoured)) = &*acknowledgements.borrow()
            && *id == stream.id
        {
            return Ok(honoured.clone());
        }
        if let Some(answer) = answer {
            return Err(ListenError::of_answer(connection.server(), answer));
        }
    }
}

/// Reads to the end.
pub async fn end(connection: &Arc<HttpConnection>, stream: &mut ListenStream) -> Result<(), ListenError> {
    loop {
        match next(connection, stream).await? {
            Some(UpstreamAnswer::Error(error)) => return Err(ListenError::Refused(error)),
            Some(UpstreamAnswer::Result(_)) => return Ok(()),
            None => {}
        }
    }
}

/// Takes the next text of the stream. Gives the answer to the request, if it is there.
async fn next(
    connection: &Arc<HttpConnection>,
    stream: &mut ListenStream,
) -> Result<Option<UpstreamAnswer>, ListenError> {
    match stream.events.next_message().await {
        Ok(Some(text)) => {
            let answer = connection.take(&text, Some(stream.id), Stream::OfListen(stream.id));
            answer.transpose().map_err(ListenError::Failed)
        }
        Ok(None) => Err(ListenError::failed(connection.server(), "ended a subscription")),
        Err(error) => Err(ListenError::Failed(connection.client.unreached(&error).failure.refusal)),
    }
}
