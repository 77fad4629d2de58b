//! Discovery of the eras that a remote server speaks, by its answers to the first request of each. A tool is
//! never called, and what says nothing about the server (no connection, no permission, no time, an error of
//! its own) is no verdict.

use std::time::Instant;

use protocol::Refusal;
use protocol::mcp::{Era, Eras};

use super::connection::{ASIDE, HttpConnection};
use super::failure::Trouble;
use super::plan::RemotePlan;
use super::upstream::not_started;
use crate::peer::handshake;
use crate::server::RemoteLaunch;
use crate::transport::sse_legacy;

/// Returns the eras; none where the server speaks neither. Of the plan neither era nor client count, and
/// nobody hears of it.
///
/// # Errors
/// The reason why it could not be found out now.
pub async fn eras(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    deadline: Instant,
) -> Result<Option<Eras>, Refusal> {
    let failed = |trouble: Trouble| not_started(&plan.peer.server, trouble.failure.refusal);
    let modern = speaks(plan, launch, Era::Modern, deadline).await.map_err(failed)?;
    let legacy = match speaks(plan, launch, Era::Legacy, deadline).await {
        // A server of the modern era alone may stumble over the old handshake.
        Err(trouble) if modern && trouble.status == Some(500) => false,
        other => other.map_err(failed)?,
    };
    Ok((modern || legacy).then_some(Eras { legacy, modern }))
}

async fn speaks(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    era: Era,
    deadline: Instant,
) -> Result<bool, Trouble> {
    let plan = plan.asking(era);
    let server = &plan.peer.server;
    let connection =
        HttpConnection::new(&plan, launch).map_err(|refusal| Trouble::from_refusal(refusal, false))?;
    let _end = connection.state.closed.clone().drop_guard();
    match handshake::ask(&connection, era, deadline).await {
        Ok(answer) => {
            connection.end_session(ASIDE.min(deadline.saturating_duration_since(Instant::now()))).await;
            Ok(handshake::verdict(era, server, answer).is_ok())
        }
        // It is there and does not know what it was asked.
        Err(trouble) if trouble.is_a_no() || trouble.no_answer => {
            if era == Era::Modern {
                return Ok(false);
            }
            let Some(older) = sse_legacy::open(&plan, &connection.client, deadline).await else {
                return Ok(false);
            };
            let _end = older.state.closed.clone().drop_guard();
            Ok(handshake::shake(&older, 0, deadline).await.is_ok())
        }
        Err(trouble) => Err(trouble),
    }
}
