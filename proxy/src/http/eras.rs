//! Finds out which eras a remote server speaks, by what it answers to the first words of each. It never
//! calls a tool, and what says nothing about the server (no connection, no permission, no time, an error
//! of its own) is no verdict.

use std::time::Instant;

use protocol::Refusal;
use protocol::mcp::{Era, Eras, method};
use serde_json::json;

use super::exchange;
use super::failure::Trouble;
use super::fallback;
use super::handshake;
use super::link::{ASIDE, Link};
use super::plan::RemotePlan;
use super::upstream::not_started;
use crate::duplex;
use crate::server::RemoteLaunch;
use crate::upstream::{Params, UpstreamAnswer, UpstreamRequest};

/// The eras; none where it speaks neither. An error means that it could not be found out now. Of the plan
/// neither era nor introduction count, and nobody hears of it.
pub async fn eras(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    deadline: Instant,
) -> Result<Option<Eras>, Refusal> {
    let silent = |era| RemotePlan { era, announce: None, introduction: None, ..plan.clone() };
    let modern = modern(&silent(Era::Modern), launch, deadline).await?;
    let legacy = match legacy(&silent(Era::Legacy), launch, deadline).await {
        // A server of the modern era alone may stumble over the old handshake.
        Err(trouble) if modern && matches!(trouble.status, Some(500)) => false,
        Err(trouble) => return Err(not_started(&plan.who, trouble.failure.refusal)),
        Ok(legacy) => legacy,
    };
    Ok((modern || legacy).then_some(Eras { legacy, modern }))
}

async fn modern(plan: &RemotePlan, launch: &RemoteLaunch, deadline: Instant) -> Result<bool, Refusal> {
    let link = Link::new(plan, launch)?;
    let _end = link.closed.clone().drop_guard();
    let params = json!({ "_meta": handshake::about_us(plan) }).to_string();
    let request = UpstreamRequest::new(method::DISCOVER, Params::raw(params.as_bytes()), deadline);
    match exchange::run(&link, &request).await {
        Ok(answer) => Ok(is_modern(&answer)),
        Err(trouble) if says_no(&trouble) => Ok(false),
        Err(trouble) => Err(not_started(&plan.who, trouble.failure.refusal)),
    }
}

fn is_modern(answer: &UpstreamAnswer) -> bool {
    match answer {
        UpstreamAnswer::Result(result) => handshake::speaks_modern(result),
        UpstreamAnswer::Error(error) => handshake::is_modern_error(error),
    }
}

async fn legacy(plan: &RemotePlan, launch: &RemoteLaunch, deadline: Instant) -> Result<bool, Trouble> {
    let link = Link::new(plan, launch).map_err(|refusal| Trouble::from_refusal(refusal, false))?;
    let _end = link.closed.clone().drop_guard();
    let hello = handshake::hello(plan);
    let request = UpstreamRequest::new(method::INITIALIZE, Params::raw(hello.as_bytes()), deadline);
    let spoken = match exchange::run(&link, &request).await {
        Ok(answer) => handshake::read_hello(&plan.who, answer, 0).is_ok(),
        Err(trouble) if says_no(&trouble) => {
            let wire = fallback::open(plan, &link.line, deadline).await;
            return Ok(match wire {
                Some(wire) => {
                    let _end = wire.closed.clone().drop_guard();
                    duplex::shake(&wire, 0, deadline).await.is_ok()
                }
                None => false,
            });
        }
        Err(trouble) => return Err(trouble),
    };
    link.end_session(ASIDE.min(deadline.saturating_duration_since(Instant::now()))).await;
    Ok(spoken)
}

/// It is there and does not know what it was asked.
fn says_no(trouble: &Trouble) -> bool {
    trouble.is_a_no() || trouble.no_answer
}
