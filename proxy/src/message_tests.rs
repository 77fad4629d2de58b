//! Unit tests of messages: what is read, and what becomes of answers that no client can read.

use super::*;

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
    ] {
        assert_eq!(one(text), Message::Result { id: 7, result: r#"{"a": 1.0}"# }, "{text}");
    }
    assert_eq!(one(r#"{"id":7,"result":null}"#), Message::Result { id: 7, result: "null" });
    assert_eq!(
        one(r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"m"}}"#),
        Message::Error { id: 7, error: r#"{"code":-1,"message":"m"}"#.into() }
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
    for noise in ["", "{", "{}", "null", "<html>", "3", "\u{1b}[1mServer", r#"{"method":"m","params":{"#] {
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
        (b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":\"\xff\"}}", &[7]),
        (br#"{"id":7,"result":{"id":8,"b":[{"id":9}],"c":"\"id\":10","n":NaN}}"#, &[7]),
        (br#"{"id":7,"result":{}},{"id":8,"result":{}}"#, &[7, 8]),
        (br#"[{"id":7,"result":NaN},{"id":8,"result":{}},{"id":9,"method":"m"}]"#, &[7, 8]),
        (br#"{"id":"7","result":{}}"#, &[7]),
        (br#"{"id":7.0,"result":{}}"#, &[7]),
        (br#"{"id":7}"#, &[7]),
        (b"{'jsonrpc': '2.0', 'id': 7, 'result': {'text': 'x'}}", &[7]),
        (br#"{"id":null,"result":{}}"#, &[]),
        (br#"{"result":{}}"#, &[]),
    ] {
        match read(text) {
            Messages::One(Message::Unreadable { ids, .. }) => assert_eq!(ids, expected),
            other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
        }
    }
    let request = br#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":}}"#;
    assert_eq!(read(request), Messages::One(Message::Noise));
}

#[test]
fn results_that_no_client_reads() {
    for (asked, result, readable) in [
        ("tools/call", r#"{"content":[]}"#, true),
        ("tools/call", r#"{ "structuredContent": {}, "content": [] }"#, true),
        ("tools/call", "{}", true),
        ("tools/call", r#"{"content":"text"}"#, false),
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
        ("completion/complete", r#"{"completion":[]}"#, false),
        ("tools/list", r#"{"tools":{}}"#, false),
        ("ping", "null", true),
        ("vendor/method", "7", true),
    ] {
        assert_eq!(fault_of_result(asked, result.as_bytes()).is_none(), readable, "{asked}: {result}");
    }
}

#[test]
fn an_odd_error_becomes_one_that_clients_read() {
    for (error, code, message) in [
        (r#""no luck""#, 50200, "no luck"),
        (r#"{"code":"E_NO","message":"no"}"#, 50200, "no"),
        (r#"{"code":-32000,"message":null}"#, -32000, ""),
        (r#"{"code":-32000}"#, -32000, ""),
        ("[1]", 50200, ""),
        ("7", 50200, ""),
        ("true", 50200, ""),
    ] {
        let text = format!(r#"{{"id":7,"error":{error}}}"#);
        let Message::Error { id: 7, error: mended } = one(&text) else { panic!("{text}") };
        let mended: Value = serde_json::from_str(&mended).unwrap();
        assert_eq!(mended["code"], code, "{mended}");
        assert!(mended["message"].as_str().is_some_and(|said| said.starts_with(message)), "{mended}");
        assert_eq!(mended["data"]["original"], serde_json::from_str::<Value>(error).unwrap());
    }
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
