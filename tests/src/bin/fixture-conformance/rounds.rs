//! Tools that need more than one round with the client, as the modern era's scenarios have them; a legacy
//! client is asked in the middle of its call instead.

use serde_json::{Value, json};

use crate::call::{Call, Outcome};
use crate::content::say;
use crate::question::Question;

pub fn elicitation(call: &Call) -> Outcome {
    let replies = call.ask(&[Question::text("user_name", "What is your name?", "name")], None)?;
    Ok(say(&format!("Hello, {}!", given(&replies[0], "name"))))
}

pub fn sampling(call: &Call) -> Outcome {
    let question = Question::sample("capital_question", "What is the capital of France?", 100);
    let replies = call.ask(&[question], None)?;
    Ok(say(replies[0]["content"]["text"].as_str().unwrap_or("the model said nothing")))
}

/// Keeps something between the rounds, which has to come back as it was.
pub fn confirmed(call: &Call) -> Outcome {
    let schema = json!({
        "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"],
    });
    let question = Question::form("confirm", "Is that all right?", schema);
    let replies = call.ask(&[question], Some(json!({ "kept": "between the rounds" })))?;
    Ok(say(&format!("state-ok, the user says {}, kept was {}", replies[0]["content"]["ok"], call.kept()?)))
}

pub fn three(call: &Call) -> Outcome {
    let questions = [
        Question::text("user_name", "What is your name?", "name"),
        Question::sample("greeting", "Invent a greeting", 50),
        Question::roots("client_roots"),
    ];
    let replies = call.ask(&questions, Some(json!({ "asked": 3 })))?;
    let greeting = replies[1]["content"]["text"].as_str().unwrap_or_default();
    let roots = replies[2]["roots"].as_array().map_or(0, Vec::len);
    Ok(say(&format!("{greeting}, {} with {roots} roots", given(&replies[0], "name"))))
}

/// The second question is asked when the first is answered, and the answer is kept for it.
pub fn two_rounds(call: &Call) -> Outcome {
    let name = match call.kept()?["name"].as_str() {
        Some(name) => name.to_owned(),
        None => {
            let first = Question::text("step1", "What is your name?", "name");
            given(&call.ask(&[first], Some(json!({ "round": 1 })))?[0], "name")
        }
    };
    let second = Question::text("step2", &format!("{name}, which colour do you like?"), "color");
    let replies = call.ask(&[second], Some(json!({ "round": 2, "name": name })))?;
    Ok(say(&format!("{name} likes {}", given(&replies[0], "color"))))
}

/// Asks only what this client can answer.
pub fn possible(call: &Call) -> Outcome {
    let all = [
        Question::text("user_name", "What is your name?", "name"),
        Question::sample("greeting", "Invent a greeting", 50),
    ];
    let possible: Vec<Question> =
        all.into_iter().filter(|question| question.is_declared(&call.capabilities)).collect();
    let replies = call.ask(&possible, None)?;
    Ok(say(&format!("{} of 2 questions were asked", replies.len())))
}

/// A text of an accepted form.
pub fn given(reply: &Value, field: &str) -> String {
    reply["content"][field].as_str().unwrap_or("nobody").to_owned()
}
