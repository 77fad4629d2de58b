//! A subscription as a stream of HTTP: the answer of one POST that is held open.

use std::sync::Arc;

use bytes::Bytes;
use protocol::mcp::method;
use tokio_util::sync::CancellationToken;

use super::audience::Whose;
use super::line::{Events, Reply};
use super::link::Link;
use super::listen::{Honoured, Outcome, Source, honoured};
use crate::egress::Method;
use crate::message::{self, Message};
use crate::upstream::{Params, UpstreamAnswer};

pub struct Listening(pub Arc<Link>);

/// The stream that stands, and the id of its request.
pub struct Stream {
    id: u64,
    events: Box<Events>,
}

impl Source for Listening {
    type Stream = Stream;

    fn who(&self) -> &str {
        self.0.who()
    }

    fn closed(&self) -> &CancellationToken {
        &self.0.closed
    }

    fn missed(&self) {
        self.0.audience.missed();
    }

    async fn open(&self, params: &str) -> Result<(Stream, Honoured), Outcome> {
        let link = &self.0;
        let id = link.next_id();
        let body = message::request(id, method::LISTEN, Params::raw(params.as_bytes()));
        let headers = link.headers(method::LISTEN, params.as_bytes(), &[]);
        match link.line.send(Method::POST, headers, Some(body.into()), None).await {
            Ok((Reply::Events(events), _)) => {
                let mut stream = Stream { id, events };
                let honoured = self.acknowledged(&mut stream).await.map_err(|refused| {
                    refused.map_or_else(
                        || Outcome::failed(link.who(), "did not acknowledge a subscription"),
                        Outcome::Refused,
                    )
                })?;
                Ok((stream, honoured))
            }
            Ok((Reply::Explained { error, .. }, _)) => Err(Outcome::Refused(error)),
            Ok((Reply::Json(text), _)) => match link.take(&text, Some(id), Whose::Anybody, &link.closed) {
                Some(Ok(UpstreamAnswer::Error(error))) => Err(Outcome::Refused(error)),
                Some(Ok(UpstreamAnswer::Result(_)) | Err(_)) | None => {
                    Err(Outcome::failed(link.who(), "answered a subscription with something else"))
                }
            },
            Ok((Reply::Nothing, _)) => {
                Err(Outcome::failed(link.who(), "answered a subscription with nothing"))
            }
            Err(trouble) => Err(Outcome::Failed(trouble.failure.refusal)),
        }
    }

    async fn read(&self, stream: &mut Stream) -> bool {
        let mut any = false;
        while let Ok(Some(text)) = stream.events.next_message().await {
            any = true;
            if self.0.take(&text, Some(stream.id), Whose::Anybody, &self.0.closed).is_some() {
                break;
            }
        }
        any
    }
}

impl Listening {
    /// An error is the server's own, where there is one.
    async fn acknowledged(&self, stream: &mut Stream) -> Result<Honoured, Option<Bytes>> {
        loop {
            let Ok(Some(text)) = stream.events.next_message().await else { return Err(None) };
            let found = message::read(&text).into_iter().find_map(|message| match message {
                Message::Notification { method, params } if method == method::ACKNOWLEDGED => Some(params),
                _ => None,
            });
            if let Some(params) = found {
                return Ok(honoured(params));
            }
            match self.0.take(&text, Some(stream.id), Whose::Anybody, &self.0.closed) {
                Some(Ok(UpstreamAnswer::Error(error))) => return Err(Some(error)),
                Some(Ok(UpstreamAnswer::Result(_)) | Err(_)) => return Err(None),
                None => {}
            }
        }
    }
}
