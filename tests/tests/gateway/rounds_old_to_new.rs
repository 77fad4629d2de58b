//! A server of 2026-07-28 answers with questions; a client of an earlier revision gets each of them as a
//! request on the stream of its call, answers by POST, and has its result at the end.

use tests::mcp_client::{LEGACY, everything};
use tests::{Backend, Case, Exchange, McpClient, Value, cases, json};

use crate::pair::{DOORS, Door, Pair, replied, text_of};

pub const CASES: &[Case] = cases![
    Every: questions_come_as_requests;
    Once: several_rounds, questions_that_may_not_be_asked, refusals_and_errors, answers_of_others,
        two_calls_ask_at_once, leaving_does_not_cancel_a_question;
];

async fn start(backend: Backend) -> Pair {
    Pair::start(backend, &["--era", "modern"]).await
}

/// Answers all that is asked on this stream; the result, and the questions.
pub async fn answered(client: &McpClient, mut call: Exchange) -> (Value, Vec<Value>) {
    let mut asked = Vec::new();
    loop {
        let message = call.message().await;
        if message["method"].is_null() {
            assert!(message["result"].is_object(), "{call:?}");
            return (message["result"].clone(), asked);
        }
        if !message["id"].is_null() {
            client.reply(&message, replied(&message)).await;
            asked.push(message);
        }
    }
}

async fn questions_come_as_requests(backend: Backend) {
    let pair = start(backend).await;
    for (door, version) in
        [(Door::One, LEGACY[3]), (Door::All, LEGACY[2]), (Door::One, LEGACY[1]), (Door::One, LEGACY[0])]
    {
        let client = pair.legacy(door, version, everything()).await;
        for (tool, method, says) in [
            ("test_elicitation", "elicitation/create", "the user says \"accept\""),
            ("test_elicitation_url", "elicitation/create", "the user says \"accept\" to the page"),
            ("test_sampling", "sampling/createMessage", "the model says: Paris"),
            ("test_list_roots", "roots/list", "the roots are file:///home/ada"),
        ] {
            let (result, asked) = answered(&client, client.call(&door.name(tool)).await).await;
            assert!(text_of(&result).contains(says), "{version} {tool}: {result}");
            assert!(result["resultType"].is_null() || result["resultType"] == "complete", "{result}");
            let [question] = asked.as_slice() else { panic!("{tool}: one question: {asked:?}") };
            assert_eq!((&question["method"], &question["jsonrpc"]), (&json!(method), &json!("2.0")));
            if tool == "test_elicitation_url" {
                assert_eq!(question["params"]["mode"], "url");
                assert!(question["params"]["elicitationId"].is_string(), "the gateway makes one: {question}");
            }
        }
        let params = json!({ "name": door.name("test_input_required_result_prompt") });
        let (result, asked) = answered(&client, client.open("prompts/get", params).await).await;
        assert_eq!(asked.len(), 1);
        assert_eq!(result["messages"][0]["content"]["text"], "In the context of Ada");
    }
}

async fn several_rounds(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        let client = pair.legacy(door, "2025-11-25", everything()).await;
        for (tool, says, questions) in [
            ("test_input_required_result_multi_round", "Ada likes Ada", 2),
            ("test_input_required_result_multiple_inputs", "Paris, Ada with 1 roots", 3),
            ("test_input_required_result_request_state", "state-ok", 1),
            ("test_streaming_elicitation", "next comes", 1),
        ] {
            let (result, asked) = answered(&client, client.call(&door.name(tool)).await).await;
            assert!(text_of(&result).starts_with(says), "{tool}: {result}");
            assert_eq!(asked.len(), questions, "{asked:?}");
        }
        let mut params = door.call("test_streaming_elicitation");
        params["_meta"] = json!({ "progressToken": "p" });
        let mut call = client.open("tools/call", params).await;
        let question = call.next_of("elicitation/create").await;
        client.reply(&question, replied(&question)).await;
        assert_eq!(text_of(&call.result().await), r#"next comes "Ada""#);
        assert!(call.heard.iter().all(|told| told["params"]["progressToken"] == "p"), "{call:?}");
        assert!(call.heard.len() >= 2, "progress before and after the question: {call:?}");
    }
}

