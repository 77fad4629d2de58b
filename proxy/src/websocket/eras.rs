//! Finds out which eras a server behind a WebSocket speaks, with a connection for each question: a server
//! may bind a connection to the era of its first message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::mcp::{Era, Eras, method};
use protocol::{Code, Refusal};
use serde_json::json;

use crate::duplex::Wire;
use crate::http::handshake::{about_us, hello, is_modern_error, read_hello, speaks_modern};
use crate::http::{RemotePlan, not_started};
use crate::server::RemoteLaunch;
use crate::upstream::{Params, UpstreamAnswer, UpstreamRequest};

/// How long a server may be silent after first words that it may not know.
const SILENT: Duration = Duration::from_secs(10);

/// The eras; none where it speaks neither. An error means that it could not be found out now.
pub async fn eras(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    deadline: Instant,
) -> Result<Option<Eras>, Refusal> {
    let speaks = async |era| -> Result<bool, Refusal> {
        let plan = RemotePlan { era, announce: None, introduction: None, ..plan.clone() };
        let wire =
            super::open(&plan, launch, deadline).await.map_err(|refusal| not_started(&plan.who, refusal))?;
        let _end = wire.closed.clone().drop_guard();
        Ok(first_words(&wire, deadline).await)
    };
    let modern = speaks(Era::Modern).await?;
    let legacy = speaks(Era::Legacy).await?;
    if !modern && !legacy && Instant::now() >= deadline {
        let reason = format!("`{}` did not answer in time", plan.who);
        return Err(Refusal::new(Code::UpstreamUnavailable, reason));
    }
    Ok((modern || legacy).then_some(Eras { legacy, modern }))
}

/// An answer, an error, silence or the end of the connection: all of them say something here.
async fn first_words(wire: &Arc<Wire>, deadline: Instant) -> bool {
    let (asked, params) = match wire.plan.era {
        Era::Modern => (method::DISCOVER, json!({ "_meta": about_us(&wire.plan) }).to_string()),
        Era::Legacy => (method::INITIALIZE, hello(&wire.plan)),
    };
    let patience = match wire.plan.era {
        Era::Modern => deadline.min(Instant::now() + SILENT),
        Era::Legacy => deadline,
    };
    let request = UpstreamRequest::new(asked, Params::raw(params.as_bytes()), patience);
    match (wire.plan.era, wire.request(&request).await) {
        (Era::Modern, Ok(UpstreamAnswer::Result(result))) => speaks_modern(&result),
        (Era::Modern, Ok(UpstreamAnswer::Error(error))) => is_modern_error(&error),
        (Era::Legacy, Ok(answer)) => read_hello(wire.who(), answer, 0).is_ok(),
        (_, Err(_)) => false,
    }
}
