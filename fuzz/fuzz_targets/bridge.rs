//! Messages in the other era's form: what comes out is JSON, every member that is not touched is there
//! byte for byte and in its place, and what must not cross does not.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::mcp::{Era, MODERN, meta, method};
use protocol::members::raw;
use protocol::{Code, Members, Refusal};
use proxy::bridge::{Client, Errand, Sealer, errors, handshake, meta as about, results};
use proxy::upstream::{Initialized, Params, UpstreamAnswer};

const WORDS: &[&str] = &[
    "_meta",
    "resultType",
    "ttlMs",
    "cacheScope",
    "structuredContent",
    "tools",
    "outputSchema",
    "type",
    "object",
    "array",
    "requestState",
    "inputRequests",
    "inputResponses",
    "input_required",
    "complete",
    "method",
    "params",
    "elicitation/create",
    "code",
    "message",
    "data",
    "elicitations",
    "url",
    "originalCode",
    "originalData",
    "progressToken",
    "capabilities",
    "serverInfo",
    "extensions",
    "tasks",
    "protocolVersion",
    "supportedVersions",
    "execution",
    "taskSupport",
    "task",
    "list",
    "instructions",
    "io.modelcontextprotocol/tasks",
    meta::SERVER_INFO,
    meta::PROTOCOL_VERSION,
    meta::CLIENT_CAPABILITIES,
    "vendor/x",
    "sealed:state",
];

type All = Vec<(String, String)>;

