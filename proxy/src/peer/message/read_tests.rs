//! Tests of message parsing.

use serde_json::Value;

use super::*;
use crate::upstream::{Params, UpstreamAnswer};

fn one(text: &str) -> Message<'_> {
    match read(text.as_bytes()) {
        Messages::One(one) => one,
        Messages::Several(several) => panic!("several: {several:?}"),
    }
}

#[test]
fn what_a_server_may_send() {
    for text in [
        r#" {"result": {"a": 1.0}, "id": 7}"#,
        "\u{feff}{\"result\": {\"a\": 1.0}, \"id\": 7}\r",
        r#"{"jsonrpc":"2.0","id":7,"result":{"a": 1.0},"error":null,"x":[]}"#,
        r#"{"jsonrpc":"1.0","id":7,"method":"tools/call","result":{"a": 1.0}}"#,
    ] {
        assert_eq!(one(text), Message::Result { id: 7, result: r#"{"a": 1.0}"# }, "{text}");
    }
    assert_eq!(one(r#"{"id":7,"result":null}"#), Message::Result { id: 7, result: "null" });
    for text in [
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"m"},"result":null}"#,
    ] {
        let error = r#"{"code":-1,"message":"m"}"#.into();
        assert_eq!(one(text), Message::Error { id: 7, error }, "{text}");
    }
    assert_eq!(
        one(r#"{"id":7,"method":"ping","result":null,"error":null}"#),
        Message::Request { id: "7", method: "ping".into(), params: None }
    );
    assert_eq!(
        read(br#"[{"id":"a","method":"ping"},{"method":"m\u0061","params":{}},3]"#),
        Messages::Several(vec![
            Message::Request { id: "\"a\"", method: "ping".into(), params: None },
            Message::Notification { method: "ma".into(), params: Some("{}") },
            Message::Noise,
        ])
    );
    assert_eq!(
        read(br#"{"id":1,"result":{}}{"id":2,"result":{}}"#),
        Messages::Several(vec![
            Message::Result { id: 1, result: "{}" },
            Message::Result { id: 2, result: "{}" },
        ])
    );
    for (text, rest) in
        [(r#"{"id":1,"result":{}} done"#, None), (r#"{"id":1,"result":{}},{"id":2,"result":"#, Some(2))]
    {
        let Messages::Several(read) = read(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(read[0], Message::Result { id: 1, result: "{}" });
        match (&read[1], rest) {
            (Message::Noise, None) => {}
            (Message::Unreadable { meant: Meant::Ids(ids), .. }, Some(rest)) => assert_eq!(*ids, [rest]),
            other => panic!("{text}: {other:?}"),
        }
    }
    for noise in [
        "",
        "{",
        "{}",
        "null",
        "<html>",
        "3",
        "\u{1b}[1mServer",
        r#"{"method":"m","params":{"#,
        r#"{"level":30,"id":"a","msg":"m"}"#,
        r#"{"result":{}}"#,
        r#"{"error":"in a log"}"#,
        "{'error': 'in a log'}",
        r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":}}"#,
    ] {
        assert_eq!(one(noise), Message::Noise, "{noise}");
    }
}

#[test]
fn an_unreadable_answer_names_whom_it_was_for() {
    for (text, expected) in [
        (&br#"{"jsonrpc": "2.0", "id": 7, "result": {"a": NaN}}"#[..], &[7][..]),
        (br#"{"result":{"a":-Infinity},"id":7}"#, &[7]),
        (br#"{"jsonrpc":"2.0","id":7,"result":{"text":"cut of"#, &[7]),
        (br#"{"jsonrpc":"2.0","id":7,"result":{},"result":{}}"#, &[7]),
        (br#"{"jsonrpc":"2.0","id":7,"method":5,"result":{}}"#, &[7]),
        (br#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"m"}}"#, &[7]),
        (b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":\"\xff\"}}", &[7]),
        (br#"{"id":7,"result":{"id":8,"b":[{"id":9}],"c":"\"id\":10","n":NaN}}"#, &[7]),
        (br#"[{"id":7,"result":NaN},{"id":8,"result":{}},{"id":9,"method":"m"}]"#, &[7, 8]),
        (br#"{"id":"7","result":{}}"#, &[7]),
        (br#"{"id":7.0,"result":{}}"#, &[7]),
        (br#"{"id":7.0,"result":NaN}"#, &[7]),
        (br#"{"id":7}"#, &[7]),
        (br#"INFO: {"jsonrpc":"2.0","id":7,"result":{}}"#, &[7]),
        (b"{'jsonrpc': '2.0', 'id': 7, 'result': {'text': 'x'}}", &[7]),
        (br#"{"jsonrpc":"2.0","id":-7,"result":{}}"#, &[]),
        (br#"{"jsonrpc":"2.0","id":99999999999999999999999,"result":{}}"#, &[]),
    ] {
        match read(text) {
            Messages::One(Message::Unreadable { meant: Meant::Ids(ids), .. }) => assert_eq!(ids, expected),
            other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
        }
    }
}

#[test]
fn an_unreadable_answer_may_name_nobody() {
    for (text, maybe_not_for_a_request) in [
        (r#"{"id":null,"result":{}}"#, false),
        (r#"{"jsonrpc":"2.0","result":{}}"#, false),
        (r#"{"jsonrpc":"2.0"}"#, false),
        (r#"{"jsonrpc":"2.0","id":"abc","result":{}}"#, false),
        (r#"{"jsonrpc":"2.0","id":7.5,"result":{}}"#, false),
        (r#"{"jsonrpc":"2.0","id":[7],"result":{}}"#, false),
        (r#"{"jsonrpc":"2.0","id":7.5,"result":NaN}"#, false),
        // The number may be cut off.
        (r#"{"jsonrpc":"2.0","id":7"#, false),
        (r#"{"jsonrpc":"2.0","#, true),
        (r#"{"jsonrpc":"2.0","id":null,"error":"no"}"#, false),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"m"}}"#, false),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"m"}}"#, true),
    ] {
        match one(text) {
            Message::Unreadable { meant: Meant::Unnamed { about_notification }, .. } => {
                assert_eq!(about_notification, maybe_not_for_a_request, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn results_that_no_client_reads() {
    for (asked, result, readable) in [
        ("tools/call", r#"{"content":[]}"#, true),
        ("tools/call", r#"{"content":[ {"type":"text"}]}"#, true),
        ("tools/call", r#"{ "structuredContent": {}, "content": [] }"#, true),
        ("tools/call", "{}", true),
        ("tools/call", r#"{"\ud800":1}"#, true),
        ("tools/call", r#"{"content":"text"}"#, false),
        ("tools/call", r#"{"content":["text"]}"#, false),
        ("tools/call", r#"{"isError":true,"content":[null]}"#, false),
        ("tools/call", r#"{"resultType":5,"content":[]}"#, false),
        ("tools/call", r#"{"resultType":"input_required","inputRequests":[1]}"#, false),
        ("tools/call", r#"{"resultType":"task","task":{}}"#, true),
        ("tools/call", "null", false),
        ("tools/call", "\"text\"", false),
        ("tools/call", "[]", false),
        ("tools/call", "7", false),
        ("resources/read", r#"{"contents":[]}"#, true),
        ("resources/read", r#"{"contents":{}}"#, false),
        ("resources/read", "{}", false),
        ("resources/read", r#"{"resultType":"input_required","inputRequests":{}}"#, true),
        ("prompts/get", r#"{"messages":null}"#, false),
        ("completion/complete", r#"{"completion":{"values":[]}}"#, true),
        ("completion/complete", r#"{"completion":{"values":"a"}}"#, false),
        ("completion/complete", r#"{"completion":{}}"#, false),
        ("completion/complete", r#"{"completion":[]}"#, false),
        ("tools/list", r#"{"tools":{}}"#, false),
        // The list leaves out an unreadable item.
        ("tools/list", r#"{"tools":[null]}"#, true),
        ("logging/setLevel", "{}", true),
        ("logging/setLevel", "null", false),
        ("vendor/method", r#"{"a":7}"#, true),
        ("vendor/method", "7", false),
    ] {
        assert_eq!(fault_of_result(asked, result.as_bytes()).is_none(), readable, "{asked}: {result}");
    }
}

#[test]
fn an_odd_error_becomes_one_that_clients_read() {
    let reason = |what: &str| format!("the server's answer has an `error` {what}");
    for (error, code, message, what) in [
        (r#""no luck""#, 50200, "no luck", "that is a string"),
        (r#"{"code":"E_NO","message":"no"}"#, 50200, "no", "whose `code` is a string"),
        (r#"{"code":-32000,"message":null}"#, -32000, "", "whose `message` is null"),
        (r#"{"code":-32000}"#, -32000, "", "without a `message`"),
        (r#"{"code":-32000.0,"message":"m"}"#, -32000, "m", "whose `code` is not an integer of 32 bits"),
        (r#"{"code":3000000000,"message":"m"}"#, 50200, "m", "whose `code` is not an integer of 32 bits"),
        (r#"{"code":1.5,"message":"m"}"#, 50200, "m", "whose `code` is not an integer of 32 bits"),
        (r#"{"message":"m"}"#, 50200, "m", "without a `code`"),
        ("{}", 50200, "", "without a `code`"),
        (r#"{"code":1,"code":1,"message":"m"}"#, 1, "m", "with a member that is there twice"),
        ("[1]", 50200, "", "that is an array"),
        ("7", 50200, "", "that is a number"),
        ("true", 50200, "", "that is true or false"),
    ] {
        let text = format!(r#"{{"id":7,"error":{error}}}"#);
        let Message::Error { id: 7, error: repaired } = one(&text) else { panic!("{text}") };
        assert!(is_repaired(repaired.as_bytes()));
        let repaired: Value = serde_json::from_slice(&with_request(repaired.as_bytes(), &"req")).unwrap();
        let expected =
            if message.is_empty() { reason(what) } else { format!("{message} ({})", reason(what)) };
        assert_eq!(repaired["code"], code, "{repaired}");
        assert_eq!(repaired["message"], expected, "{repaired}");
        assert_eq!(repaired["data"]["requestId"], "req");
        assert_eq!(repaired["data"]["original"], serde_json::from_str::<Value>(error).unwrap());
    }
}

#[test]
fn what_is_held_is_bounded() {
    let long = format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{}\"}}", "é".repeat(100_000));
    let refusal = unreadable("s", "f", Some(&long));
    let held = refusal.facts.unwrap()["original"].as_str().unwrap().len();
    assert!((1000..5000).contains(&held), "{held}");
    assert!(unreadable("s", "f", None).facts.is_none());
}

#[test]
fn what_is_sent() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(
        text(request(3, "a\"b", Params::spliced(b"{\"name\":", b"\"x\"", b"}"))),
        r#"{"jsonrpc":"2.0","id":3,"method":"a\"b","params":{"name":"x"}}"#
    );
    assert_eq!(text(notification("n", Params::none())), r#"{"jsonrpc":"2.0","method":"n"}"#);
    let result = UpstreamAnswer::Result(bytes::Bytes::from_static(b"{}"));
    assert_eq!(text(answer("\"q\"", &result)), r#"{"jsonrpc":"2.0","id":"q","result":{}}"#);
}
