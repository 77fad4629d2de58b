//! The tasks extension: its three methods, and the tools that are tasks. Only a client that declares the
//! extension in its request gets one.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::call::{Call, Detour, Fault, Outcome};
use crate::content::say;
use crate::era::Era;
use crate::job::{self, Cancelled, End, Job, Running};
use crate::question::Question;
use crate::rounds::given;

pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

pub fn get(call: &Call) -> Outcome {
    with(call, |id, job| job.tell(id))
}

pub fn update(call: &Call) -> Outcome {
    let replies = call.params["inputResponses"].as_object().cloned().unwrap_or_default();
    with(call, |_, job| {
        job.answer(&replies);
        json!({})
    })
}

pub fn cancel(call: &Call) -> Outcome {
    with(call, |_, job| {
        job.cancel();
        json!({})
    })
}

fn with(call: &Call, act: impl FnOnce(&str, &mut Job) -> Value) -> Outcome {
    declared(call)?;
    let id = call.params["taskId"].as_str().unwrap_or_default();
    let mut jobs = call.server.jobs.lock().expect("nobody panics with the jobs");
    let job = jobs.get_mut(id).ok_or_else(|| Fault::new(-32602, format!("no such task: {id}")))?;
    let answer = act(id, job);
    call.server.jobs_changed.notify_all();
    Ok(answer)
}

fn is_declared(call: &Call) -> bool {
    call.era == Era::Modern && call.capabilities["extensions"][EXTENSION].is_object()
}

fn declared(call: &Call) -> Result<(), Detour> {
    match (is_declared(call), call.era) {
        (true, _) => Ok(()),
        (false, Era::Modern) => Err(Fault::missing(json!({ "extensions": { EXTENSION: {} } })).into()),
        (false, Era::Legacy) => Err(Detour::ToolError("this tool needs the tasks extension".to_owned())),
    }
}

/// A tool that is nothing but a task.
fn task(call: &Call, work: impl FnOnce(&Running) -> Result<End, Cancelled> + Send + 'static) -> Outcome {
    declared(call)?;
    Ok(job::start(&call.server, work))
}

pub fn greet(call: &Call) -> Outcome {
    Ok(say(&format!("Hello, {}!", call.text_argument("name", "nobody"))))
}

pub fn seconds() -> Value {
    json!({
        "type": "object",
        "properties": { "seconds": { "type": "number" }, "label": { "type": "string" } },
        "required": ["seconds"],
    })
}

/// At once where it takes no time or the client has no tasks.
pub fn slow_compute(call: &Call) -> Outcome {
    let time =
        Duration::from_secs_f64(call.argument("seconds").as_f64().unwrap_or_default().clamp(0.0, 600.0));
    let done = say(&format!("computed {}", call.text_argument("label", "something")));
    if time.is_zero() || !is_declared(call) {
        call.wait(time)?;
        return Ok(done);
    }
    task(call, move |running| {
        running.sleep(time)?;
        Ok(Ok(done))
    })
}

pub fn failing(call: &Call) -> Outcome {
    task(call, |running| {
        running.sleep(Duration::from_millis(300))?;
        let mut result = say("this job fails on purpose");
        result["isError"] = json!(true);
        Ok(Ok(result))
    })
}

pub fn broken(call: &Call) -> Outcome {
    task(call, |running| {
        running.sleep(Duration::from_millis(100))?;
        Ok(Err(json!({ "code": -32603, "message": "this job breaks on purpose" })))
    })
}

pub fn confirm(call: &Call) -> Outcome {
    let file = call.text_argument("filename", "nothing");
    let question = Question::text("confirm", &format!("May {file} go?"), "confirm");
    task(call, move |running| {
        let replies = running.ask(asked([("confirm", question)]))?;
        Ok(Ok(say(&format!("{file}: the user says {}", replies["confirm"]["action"]))))
    })
}

pub fn two_inputs(call: &Call) -> Outcome {
    task(call, |running| {
        let first = Question::text("first", "The first word?", "name");
        let second = Question::text("second", "The second word?", "name");
        let replies = running.ask(asked([("first", first), ("second", second)]))?;
        Ok(Ok(say(&format!("{} {}", given(&replies["first"], "name"), given(&replies["second"], "name")))))
    })
}

fn asked<const N: usize>(questions: [(&str, Question); N]) -> Map<String, Value> {
    questions.into_iter().map(|(key, question)| (key.to_owned(), question.as_request())).collect()
}

/// Asks in rounds first; only then there is a task.
pub fn ask_first(call: &Call) -> Outcome {
    declared(call)?;
    let replies = call.ask(&[Question::text("user_name", "What is your name?", "name")], None)?;
    let name = given(&replies[0], "name");
    task(call, move |running| {
        running.sleep(Duration::from_millis(100))?;
        Ok(Ok(say(&format!("the task of {name} is done"))))
    })
}
