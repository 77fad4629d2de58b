//! JSON-RPC envelopes, of clients and of children. What is read is a slice of the input, ids survive,
//! an answer under an id that was read is JSON, and the quick way reads what the slow way reads.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::jsonrpc::{self, Body, Incoming, Malformed};
use proxy::message::{self, Meant, Message};
use proxy::stdio::envelope;
use proxy::stdio::lines::LineBuffer;

const WORDS: &[&str] = &[
    "jsonrpc",
    "2.0",
    "id",
    "method",
    "params",
    "result",
    "error",
    "ping",
    "tools/call",
    "_meta",
    "1.0",
    "a",
];

fuzz_target!(|data: &[u8]| {
    client(data);
    child(data);
    if data.first() == Some(&b'\n') {
        lines(&data[1..]);
    }
    if let Some(text) = fuzz::text(data, WORDS) {
        client(text.as_bytes());
        child(text.as_bytes());
        let usual = format!(r#"{{"jsonrpc":"2.0",{}"#, &text[1..]);
        client(usual.as_bytes());
        child(usual.as_bytes());
        let batch = format!("[{text},{usual}, {text}]");
        client(batch.as_bytes());
        child(batch.as_bytes());
        child(format!(r#"{{"jsonrpc":"2.0","id":7,"result":{text}}}"#).as_bytes());
    }
});

fn client(body: &[u8]) {
    match jsonrpc::parse(body, 100) {
        Ok(Body::Single(incoming)) => message(body, body, &incoming),
        Ok(Body::Batch(elements)) => {
            assert!((1..=100).contains(&elements.len()));
            for element in elements {
                assert!(fuzz::lies_in(body, element.get()));
                match jsonrpc::parse_message(element) {
                    Ok(incoming) => message(body, element.get().as_bytes(), &incoming),
                    Err(malformed) => refused(body, &malformed),
                }
            }
        }
        Err(malformed) => refused(body, &malformed),
    }
}

/// `text` is the one message, `body` all that came.
fn message(body: &[u8], text: &[u8], incoming: &Incoming<'_>) {
    let written = fuzz::members(std::str::from_utf8(text).unwrap()).unwrap();
    let same = |name: &str, part: Option<&str>| match part {
        Some(part) => {
            assert!(fuzz::lies_in(body, part));
            assert_eq!(fuzz::one(&written, name), Some(part));
        }
        None => assert!(fuzz::one(&written, name).is_none_or(|value| value == "null"), "{name} is lost"),
    };
    match incoming {
        Incoming::Message(message) => {
            same("id", message.id.map(|id| id.get()));
            same("params", message.params.map(|params| params.get()));
            let method: String = serde_json::from_str(fuzz::one(&written, "method").unwrap()).unwrap();
            assert_eq!(method, message.method);
            if let Some(id) = message.id {
                answer(id.get());
            }
        }
        Incoming::Response(response) => {
            same("id", Some(response.id.get()));
            same("result", response.outcome.ok().map(|result| result.get()));
            same("error", response.outcome.err().map(|error| error.get()));
        }
    }
}

fn refused(body: &[u8], malformed: &Malformed<'_>) {
    if let Some(id) = malformed.id {
        assert!(fuzz::lies_in(body, id.get()));
        answer(id.get());
    }
    let mut out = Vec::new();
    let id = malformed.id.map_or("null", |id| id.get());
    jsonrpc::write_error(&mut out, id, &jsonrpc::error_object(&malformed.refusal, &"req"));
    assert!(fuzz::is_json(&out));
}

fn answer(id: &str) {
    let mut out = Vec::new();
    jsonrpc::write_result(&mut out, id, br#"{"a":1.0}"#);
    let written = fuzz::members(std::str::from_utf8(&out).unwrap()).unwrap();
    assert_eq!(fuzz::one(&written, "id"), Some(id));
    assert_eq!(fuzz::one(&written, "result"), Some(r#"{"a":1.0}"#));
}

fn child(line: &[u8]) {
    let read = envelope::read(line);
    for message in read {
        one(line, &message);
    }
    // The quick way does not take a line with a space before it.
    let spaced = [b" ", line].concat();
    let same = envelope::read(line) == envelope::read(&spaced);
    assert!(same, "{:?} is {:?} with a space before it", envelope::read(line), envelope::read(&spaced));
}

fn one(line: &[u8], message: &Message<'_>) {
    let whole = |part: &str| {
        assert!(fuzz::lies_in(line, part));
        assert!(fuzz::is_json(part.as_bytes()));
    };
    match message {
        Message::Result { result, .. } => whole(result),
        Message::Error { error, .. } => assert!(fuzz::is_json(error.as_bytes())),
        Message::Unreadable { meant, fault, original } => {
            let written = |id: &u64| String::from_utf8_lossy(line).contains(&id.to_string());
            let ids: &[u64] = if let Meant::Ids(ids) = meant { ids } else { &[] };
            assert!(ids.iter().all(written), "an id is nowhere in the line");
            let refusal = message::unreadable("s", fault, Some(original));
            assert!(fuzz::is_json(&jsonrpc::error_object(&refusal, &"req")));
        }
        Message::Request { id, params, .. } => {
            whole(id);
            params.iter().for_each(|params| whole(params));
            answer(id);
        }
        Message::Notification { params, .. } => params.iter().for_each(|params| whole(params)),
        Message::Noise => {}
    }
}

/// Lines come out as they went in, whatever the pieces.
fn lines(data: &[u8]) {
    let Some((&[cap, piece], input)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (cap, piece) = (usize::from(cap), usize::from(piece) + 1);
    let mut buffer = LineBuffer::new(cap);
    let mut expected = input.split(|byte| *byte == b'\n');
    for part in input.chunks(piece) {
        let Ok(space) = buffer.space() else { return };
        space[..part.len()].copy_from_slice(part);
        buffer.filled(part.len());
        loop {
            match buffer.next_line() {
                Ok(Some(range)) => {
                    let line = expected.next().unwrap();
                    assert!(line.len() <= cap);
                    assert_eq!(buffer.bytes(range.clone()), line);
                    assert_eq!(&*buffer.take(range), line);
                }
                Ok(None) => break,
                Err(_) => {
                    assert!(expected.next().unwrap().len() > cap);
                    return;
                }
            }
        }
    }
    assert!(expected.next().unwrap().len() <= cap && expected.next().is_none(), "a line was not found");
}
