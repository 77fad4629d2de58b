//! Headers and body of a request. One that is taken for legacy says nowhere that it is modern; in a
//! modern one that is taken, headers and body say the same.

#![no_main]

use api::fuzzing::{Verdict, classify};
use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use protocol::mcp::{MODERN, header, meta, method};
use proxy::header_params::decode;

const WORDS: &[&str] = &[
    "_meta",
    meta::PROTOCOL_VERSION,
    meta::CLIENT_CAPABILITIES,
    meta::CLIENT_INFO,
    meta::LOG_LEVEL,
    MODERN,
    "2025-06-18",
    "name",
    "uri",
    "taskId",
    "arguments",
    "echo",
    "file:///a",
    "cursor",
    "ref",
    "ref/prompt",
    "type",
    "progressToken",
    "requestState",
    "elicitation",
    "sampling",
];
const METHODS: &[&str] = &[
    method::TOOLS_CALL,
    method::RESOURCES_READ,
    method::PROMPTS_GET,
    method::TASKS_GET,
    method::TASKS_CANCEL,
    method::TOOLS_LIST,
    method::DISCOVER,
    method::PING,
    method::INITIALIZE,
    method::COMPLETE,
    method::LISTEN,
    method::CANCELLED,
    "vendor/own",
];

struct Request {
    door: Option<&'static str>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let request = match data.strip_prefix(b"POST ") {
        Some(text) => written(text),
        None => made(&mut Unstructured::new(data)).ok(),
    };
    let Some(Request { door, headers, body }) = request else { return };
    let sent: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let verdict = classify(door, &sent, &body).unwrap();
    match verdict {
        Verdict::Refused(_) | Verdict::Batch => {}
        Verdict::Legacy => legacy(&body),
        Verdict::Modern => modern(door, &headers, &body),
    }
});

fn legacy(body: &[u8]) {
    let message = fuzz::members(std::str::from_utf8(body).unwrap()).unwrap();
    let Some(params) = fuzz::one(&message, "params").and_then(fuzz::members) else { return };
    for (_, about) in params.iter().filter(|(name, _)| name == "_meta") {
        for (name, value) in fuzz::members(about).unwrap_or_default() {
            let says =
                [meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES].contains(&&*name) && value != "null";
            assert!(!says, "legacy, with {name}");
        }
    }
}

fn modern(door: Option<&str>, headers: &[(Vec<u8>, Vec<u8>)], body: &[u8]) {
    let message = fuzz::members(std::str::from_utf8(body).unwrap()).unwrap();
    let (Some(_), Some(asked)) = (fuzz::one(&message, "id"), fuzz::one(&message, "method")) else { return };
    let asked: String = serde_json::from_str(asked).unwrap();
    let params = fuzz::members(fuzz::one(&message, "params").expect("a modern request has params")).unwrap();
    let about = fuzz::one(&params, "_meta").expect("a modern request has one `_meta`");
    let about = fuzz::members(about).unwrap();
    let text = |all: &[(String, String)], name: &str| -> Option<String> {
        serde_json::from_str(fuzz::one(all, name)?).ok()
    };
    assert_eq!(text(&about, meta::PROTOCOL_VERSION).as_deref(), Some(MODERN));
    assert!(fuzz::one(&about, meta::CLIENT_CAPABILITIES).unwrap().starts_with('{'));
    let must = door.is_some();
    said(headers, header::PROTOCOL_VERSION, must, MODERN);
    said(headers, header::METHOD, must, &asked);
    let member = match &*asked {
        method::TOOLS_CALL | method::PROMPTS_GET => "name",
        method::RESOURCES_READ => "uri",
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => "taskId",
        _ => return,
    };
    said(headers, header::NAME, must, &text(&params, member).expect("a name"));
}

