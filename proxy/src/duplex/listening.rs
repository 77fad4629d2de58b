//! A subscription on a line for everything: a request whose answer comes when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::mcp::method;
use tokio_util::sync::CancellationToken;

use super::wire::Wire;
use crate::http::listen::{Honoured, Outcome, Source};
use crate::upstream::{Failure, Params, UpstreamAnswer, UpstreamRequest};

/// What stands for no deadline.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub struct Listening(pub Arc<Wire>);

type Stream = Pin<Box<dyn Future<Output = Result<UpstreamAnswer, Failure>> + Send>>;

impl Source for Listening {
    /// The rest of the request. Dropped, it is cancelled.
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
        let id = self.0.next_id();
        let acknowledged = self.0.subscribing(id);
        let (wire, params) = (self.0.clone(), params.to_owned());
        let mut stream: Stream = Box::pin(async move {
            let params = Params::raw(params.as_bytes());
            let request = UpstreamRequest::new(method::LISTEN, params, Instant::now() + EVER);
            wire.request_as(id, &request).await
        });
        tokio::select! {
            biased;
            Ok(honoured) = acknowledged => Ok((stream, honoured)),
            answer = &mut stream => Err(match answer {
                Ok(UpstreamAnswer::Error(error)) => Outcome::Refused(error),
                Ok(UpstreamAnswer::Result(_)) => Outcome::failed(self.who(), "did not acknowledge a subscription"),
                Err(failure) => Outcome::Failed(failure.refusal),
            }),
        }
    }

    async fn read(&self, stream: &mut Stream) -> bool {
        stream.await.is_ok()
    }
}
