//! Nothing is lost on the way: generated params and results, with members that nobody knows, numbers that
//! no machine has, and texts in all spellings, come through each pair of matching eras as they were
//! written, and across the eras too.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tests::mcp_client::LEGACY;
use tests::{Backend, Case, McpClient, cases, json};

use crate::pair::{DOORS, Door, Pair};

pub const CASES: &[Case] = cases![
    Every: calls_between_legacy, calls_between_modern;
    Once: calls_across_eras;
];

/// So many generated calls at each endpoint.
const ROUNDS: u64 = 60;

/// A JSON text as a tree in which numbers keep their spelling. Two texts with equal trees are the same.
#[derive(Debug, PartialEq)]
enum Tree {
    Object(BTreeMap<String, Tree>),
    Array(Vec<Tree>),
    /// A string that can be read, unescaped.
    Text(String),
    /// Anything else, as it is written.
    Written(String),
}

fn tree(text: &str) -> Tree {
    let text = text.trim();
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("an object");
            Tree::Object(members.into_iter().map(|(name, value)| (name, tree(value.get()))).collect())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).expect("an array");
            Tree::Array(items.into_iter().map(|item| tree(item.get())).collect())
        }
        Some(b'"') => match serde_json::from_str(text) {
            Ok(unescaped) => Tree::Text(unescaped),
            Err(_) => Tree::Written(text.to_owned()),
        },
        _ => Tree::Written(text.to_owned()),
    }
}

impl Tree {
    fn member(&self, name: &str) -> &Tree {
        match self {
            Tree::Object(members) => members.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")),
            _ => panic!("no object: {self:?}"),
        }
    }
}

/// A small generator (xorshift) whose seed stands in every failure.
struct Generator(u64);

impl Generator {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.next(of.len() as u64)).unwrap()]
    }

    fn number(&mut self) -> &'static str {
        self.one(&[
            "0",
            "-0",
            "-0.0",
            "1.0",
            "1.50",
            "1e2",
            "1E+2",
            "1e400",
            "-1e-400",
            "18446744073709551615",
            "9223372036854775808",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "0.1000000000000000055511151231257827",
            "3.141592653589793238462643383279502884197",
        ])
    }

    fn text(&mut self) -> &'static str {
        self.one(&[
            r#""""#,
            r#""plain""#,
            r#""\u0000\u001f\u007f""#,
            r#""\ud83d\ude00 and 😀""#,
            r#""ünïcödé""#,
            r#""\u2028\u2029""#,
            r#""\/slash/""#,
            r#""\"\\\b\f\n\r\t""#,
            r#""\u00e9 e\u0301""#,
            r#""data: x\n\nid: 1\n\n""#,
            r#""\ufeff""#,
            r#""<script>&amp;""#,
            r#""\ud83d\udc68\u200d\ud83d\udc69""#,
        ])
    }

    fn name(&mut self) -> &'static str {
        self.one(&[
            "a",
            "x.example/y",
            "",
            "ключ",
            "with space",
            "_meta",
            "jsonrpc",
            "id",
            "method",
            "result",
            "error",
            "params",
            "__proto__",
            "resultType2",
            "😀",
            "0",
        ])
    }

    fn value(&mut self, depth: u64) -> String {
        match self.next(if depth == 0 { 5 } else { 8 }) {
            0 => self.number().to_owned(),
            1 | 2 => self.text().to_owned(),
            3 => self.one(&["true", "false", "null"]).to_owned(),
            4 => self.number().to_owned(),
            5 => {
                let items: Vec<String> = (0..self.next(4)).map(|_| self.value(depth - 1)).collect();
                format!("[{}]", items.join(" , "))
            }
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: u64) -> String {
        let mut members = BTreeMap::new();
        for _ in 0..self.next(5) {
            members.insert(self.name(), self.value(depth));
        }
        let written: Vec<String> =
            members.into_iter().map(|(name, value)| format!("{} :{value}", json!(name))).collect();
        format!("{{{}}}", written.join(", "))
    }
}