fuzz_target!(|data: &[u8]| {
    let Some(text) = fuzz::text(data, WORDS) else { return };
    let text = text.trim_matches([' ', '\n', '\r', '\t']);
    let Some(before) = fuzz::members(text) else { return };
    members(text, &before);
    for asked in [method::TOOLS_CALL, method::TOOLS_LIST, method::RESOURCES_READ] {
        to_modern(asked, text, &before);
        to_legacy(asked, text, &before);
    }
    state(text, &before);
    codes(text, &before);
    hands(text, &before);
    for client in [Era::Legacy, Era::Modern] {
        for upstream in [Era::Legacy, Era::Modern] {
            params(client, upstream, text, &before);
        }
    }
    for prefix in [r#"{"code":-32042"#, r#"{"code":-32021"#, r#"{"code":-32002,"message":"m""#] {
        let more = if before.is_empty() { "" } else { "," };
        let error = format!("{prefix}{more}{}", text[1..].trim_start());
        codes(&error, &fuzz::members(&error).unwrap());
        let error = format!(r#"{prefix},"data":{text}}}"#);
        codes(&error, &fuzz::members(&error).unwrap());
    }
});

fn of(out: &[u8]) -> All {
    let text = std::str::from_utf8(out).expect("text");
    fuzz::members(text).unwrap_or_else(|| panic!("not an object: {text}"))
}

/// Everything but the members of these names is the same, in the same order.
fn same_but(before: &All, after: &All, touched: &[&str]) {
    let rest = |all: &All| -> All {
        all.iter().filter(|(name, _)| !touched.contains(&name.as_str())).cloned().collect()
    };
    assert_eq!(rest(before), rest(after));
}

fn members(text: &str, before: &All) {
    let read = Members::read(text);
    assert_eq!(read.is_err(), fuzz::doubled(before));
    let Ok(mut read) = read else { return };
    assert_eq!(of(read.write().as_bytes()), *before);
    read.set("_meta", raw("[1.0]"));
    read.set_text("ä\"", "\u{0}\"");
    read.retain(|name| name != "tools");
    let after = of(read.write().as_bytes());
    same_but(before, &after, &["_meta", "ä\"", "tools"]);
    assert_eq!(fuzz::one(&after, "_meta"), Some("[1.0]"));
    assert_eq!(fuzz::one(&after, "tools"), None);
}

fn to_modern(asked: &str, text: &str, before: &All) {
    let server = raw(r#"{"name":"s"}"#);
    let after = of(&results::to_modern(asked, Bytes::copy_from_slice(text.as_bytes()), Some(&server)));
    let added: &[&str] = match asked {
        method::TOOLS_CALL => &["resultType"],
        _ => &["resultType", "ttlMs", "cacheScope"],
    };
    if fuzz::doubled(before) {
        // It is not ours to say which one is meant.
        let kept = before.iter().all(|member| after.contains(member));
        return assert!(kept);
    }
    assert!(!fuzz::doubled(&after), "given twice");
    for name in added {
        let own = fuzz::one(before, name);
        assert!(fuzz::one(&after, name).is_some_and(|now| own.is_none_or(|own| own == now)), "{name}");
    }
    let tools = if asked == method::TOOLS_LIST { "tools" } else { "" };
    same_but(before, &after, &[added, &["_meta", tools]].concat());
    if let (Some(own), Some(now)) = (fuzz::one(before, tools), fuzz::one(&after, tools)) {
        each_tool(own, now, |own, now| {
            same_but(own, now, &["execution"]);
            let own = fuzz::members(fuzz::one(own, "execution").unwrap()).unwrap();
            let now = fuzz::one(now, "execution").map(|now| fuzz::members(now).unwrap());
            same_but(&own, &now.unwrap_or_default(), &["taskSupport"]);
        });
    }
    let own = fuzz::one(before, "_meta").and_then(fuzz::members).filter(|own| !fuzz::doubled(own));
    let now = fuzz::members(fuzz::one(&after, "_meta").unwrap()).unwrap();
    same_but(&own.unwrap_or_default(), &now, &[meta::SERVER_INFO]);
    assert!(fuzz::one(&now, meta::SERVER_INFO).is_some());
}

fn to_legacy(asked: &str, text: &str, before: &All) {
    let after = of(&results::to_legacy(asked, Bytes::copy_from_slice(text.as_bytes())));
    if fuzz::doubled(before) {
        return assert_eq!(*before, after);
    }
    let gone = ["resultType", "ttlMs", "cacheScope"];
    assert!(gone.iter().all(|name| fuzz::one(&after, name).is_none()));
    let touched = match asked {
        method::TOOLS_CALL => "structuredContent",
        method::TOOLS_LIST => "tools",
        _ => "",
    };
    same_but(before, &after, &[&gone[..], &[touched]].concat());
    let (own, now) = (fuzz::one(before, touched), fuzz::one(&after, touched));
    assert_eq!(own.is_some(), now.is_some());
    let (Some(own), Some(now)) = (own, now) else { return };
    if asked == method::TOOLS_CALL {
        let wrapped = format!(r#"{{"result":{own}}}"#);
        return assert_eq!(now, if own.starts_with('{') { own } else { &wrapped });
    }
    each_tool(own, now, |own, now| {
        same_but(own, now, &["outputSchema"]);
        assert!(fuzz::one(now, "outputSchema").is_none());
    });
}

/// Checks each tool that is not as it was.
fn each_tool(own: &str, now: &str, check: impl Fn(&All, &All)) {
    let items = |list: &str| serde_json::from_str::<Vec<Box<serde_json::value::RawValue>>>(list);
    let (Ok(own), Ok(now)) = (items(own), items(now)) else { return assert_eq!(own, now) };
    assert_eq!(own.len(), now.len());
    for (own, now) in own.iter().zip(&now).filter(|(own, now)| own.get() != now.get()) {
        check(&fuzz::members(own.get()).unwrap(), &fuzz::members(now.get()).unwrap());
    }
}

struct Plainly;

impl Sealer for Plainly {
    fn seal(&self, text: &str) -> String {
        format!("sealed:{text}")
    }

    fn open(&self, sealed: &str) -> Result<String, Refusal> {
        let open = sealed.strip_prefix("sealed:").map(ToOwned::to_owned);
        open.ok_or_else(|| Refusal::new(Code::InvalidParams, "not sealed"))
    }
}

fn string(raw: Option<&str>) -> Option<String> {
    serde_json::from_str(raw?).ok()
}

fn state(text: &str, before: &All) {
    let after = of(&results::seal_state(Bytes::copy_from_slice(text.as_bytes()), &Plainly));
    same_but(before, &after, &["requestState"]);
    if fuzz::doubled(before) {
        return;
    }
    match string(fuzz::one(before, "requestState")) {
        Some(own) => assert_eq!(string(fuzz::one(&after, "requestState")), Some(format!("sealed:{own}"))),
        None => assert_eq!(*before, after),
    }
    let asks = string(fuzz::one(before, "resultType")).as_deref() == Some("input_required");
    if let Some(asked) = results::asked(text.as_bytes()) {
        assert!(asks);
        assert_eq!(asked.state, string(fuzz::one(before, "requestState")));
    }
    assert!(results::asked(format!("[{text}]").as_bytes()).is_none());
    assert!(results::asked(br#"["input_required",{},"state"]"#).is_none(), "a result is an object");
}

static URLS: LazyLock<Client> =
    LazyLock::new(|| Client::new(Era::Modern, MODERN, Some(raw(r#"{"elicitation":{"url":{}}}"#))));
static NOTHING: LazyLock<Client> = LazyLock::new(|| Client::new(Era::Modern, MODERN, None));

fn codes(text: &str, before: &All) {
    let error = Bytes::copy_from_slice(text.as_bytes());
    let given = fuzz::one(before, "code").and_then(|code| code.parse::<i64>().ok());
    moved(
        text,
        before,
        given,
        given.is_some_and(|code| (-32022..=-32020).contains(&code)),
        &errors::to_legacy(error.clone()),
    );
    for client in [&*URLS, &*NOTHING] {
        match errors::to_modern(client, error.clone()) {
            UpstreamAnswer::Result(result) => {
                assert!(client.can.elicit_url && given == Some(-32042));
                let asked = results::asked(&result).expect("it asks");
                assert!(asked.requests.iter().all(|(_, one)| one.method == "elicitation/create"));
                assert!(!asked.requests.is_empty());
            }
            UpstreamAnswer::Error(error) => {
                let reserved = given.is_some_and(|code| (-32099..=-32000).contains(&code));
                moved(text, before, given, reserved, &error);
            }
        }
    }
}

/// An error whose code was reserved has another one, and everything else that it had.
fn moved(text: &str, before: &All, given: Option<i64>, reserved: bool, after: &[u8]) {
    let after_all = of(after);
    if !reserved || fuzz::doubled(before) {
        return assert_eq!(after, text.as_bytes());
    }
    same_but(before, &after_all, &["code", "data"]);
    let code: i64 = fuzz::one(&after_all, "code").unwrap().parse().unwrap();
    assert!([-32602, -32603].contains(&code));
    let data = fuzz::members(fuzz::one(&after_all, "data").unwrap()).unwrap();
    assert_eq!(fuzz::one(&data, "originalCode"), given.map(|code| code.to_string()).as_deref());
    let Some(own) = fuzz::one(before, "data") else { return };
    match fuzz::members(own).filter(|own| !fuzz::doubled(own)) {
        Some(own) => same_but(&own, &data, &["originalCode"]),
        None => assert_eq!(fuzz::one(&data, "originalData"), Some(own)),
    }
}

fn hands(text: &str, before: &All) {
    let initialized = |era| Initialized {
        era,
        result: Bytes::copy_from_slice(text.as_bytes()),
        protocol_version: String::new(),
        generation: 1,
    };
    let legacy = of(handshake::to_legacy(&initialized(Era::Modern), "2025-03-26").as_bytes());
    let modern = of(handshake::to_modern(&initialized(Era::Legacy)).as_bytes());
    if fuzz::doubled(before) {
        return assert!(legacy.is_empty() && modern.is_empty());
    }
    let ours = [
        "resultType",
        "supportedVersions",
        "ttlMs",
        "cacheScope",
        "serverInfo",
        "protocolVersion",
        "capabilities",
        "_meta",
    ];
    same_but(before, &legacy, &ours);
    same_but(before, &modern, &ours);
    assert_eq!(fuzz::one(before, "_meta"), fuzz::one(&legacy, "_meta"));
    assert_eq!(string(fuzz::one(&legacy, "protocolVersion")).as_deref(), Some("2025-03-26"));
    assert_eq!(string(fuzz::one(&modern, "cacheScope")).as_deref(), Some("private"));
    let own = fuzz::one(before, "capabilities").and_then(fuzz::members).filter(|own| !fuzz::doubled(own));
    let own = own.unwrap_or_default();
    let now = |all: &All| fuzz::members(fuzz::one(all, "capabilities").unwrap()).unwrap();
    same_but(&own, &now(&legacy), &["extensions", "tasks"]);
    same_but(&own, &now(&modern), &["tasks"]);
    assert!(fuzz::one(&now(&modern), "tasks").is_none());
}

fn params(era: Era, upstream: Era, text: &str, before: &All) {
    let client = Arc::new(Client::new(era, MODERN, Some(raw(r#"{"elicitation":{}}"#))));
    let errand = Errand {
        client: &client,
        method: method::TOOLS_CALL,
        params: Params::raw(text.as_bytes()),
        marked: true,
        timeout: Duration::from_secs(1),
        voice: None,
        sealer: &Plainly,
        headers: &[],
        caller: None,
    };
    let own = fuzz::one(before, "_meta").map(fuzz::members);
    let Ok(prepared) = about::prepare(&errand, upstream) else { return };
    assert!(!fuzz::doubled(before), "two readers could take different ones");
    let own = own.unwrap_or_else(|| Some(Vec::new())).expect("`_meta` is an object");
    let token = fuzz::one(&own, "progressToken");
    assert_eq!(token, prepared.progress.as_ref().map(|(_, token)| token.get()));
    let Some(edited) = prepared.edited else {
        assert!(era == upstream && token.is_none());
        return assert!(era == Era::Legacy || fuzz::one(before, "requestState").is_none());
    };
    let after = of(edited.as_bytes());
    assert!(!fuzz::doubled(&after));
    let task = if (era, upstream) == (Era::Legacy, Era::Modern) { "task" } else { "" };
    same_but(before, &after, &["_meta", "requestState", "inputResponses", task]);
    let now = fuzz::one(&after, "_meta").map(|now| fuzz::members(now).unwrap()).unwrap_or_default();
    let vendors = |all: &All| -> All {
        all.iter().filter(|(name, _)| !name.starts_with(meta::RESERVED)).cloned().collect()
    };
    same_but(&vendors(&own), &vendors(&now), &["progressToken"]);
    let ours = prepared.progress.map(|(token, _)| token.to_string());
    assert_eq!(fuzz::one(&now, "progressToken"), ours.as_deref());
    match (era, upstream) {
        (Era::Modern, Era::Legacy) => {
            assert!(now.iter().all(|(name, _)| !name.starts_with(meta::RESERVED)));
            assert!(
                fuzz::one(&after, "requestState").is_none() && fuzz::one(&after, "inputResponses").is_none()
            );
        }
        (Era::Legacy, Era::Modern) => {
            assert_eq!(string(fuzz::one(&now, meta::PROTOCOL_VERSION)).as_deref(), Some(MODERN));
            assert_eq!(fuzz::one(&now, meta::CLIENT_CAPABILITIES), Some(r#"{"elicitation":{"form":{}}}"#));
        }
        (Era::Modern, Era::Modern) => {
            let sealed = string(fuzz::one(before, "requestState"));
            let opened = sealed.map(|sealed| sealed.strip_prefix("sealed:").unwrap().to_owned());
            assert_eq!(string(fuzz::one(&after, "requestState")), opened);
        }
        (Era::Legacy, Era::Legacy) => same_but(before, &after, &["_meta"]),
    }
}
