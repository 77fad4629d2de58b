//! Era probe over WebSocket, with one connection per era: a server may bind a connection to the era of its
//! first message.

use std::time::{Duration, Instant};

use protocol::mcp::{Era, Eras};
use protocol::{Code, Refusal};

use crate::peer::handshake;
use crate::server::RemoteLaunch;
use crate::transport::http::{RemotePlan, not_started};

/// Time for an answer to a first request that the server may not know.
const SILENT: Duration = Duration::from_secs(10);

/// Returns the eras; `None` if the server speaks neither. Errors, silence and a closed connection count as
/// answers.
///
/// # Errors
/// The reason why the probe had no outcome.
pub async fn eras(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    deadline: Instant,
) -> Result<Option<Eras>, Refusal> {
    let server = &plan.peer.server;
    let speaks = async |era, until| -> Result<bool, Refusal> {
        let opened = super::open(&plan.asking(era), launch, deadline).await;
        let connection = opened.map_err(|refusal| not_started(server, refusal))?;
        let _end = connection.state.closed.clone().drop_guard();
        let answer = handshake::ask(&connection, era, until).await;
        Ok(answer.and_then(|answer| handshake::verdict(era, server, answer)).is_ok())
    };
    let modern = speaks(Era::Modern, deadline.min(Instant::now() + SILENT)).await?;
    let legacy = speaks(Era::Legacy, deadline).await?;
    if !modern && !legacy && Instant::now() >= deadline {
        let reason = format!("`{server}` did not answer in time");
        return Err(Refusal::new(Code::UpstreamUnavailable, reason));
    }
    Ok((modern || legacy).then_some(Eras { legacy, modern }))
}