async fn questions_that_may_not_be_asked(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        for (tool, capabilities) in [
            ("test_elicitation", json!({})),
            ("test_elicitation", json!({ "sampling": {}, "roots": {} })),
            ("test_elicitation_url", json!({ "elicitation": {} })),
            ("test_sampling", json!({ "elicitation": {} })),
            ("test_list_roots", json!({ "sampling": {} })),
            ("test_input_required_result_multiple_inputs", json!({ "elicitation": {} })),
        ] {
            let client = pair.legacy(door, "2025-11-25", capabilities.clone()).await;
            let mut call = client.call(&door.name(tool)).await;
            let answer = call.answer().await;
            let refused = answer["result"]["isError"] == true || answer["error"]["code"] == -32602;
            assert!(refused && call.heard.is_empty() && call.status == 200, "{capabilities}: {call:?}");
            let says = answer["error"]["message"].as_str().map(str::to_owned);
            assert!(says.unwrap_or_else(|| text_of(&answer["result"])).len() > 10, "it says why: {call:?}");
        }
        let client = pair.legacy(door, "2025-11-25", json!({})).await;
        let name = door.name("test_input_required_result_prompt");
        let mut refused = client.open("prompts/get", json!({ "name": name })).await;
        let code = refused.error().await["code"].as_i64().unwrap();
        assert!(!(-32099..=-32000).contains(&code) && refused.status == 200, "{refused:?}");
    }
}

async fn refusals_and_errors(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.legacy(Door::One, "2025-11-25", everything()).await;
    for action in ["decline", "cancel"] {
        let mut call = client.call("test_elicitation").await;
        let question = call.next_of("elicitation/create").await;
        client.reply(&question, json!({ "action": action })).await;
        assert_eq!(text_of(&call.result().await), format!(r#"the user says "{action}": null"#));
    }
    // An error instead of an answer ends the call with one that says so.
    let mut call = client.call("test_sampling").await;
    let question = call.next_of("sampling/createMessage").await;
    let error = json!({ "code": -1, "message": "User rejected sampling request" });
    let reply = json!({ "jsonrpc": "2.0", "id": question["id"], "error": error });
    assert_eq!(client.send(&reply).await.status, 202);
    let answer = call.answer().await;
    let told = answer["result"]["isError"] == true || answer["error"].is_object();
    assert!(told && answer.to_string().contains("rejected"), "{call:?}");
    // Replies to nothing are of no consequence.
    let stray = json!({ "jsonrpc": "2.0", "id": 4711, "result": {} });
    let status = client.send(&stray).await.status;
    assert!(status == 202 || status == 400, "{status}");
    assert_eq!(client.result("ping", json!({})).await, json!({}));
}

/// Only the session that was asked can answer.
async fn answers_of_others(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.legacy(Door::One, "2025-11-25", everything()).await;
    let mut call = client.call("test_list_roots").await;
    let question = call.next_of("roots/list").await;
    let bob =
        McpClient::legacy(&pair.app.as_agent("bob").await, "/mcp/s/fix", "2025-11-25", everything()).await;
    let second = pair.legacy(Door::One, "2025-11-25", everything()).await;
    for other in [bob, second] {
        let wrong = json!({ "roots": [{ "uri": "file:///etc/wrong" }] });
        let reply = json!({ "jsonrpc": "2.0", "id": question["id"], "result": wrong });
        other.send(&reply).await;
    }
    client.reply(&question, replied(&question)).await;
    assert_eq!(text_of(&call.result().await), "the roots are file:///home/ada");
}

async fn two_calls_ask_at_once(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.legacy(Door::All, "2025-11-25", everything()).await;
    let call =
        |message: &str| json!({ "name": "fix__test_elicitation", "arguments": { "message": message } });
    let mut one = client.open("tools/call", call("one?")).await;
    let mut two = client.open("tools/call", call("two?")).await;
    let (first, second) = (one.next_of("elicitation/create").await, two.next_of("elicitation/create").await);
    assert_eq!((&first["params"]["message"], &second["params"]["message"]), (&json!("one?"), &json!("two?")));
    assert_ne!(first["id"], second["id"]);
    for (question, name) in [(&second, "zwei"), (&first, "eins")] {
        let content = json!({ "username": name, "email": name });
        client.reply(question, json!({ "action": "accept", "content": content })).await;
    }
    assert!(one.text().await.contains("eins"), "{one:?}");
    assert!(two.text().await.contains("zwei"), "{two:?}");
}

/// The connection of the call is cut after the question: the answer counts all the same.
async fn leaving_does_not_cancel_a_question(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.legacy(Door::One, "2025-11-25", everything()).await;
    let mut call = client.call("test_list_roots").await;
    let question = call.next_of("roots/list").await;
    let last = call.last_event.clone().expect("events of a session have ids");
    drop(call);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    client.reply(&question, replied(&question)).await;
    let mut resumed = client.listen(Some(&last)).await;
    let answer = resumed.message().await;
    assert_eq!(text_of(&answer["result"]), "the roots are file:///home/ada", "{resumed:?}");
    assert_eq!(pair.logged("cancelled "), 0);
}
