//! What the gateway does not understand survives: params and results pass byte for byte.

use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Once: arguments_arrive_as_they_were_sent, a_result_comes_back_as_it_was_given, listed_tools_keep_their_members,
        a_body_over_several_lines_is_one_line_for_the_child, sizes_around_the_buffers;
];

/// Arguments that a reader who parses and writes again would change.
const ODD: &str = concat!(
    r#"{"big":123456789012345678901234567890,"one":1.0,"exponent":1E5,"minus":-0.0,"small":5e-324,"#,
    r#""escaped":"\u00e9\/\u2028\u0000","plain":"é😀","pair":"\ud83d\ude00","z":1,"a":[{},[],null,true],"#,
    r#""spaced" : [ 1 ,  2 ],"":{"__proto__":0}}"#
);

async fn started(backend: Backend) -> (TestApp, tests::Actor) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::bad("raw", &[])).await;
    let agent = app.as_agent("alice").await;
    (app, agent)
}

async fn arguments_arrive_as_they_were_sent(backend: Backend) {
    let (_app, agent) = started(backend).await;
    let shapes = [
        format!(r#"{{"name":"raw__mirror","arguments":{ODD},"future":{{"b":1.50,"a":2}}}}"#),
        format!(r#"{{"arguments":{ODD},"future":{{"b":1.50,"a":2}},"name":"raw__mirror"}}"#),
        format!(r#"{{"future":{{"b":1.50,"a":2}},"\u006eame":"raw_\u005fmirror","arguments":{ODD}}}"#),
    ];
    for params in shapes {
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let answer = agent.rpc_text(&call).await;
        answer.must(answer.result()["isError"] == false, "the tool was called");
        let arrived = answer.result()["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        answer.must(arrived.contains(&format!(r#""arguments":{ODD}"#)), "the arguments arrive byte for byte");
        answer.must(arrived.contains(r#""future":{"b":1.50,"a":2}"#), "an unknown member arrives too");
        let line: Value = serde_json::from_str(&arrived).expect("the child got one line of JSON");
        answer.must(line["params"]["name"] == "mirror", "the child hears its own name for the tool");
    }
}

async fn a_result_comes_back_as_it_was_given(backend: Backend) {
    let (_app, agent) = started(backend).await;
    let answer = agent.call("raw__mirror", json!({ "nonce": "x" })).await;
    answer.status(200);
    let tail = concat!(
        r#""isError":false,"big":123456789012345678901234567890,"one":1.0,"exponent":1E5,"minus":-0.0,"#,
        r#""escaped":"\u00e9\/\u0000","plain":"é😀","empty":{},"nothing":null,"_meta":{"vendor/x":[]}}"#
    );
    answer.must(answer.text().contains(tail), "members that no SDK knows come back byte for byte");
    answer.must(answer.text().contains(r#""vendor":{"x":1.0}"#), "also those within the content");
}

async fn listed_tools_keep_their_members(backend: Backend) {
    let (_app, agent) = started(backend).await;
    let answer = agent.rpc("tools/list", json!({})).await;
    answer.status(200).must(answer.text().contains(r#""vendorKey":{"kept":1.0}"#), "nothing is dropped");
}

async fn a_body_over_several_lines_is_one_line_for_the_child(backend: Backend) {
    let (_app, agent) = started(backend).await;
    let call = concat!(
        "{\r\n  \"jsonrpc\": \"2.0\",\n  \"id\": 1,\n  \"method\": \"tools/call\",\n  \"params\": {\n",
        "    \"name\": \"raw__echo\",\n\t\"arguments\": {\r\n      \"nonce\": \"several\\nlines\"\n    }\n  }\n}\n"
    );
    let answer = agent.rpc_text(call).await;
    answer.must(answer.tool_text() == "several\nlines", "the child got the message whole");
    let answer = agent.call("raw__echo", json!({ "nonce": "after" })).await;
    answer.must(answer.tool_text() == "after", "and is not out of step after it");
}

async fn sizes_around_the_buffers(backend: Backend) {
    let (_app, agent) = started(backend).await;
    for size in [0, 1, 4095, 4096, 65_535, 65_536, 262_143, 262_144, 500_000] {
        let nonce = "ä".repeat(size / 2);
        let answer = agent.call("raw__echo", json!({ "nonce": nonce })).await;
        answer.must(answer.tool_text() == nonce, "every size comes back whole");
    }
}
