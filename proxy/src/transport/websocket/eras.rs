//! Discovery of the eras that a server behind a WebSocket speaks, with a connection for each question: a
//! server may bind a connection to the era of its first message.

use std::time::{Duration, Instant};

use protocol::mcp::{Era, Eras};
use protocol::{Code, Refusal};

use crate::peer::handshake;
use crate::server::RemoteLaunch;
use crate::transport::http::{RemotePlan, not_started};

/// How long a server may be silent after a first request that it may not know.
const SILENT: Duration = Duration::from_secs(10);

/// Returns the eras; none where the server speaks neither. An answer, an error, silence or the end of the
/// connection: all of them say something here.
///
/// # Errors
/// The reason why it could not be found out now.
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