/// A header is there once and says this; only `/mcp/rpc` may do without it.
fn said(headers: &[(Vec<u8>, Vec<u8>)], name: &str, must: bool, expected: &str) {
    let mut found = headers.iter().filter(|(own, value)| {
        own.eq_ignore_ascii_case(name.as_bytes())
            && value.iter().all(|byte| *byte >= 32 && *byte != 127 || *byte == 9)
    });
    let Some((_, value)) = found.next() else { return assert!(!must, "{name} is missing") };
    assert!(found.next().is_none(), "{name} is given twice");
    let value = std::str::from_utf8(value).unwrap();
    let value = if name == header::NAME { decode(value).unwrap() } else { value.trim().to_owned() };
    assert_eq!(value, expected, "{name}");
}

/// A seed: the door, headers, an empty line, the body.
fn written(text: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(text).ok()?;
    let (head, body) = text.split_once("\n\n")?;
    let mut lines = head.lines();
    let door = door(lines.next()?)?;
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.into(), value.trim().into()));
    Some(Request { door, headers: lines.filter_map(pair).collect(), body: body.into() })
}

fn door(path: &str) -> Option<Option<&'static str>> {
    match path {
        "/mcp/rpc" => Some(None),
        "/mcp" => Some(Some("")),
        "/mcp/s/fix" => Some(Some("fix")),
        _ => None,
    }
}

/// A request that is nearly right.
fn made(u: &mut Unstructured<'_>) -> Result<Request> {
    let door = *u.choose(&[None, Some(""), Some("fix")])?;
    let asked = *u.choose(METHODS)?;
    let name: String = match u.ratio(3, 4)? {
        true => (*u.choose(&["echo", "fix__echo", "file:///a", "t1", "grüße", ""])?).to_owned(),
        false => u.arbitrary::<&str>()?.chars().take(30).collect(),
    };
    let literal = serde_json::to_string(&name).unwrap();
    let mut params = Vec::new();
    if u.ratio(7, 8)? {
        params.push(format!("\"{}\":{literal}", u.choose(&["name", "uri", "taskId"])?));
    }
    if u.ratio(7, 8)? {
        let version = *u.choose(&[MODERN, MODERN, MODERN, "2025-06-18", "v9"])?;
        let more = fuzz::object(u, WORDS, 2)?;
        let more = more[1..].trim_start();
        let comma = if more == "}" { "" } else { "," };
        let (protocol, capabilities) = (meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES);
        params.push(match u.int_in_range(0..=7)? {
            0 => format!(r#""_meta":{{"{protocol}":"{version}"{comma}{more}"#),
            1 => format!(r#""_meta":{}"#, fuzz::value(u, WORDS, 2)?),
            _ => format!(r#""_meta":{{"{protocol}":"{version}","{capabilities}":{{}}{comma}{more}"#),
        });
    }
    for _ in 0..u.int_in_range(0..=2)? {
        params.push(format!("{}:{}", fuzz::string(u, WORDS)?, fuzz::value(u, WORDS, 2)?));
    }
    let id = *u.choose(&[r#""id":1,"#, r#""id":"a","#, ""])?;
    let mut body = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{asked}","params":{{{}}}}}"#, params.join(","));
    if u.ratio(1, 16)? {
        body = format!("[{body}]");
    }
    let mut headers = Vec::new();
    for (header, value) in
        [(header::PROTOCOL_VERSION, MODERN), (header::METHOD, asked), (header::NAME, &*name)]
    {
        for _ in 0..*u.choose(&[1, 1, 1, 1, 1, 1, 0, 2])? {
            let value = match u.int_in_range(0..=15)? {
                0 => u.arbitrary::<&str>()?.as_bytes().to_vec(),
                1 => u.arbitrary::<&[u8]>()?.to_vec(),
                2 => u.choose(WORDS)?.as_bytes().to_vec(),
                3 => format!(" {value}\t").into_bytes(),
                _ if header == header::NAME => proxy::header_params::encode(value).into_bytes(),
                _ => value.as_bytes().to_vec(),
            };
            headers.push((header.as_bytes().to_vec(), value));
        }
    }
    Ok(Request { door, headers, body: body.into_bytes() })
}