/// A hundred levels of objects and arrays.
fn deep() -> String {
    format!("{}1.0{}", r#"[{"a":"#.repeat(50), "}]".repeat(50))
}

/// Sends `test_echo_anything` with these arguments and members, and compares what comes back.
async fn echoes(client: &McpClient, door: Door, arguments: &str, member: &str, what: &str) {
    let meta = client.params(json!({}))["_meta"].clone();
    let meta = match meta.to_string().strip_suffix('}') {
        Some(meta) if client.is_modern() => format!(r#"{meta},"x.example/echo":{member}}}"#),
        _ => format!(r#"{{"x.example/echo":{member}}}"#),
    };
    let name = door.name("test_echo_anything");
    let text = format!(
        r#"{{"jsonrpc":"2.0","x.example/beside":{member},"id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments},"_meta":{meta},"x.example/member":{member}}}}}"#
    );
    let head = json!({ "id": 1, "method": "tools/call", "params": { "name": name } });
    let mut exchange = client.send_text(&head, &text).await;
    let answer = match exchange.next_text(std::time::Duration::from_secs(20)).await {
        Ok(answer) => answer,
        Err(silence) => panic!("{what}: no answer ({silence:?}): {exchange:?}"),
    };
    let answer = tree(&answer);
    assert_eq!(*answer.member("id"), Tree::Written("1".to_owned()), "{what}: {exchange:?}");
    let Tree::Object(members) = &answer else { panic!("no object: {exchange:?}") };
    assert!(members.contains_key("result"), "{what}: {exchange:?}");
    let result = answer.member("result");
    let seen = result.member("structuredContent");
    assert_eq!(*seen.member("arguments"), tree(arguments), "{what}: arguments at the server\n{text}");
    let expected = tree(member);
    assert_eq!(
        *seen.member("x.example/member"),
        expected,
        "{what}: a member of params at the server\n{text}"
    );
    assert_eq!(
        *seen.member("_meta").member("x.example/echo"),
        expected,
        "{what}: _meta at the server\n{text}"
    );
    assert_eq!(*result.member("x.example/member"), expected, "{what}: a member of the result\n{text}");
    assert_eq!(
        *result.member("_meta").member("x.example/echo"),
        expected,
        "{what}: _meta of the result\n{text}"
    );
    let block = r#"[{"type":"text","text":"everything","x.example/kept":1.0}]"#;
    assert_eq!(*result.member("content"), tree(block), "{what}: content");
}

async fn echo_all(client: &McpClient, door: Door, seed: u64) {
    for fixed in [deep(), "{}".to_owned(), r#"{"a":{"b":[{"c":18446744073709551615}]}}"#.to_owned()] {
        let arguments = format!(r#"{{"fixed":{fixed}}}"#);
        echoes(client, door, &arguments, &fixed, "fixed").await;
    }
    let mut generator = Generator(seed);
    for round in 0..ROUNDS {
        let (arguments, member) = (generator.object(6), generator.value(4));
        let what = format!("{} {} seed {seed} round {round}", client.version, client.path);
        echoes(client, door, &arguments, &member, &what).await;
    }
}

async fn calls_between_legacy(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for (seed, (door, version)) in
        DOORS.into_iter().flat_map(|door| [LEGACY[0], LEGACY[3]].map(|version| (door, version))).enumerate()
    {
        let client = pair.legacy(door, version, json!({})).await;
        echo_all(&client, door, 0x9e37_79b9 + seed as u64).await;
    }
}

async fn calls_between_modern(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "modern"]).await;
    for (seed, door) in DOORS.into_iter().enumerate() {
        echo_all(&pair.modern(door, json!({})), door, 0x51_7cc1 + seed as u64).await;
    }
}

async fn calls_across_eras(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for (seed, door) in DOORS.into_iter().enumerate() {
        echo_all(&pair.modern(door, json!({})), door, 0x1234_5678 + seed as u64).await;
    }
    drop(pair);
    let pair = Pair::start(backend, &["--era", "modern"]).await;
    for (seed, door) in DOORS.into_iter().enumerate() {
        let client = pair.legacy(door, LEGACY[seed + 1], json!({})).await;
        echo_all(&client, door, 0x8765_4321 + seed as u64).await;
    }
}
