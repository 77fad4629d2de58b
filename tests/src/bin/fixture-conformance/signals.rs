//! Tools that say something while they work: progress, log messages, changes; and the one that waits to
//! be cancelled.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::call::{Call, Outcome};
use crate::content::say;
use crate::listen::Change;
use crate::resources;

const PAUSE: Duration = Duration::from_millis(50);

pub fn progress(call: &Call) -> Outcome {
    call.progress(0, 100);
    call.wait(PAUSE)?;
    call.progress(50, 100);
    call.wait(PAUSE)?;
    call.progress(100, 100);
    Ok(say("all of it is done"))
}

pub fn logging(call: &Call) -> Outcome {
    call.log("info", "the tool begins");
    call.wait(PAUSE)?;
    call.log("info", "the tool works");
    call.wait(PAUSE)?;
    call.log("info", "the tool is done");
    Ok(say("three messages were logged"))
}

pub fn log_once(call: &Call) -> Outcome {
    call.log("info", "one message");
    Ok(say("one message was logged"))
}

pub fn moment(call: &Call) -> Outcome {
    call.wait(Duration::from_millis(300))?;
    Ok(say("it took a moment"))
}

pub fn wait_for_cancel(call: &Call) -> Outcome {
    call.wait(Duration::from_secs(30))?;
    Ok(say("nobody cancelled it"))
}

pub fn change_tools(call: &Call) -> Outcome {
    let was = call.server.more_tools.fetch_xor(true, Ordering::Relaxed);
    call.server.announce(&Change::Tools);
    Ok(say(if was { "one tool less" } else { "one tool more" }))
}

pub fn change_prompts(call: &Call) -> Outcome {
    let was = call.server.more_prompts.fetch_xor(true, Ordering::Relaxed);
    call.server.announce(&Change::Prompts);
    Ok(say(if was { "one prompt less" } else { "one prompt more" }))
}

pub fn touch(call: &Call) -> Outcome {
    let times = call.server.touched.fetch_add(1, Ordering::Relaxed) + 1;
    call.server.announce(&Change::Updated(resources::WATCHED.to_owned()));
    let mut result = say(&format!("touched {times} times"));
    result["structuredContent"] = json!({ "touched": times });
    Ok(result)
}
