//! A server of the legacy era asks in the middle of a call; a client of 2026-07-28 finds the question in
//! the result and calls again with its answer and the `requestState` that was sealed for it alone.

use tests::mcp_client::everything;
use tests::{Backend, Case, McpClient, Value, cases, json};

use crate::pair::{DOORS, Door, Pair, in_rounds, next_round, replied, text_of};

pub const CASES: &[Case] = cases![
    Every: questions_come_as_results, a_state_is_good_for_its_caller_and_request;
    Once: several_rounds, two_calls_wait_at_once, questions_that_may_not_be_asked, refused_answers,
        a_page_that_must_be_visited_first, progress_around_a_question;
];

async fn start(backend: Backend) -> Pair {
    Pair::start(backend, &["--era", "legacy"]).await
}

async fn questions_come_as_results(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        let client = pair.modern(door, everything());
        for (tool, method, says) in [
            (
                "test_elicitation",
                "elicitation/create",
                r#"the user says "accept": {"email":"Ada","username":"Ada"}"#,
            ),
            ("test_elicitation_url", "elicitation/create", r#"the user says "accept" to the page"#),
            ("test_sampling", "sampling/createMessage", "the model says: Paris"),
            ("test_list_roots", "roots/list", "the roots are file:///home/ada"),
        ] {
            let (result, asked) = in_rounds(&client, "tools/call", &door.call(tool)).await;
            assert_eq!((result["resultType"].as_str(), &*text_of(&result)), (Some("complete"), says));
            let [questions] = asked.as_slice() else { panic!("{tool}: one round: {asked:?}") };
            let questions: Vec<&Value> = questions.as_object().unwrap().values().collect();
            let [question] = questions.as_slice() else { panic!("{tool}: one question: {asked:?}") };
            assert_eq!(question["method"], method);
            assert!(question["id"].is_null() && question["jsonrpc"].is_null(), "{question}");
            let params = &question["params"];
            match tool {
                "test_elicitation" => {
                    assert_eq!(params["requestedSchema"]["required"], json!(["username", "email"]));
                }
                "test_elicitation_url" => {
                    assert_eq!((&params["mode"], params.get("elicitationId")), (&json!("url"), None));
                    assert_eq!(params["url"], "https://fixture.invalid/consent");
                }
                "test_sampling" => assert_eq!(params["maxTokens"], 100),
                _ => {}
            }
        }
        let params = json!({ "name": door.name("test_input_required_result_prompt") });
        let (result, asked) = in_rounds(&client, "prompts/get", &params).await;
        assert_eq!(asked.len(), 1);
        assert_eq!(result["messages"][0]["content"]["text"], "In the context of Ada");
        // The schemas of questions arrive as the server wrote them.
        let (_, asked) = in_rounds(&client, "tools/call", &door.call("test_elicitation_sep1330_enums")).await;
        let question = asked[0].as_object().unwrap().values().next().unwrap();
        let schema = &question["params"]["requestedSchema"]["properties"];
        assert_eq!(schema["legacyEnum"]["enumNames"], json!(["North", "South"]), "{schema}");
        assert_eq!(schema["titledMulti"]["items"]["anyOf"][1]["const"], "s", "{schema}");
    }
    assert_eq!(pair.logged(r#""method":"tools/call""#), 2 * 5, "each call was made once");
}

async fn several_rounds(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        let client = pair.modern(door, everything());
        let call = door.call("test_input_required_result_multi_round");
        let first = client.result("tools/call", call.clone()).await;
        let second = client.result("tools/call", next_round(&call, &first)).await;
        assert_eq!(second["resultType"], "input_required", "{second}");
        assert_ne!(first["requestState"], second["requestState"]);
        let last = client.result("tools/call", next_round(&call, &second)).await;
        assert_eq!(text_of(&last), "Ada likes Ada");
        let three = door.call("test_input_required_result_multiple_inputs");
        let (result, asked) = in_rounds(&client, "tools/call", &three).await;
        assert_eq!(text_of(&result), "Paris, Ada with 1 roots");
        let questions: usize = asked.iter().map(|round| round.as_object().unwrap().len()).sum();
        assert_eq!(questions, 3, "{asked:?}");
    }
}

async fn two_calls_wait_at_once(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.modern(Door::One, everything());
    let call = |message: &str| json!({ "name": "test_elicitation", "arguments": { "message": message } });
    let (one, two) = (call("Who is one?"), call("Who is two?"));
    let first = client.result("tools/call", one.clone()).await;
    let second = client.result("tools/call", two.clone()).await;
    for (asked, message) in [(&first, "Who is one?"), (&second, "Who is two?")] {
        assert!(asked["inputRequests"].to_string().contains(message), "{asked}");
    }
    // A call that asks nothing is not kept waiting by those that do.
    assert_eq!(text_of(&client.call("greet").await.result().await), "Hello, nobody!");
    let answer = |params: &Value, asked: &Value, name: &str| {
        let mut again = next_round(params, asked);
        for reply in again["inputResponses"].as_object_mut().unwrap().values_mut() {
            reply["content"] = json!({ "username": name, "email": name });
        }
        again
    };
    let result = client.result("tools/call", answer(&two, &second, "two")).await;
    assert!(text_of(&result).contains(r#""username":"two""#), "{result}");
    let result = client.result("tools/call", answer(&one, &first, "one")).await;
    assert!(text_of(&result).contains(r#""username":"one""#), "{result}");
    // Many at once get each its own question.
    let calls = (0..6).map(|number| {
        let (client, params) = (client.clone(), call(&format!("Who is number {number}?")));
        async move {
            let (result, asked) = in_rounds(&client, "tools/call", &params).await;
            assert!(asked[0].to_string().contains(&format!("number {number}?")), "{asked:?}");
            assert!(text_of(&result).contains("accept"), "{result}");
        }
    });
    futures_util::future::join_all(calls).await;
}

/// The call whose result asks something, and that result.
async fn asked(client: &McpClient, door: Door) -> (Value, Value) {
    let call = json!({ "name": door.name("test_elicitation"), "arguments": { "message": "Who?" } });
    let result = client.result("tools/call", call.clone()).await;
    assert_eq!(result["resultType"], "input_required", "{result}");
    assert!(result["requestState"].is_string(), "{result}");
    (call, result)
}

/// Every wrong state is refused, and the right one works once.
async fn a_state_is_good_for_its_caller_and_request(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        let client = pair.modern(door, everything());
        let (call, result) = asked(&client, door).await;
        let good = next_round(&call, &result);
        let state = result["requestState"].as_str().unwrap();
        let with = |state: Value| {
            let mut params = good.clone();
            params["requestState"] = state;
            params
        };
        let mut flipped = state.as_bytes().to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
        for wrong in [
            json!(format!("{state}-TAMPERED")),
            json!(String::from_utf8(flipped).unwrap()),
            json!(&state[..state.len() - 4]),
            json!("rubbish"),
            json!(7),
        ] {
            let error = client.error("tools/call", with(wrong.clone())).await;
            assert_eq!(error["code"], -32602, "{wrong}: {error}");
        }
        let mut other_arguments = good.clone();
        other_arguments["arguments"]["message"] = json!("Somebody else?");
        let mut other_tool = good.clone();
        other_tool["name"] = json!(door.name("test_sampling"));
        for params in [other_arguments, other_tool] {
            let error = client.error("tools/call", params).await;
            assert_eq!(error["code"], -32602, "{error}");
        }
        // Another agent of the tenant, the operator, another tenant.
        let bob = pair.app.as_agent("bob").await;
        for other in [bob, pair.app.as_operator()] {
            let other = McpClient::modern(&other, door.path()).declaring(everything());
            let error = other.error("tools/call", good.clone()).await;
            assert_eq!(error["code"], -32602, "{error}");
        }
        let result = client.result("tools/call", good.clone()).await;
        assert!(text_of(&result).contains("accept"), "{result}");
        let mut replayed = client.open("tools/call", good).await;
        let answer = replayed.answer().await;
        assert!(!answer["result"].to_string().contains("accept"), "a state works once: {replayed:?}");
    }
    // The states of one endpoint are not good at the other.
    let (call, result) = asked(&pair.modern(Door::One, everything()), Door::One).await;
    let mut moved = next_round(&call, &result);
    moved["name"] = json!(Door::All.name("test_elicitation"));
    let mut exchange = pair.modern(Door::All, everything()).open("tools/call", moved).await;
    let answer = exchange.answer().await;
    assert!(
        answer["error"]["code"] == -32602 || text_of(&answer["result"]).contains("accept"),
        "{exchange:?}"
    );
}

/// Nothing is asked that the client did not declare, and it hears why the call failed.
async fn questions_that_may_not_be_asked(backend: Backend) {
    let pair = start(backend).await;
    let cases = [
        ("test_elicitation", json!({})),
        ("test_elicitation", json!({ "sampling": {}, "roots": {} })),
        ("test_elicitation_url", json!({ "elicitation": { "form": {} } })),
        ("test_sampling", json!({ "elicitation": {} })),
        ("test_list_roots", json!({ "elicitation": {}, "sampling": {} })),
        ("test_input_required_result_multiple_inputs", json!({ "elicitation": {}, "sampling": {} })),
    ];
    for door in DOORS {
        for (tool, capabilities) in &cases {
            let client = pair.modern(door, capabilities.clone());
            let mut call = client.call(&door.name(tool)).await;
            let answer = call.answer().await;
            let refused = answer["error"]["code"] == -32021 || answer["result"]["isError"] == true;
            assert!(refused && answer["result"]["inputRequests"].is_null(), "{capabilities}: {call:?}");
        }
        let client = pair.modern(door, json!({ "sampling": {} }));
        let (result, asked) =
            in_rounds(&client, "tools/call", &door.call("test_input_required_result_capabilities")).await;
        assert_eq!(text_of(&result), "1 of 2 questions were asked");
        assert!(asked[0].to_string().contains("sampling/createMessage"), "{asked:?}");
    }
}

async fn refused_answers(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.modern(Door::One, everything());
    for action in ["decline", "cancel"] {
        let (call, result) = asked(&client, Door::One).await;
        let mut again = next_round(&call, &result);
        for reply in again["inputResponses"].as_object_mut().unwrap().values_mut() {
            *reply = json!({ "action": action });
        }
        let result = client.result("tools/call", again).await;
        assert_eq!(text_of(&result), format!(r#"the user says "{action}": null"#));
    }
    // Answers that are missing, none at all, or to nothing that was asked: the question is put again.
    for responses in [json!({}), json!(null), json!(3), json!({ "nobody": { "action": "accept" } })] {
        let (call, result) = asked(&client, Door::One).await;
        let mut again = next_round(&call, &result);
        again["inputResponses"] = responses.clone();
        let result = client.result("tools/call", again).await;
        assert_eq!(result["resultType"], "input_required", "{responses}: {result}");
        let result = client.result("tools/call", next_round(&call, &result)).await;
        assert!(text_of(&result).contains("accept"), "{responses}: {result}");
    }
}

async fn a_page_that_must_be_visited_first(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        let client = pair.modern(door, everything());
        let call = door.call("test_legacy_url_error");
        let mut exchange = client.open("tools/call", call.clone()).await;
        let answer = exchange.answer().await;
        let result = &answer["result"];
        assert_eq!(result["resultType"], "input_required", "{exchange:?}");
        let question = result["inputRequests"].as_object().unwrap().values().next().unwrap();
        assert_eq!(
            (&question["params"]["mode"], question["params"].get("elicitationId")),
            (&json!("url"), None)
        );
        assert_eq!(replied(question)["action"], "accept");
        // After the visit the call is made again, which this fixture refuses again.
        let again = client.result("tools/call", next_round(&call, result)).await;
        assert_eq!(again["resultType"], "input_required", "{again}");
    }
}

async fn progress_around_a_question(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.modern(Door::One, everything());
    let mut call = Door::One.call("test_streaming_elicitation");
    call["_meta"] = json!({ "progressToken": "before" });
    let mut first = client.open("tools/call", call.clone()).await;
    let result = first.result().await;
    assert_eq!(first.heard[0]["params"]["progressToken"], "before", "{first:?}");
    // Another token with the next round: what comes then carries it.
    let mut again = next_round(&call, &result);
    again["_meta"] = json!({ "progressToken": 77 });
    let mut second = client.open("tools/call", again).await;
    assert_eq!(text_of(&second.result().await), r#"next comes "Ada""#);
    let tokens: Vec<&Value> = second.heard.iter().map(|told| &told["params"]["progressToken"]).collect();
    assert_eq!(tokens, [&json!(77)], "{second:?}");
}
