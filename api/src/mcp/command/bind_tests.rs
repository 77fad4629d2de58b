//! Tests of the binding of slash commands.

use protocol::slash;
use serde_json::{Map, Value, json};

use super::Operation;
use super::bind::{bind, usage};

fn operation(name: &str, schema: Value) -> Operation {
    Operation { name: name.to_owned(), description: None, input_schema: schema }
}

fn operations() -> Vec<Operation> {
    vec![
        operation(
            "list_issues",
            json!({
                "properties": {
                    "labels": { "type": "array", "items": { "type": "string" } },
                    "limit": { "type": ["integer", "null"] },
                    "perPage": { "type": "number" },
                    "draft": { "type": "boolean" },
                    "state": { "enum": ["open", "closed"] },
                    "anything": {},
                },
            }),
        ),
        operation(
            "create_pr",
            json!({
                "properties": { "title": { "type": "string" }, "body": { "type": "string" }, "meta": { "type": "object" } },
                "required": ["title", "body"],
            }),
        ),
        operation(
            "execute",
            json!({
                "properties": { "workflow_id": { "type": "string" }, "data": { "anyOf": [{ "type": "object" }, { "type": "null" }] } },
                "required": ["workflow_id", "data"],
            }),
        ),
        operation("list_tables", json!({ "properties": {} })),
        operation(
            "dnsListRecords",
            json!({ "properties": { "zone": { "type": "string" } }, "required": ["zone"] }),
        ),
    ]
}

fn bound(line: &str) -> Result<(String, Value), String> {
    let line = slash::read(line).map_err(|mistake| mistake.to_string())?;
    let bound = bind(&line, &operations());
    bound
        .map(|bound| (bound.tool, Value::Object(bound.arguments)))
        .map_err(|refusal| format!("{}; {}", refusal.reason, refusal.remedy()))
}

#[test]
fn words_become_a_tool_and_its_arguments() {
    for (line, tool, arguments) in [
        ("/mcp-x list-issues", "list_issues", json!({})),
        ("/mcp-x list issues --labels=bug --labels=old", "list_issues", json!({ "labels": ["bug", "old"] })),
        (
            r#"/mcp-x LIST_ISSUES --labels=["a","b"] --labels=c"#,
            "list_issues",
            json!({ "labels": ["a", "b", "c"] }),
        ),
        ("/mcp-x listIssues --limit=5 --per-page=1.5", "list_issues", json!({ "limit": 5, "perPage": 1.5 })),
        ("/mcp-x list-issues --limit=null --draft", "list_issues", json!({ "limit": null, "draft": true })),
        (
            "/mcp-x list-issues --no-draft --state=open",
            "list_issues",
            json!({ "draft": false, "state": "open" }),
        ),
        ("/mcp-x list-issues --anything=007", "list_issues", json!({ "anything": "007" })),
        ("/mcp-x list-issues --anything=7", "list_issues", json!({ "anything": 7 })),
        (r#"/mcp-x list-issues --anything="7""#, "list_issues", json!({ "anything": "7" })),
        (
            r#"/mcp-x create-pr "feat: Add" 007 --meta={"a":1}"#,
            "create_pr",
            json!({ "title": "feat: Add", "body": "007", "meta": { "a": 1 } }),
        ),
        ("/mcp-x create-pr --body=b t", "create_pr", json!({ "title": "t", "body": "b" })),
        (r#"/mcp-x create-pr {"title":"t","body":"b"}"#, "create_pr", json!({ "title": "t", "body": "b" })),
        (
            r#"/mcp-x create-pr -- --title "{env.HOME}""#,
            "create_pr",
            json!({ "title": "--title", "body": "{env.HOME}" }),
        ),
        (
            r#"/mcp-x execute workflow_123 {"data": "payload"}"#,
            "execute",
            json!({ "workflow_id": "workflow_123", "data": { "data": "payload" } }),
        ),
        ("/mcp-x list tables", "list_tables", json!({})),
        ("/mcp-x dns list-records ozean-licht.dev", "dnsListRecords", json!({ "zone": "ozean-licht.dev" })),
    ] {
        assert_eq!(bound(line), Ok((tool.to_owned(), arguments)), "{line}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    for (line, parts) in [
        ("/mcp-x --draft", ["the operation is missing", "list_issues, create_pr"]),
        ("/mcp-x list-isues", ["no operation `list-isues`", "did you mean `list_issues`?"]),
        ("/mcp-x zzz", ["no operation `zzz`", "the operations are list_issues"]),
        ("/mcp-x \"list-issues\"", ["the operation is missing", "the operations are"]),
        (
            "/mcp-x list-issues --lable=bug",
            ["no option --lable; did you mean --labels?", "usage: /mcp-x list-issues"],
        ),
        ("/mcp-x list-issues --limit=ten", ["`limit` is a whole number, not `ten`", "usage"]),
        ("/mcp-x list-issues --limit=1.5", ["`limit` is a whole number, not `1.5`", "usage"]),
        ("/mcp-x list-issues --limit", ["--limit needs a value", "usage"]),
        ("/mcp-x list-issues --draft=yes", ["`draft` is true or false, not `yes`", "usage"]),
        ("/mcp-x list-issues --draft --draft", ["--draft is given twice", "usage"]),
        ("/mcp-x list-issues bug", ["`bug` is one value too many", "usage"]),
        ("/mcp-x create-pr t", ["missing body", "usage: /mcp-x create-pr <title> <body> [--meta=…]"]),
        ("/mcp-x create-pr t b {\"a\":1}", ["one value too many", "usage"]),
        ("/mcp-x create-pr --title=a --title=b c", ["--title is given twice", "usage"]),
        ("/mcp-x execute w payload", ["`data` is an object", "usage"]),
        ("/mcp-x list-issues --labels={\"a\":1}", ["`labels` is a list", "usage"]),
    ] {
        let mistake = bound(line).unwrap_err();
        assert!(parts.iter().all(|part| mistake.contains(part)), "{line}: {mistake}");
    }
    assert_eq!(
        usage("x", &operations()[0]),
        "/mcp-x list-issues [--anything=…] [--draft] [--labels=…] [--limit=…] [--perPage=…] [--state=…]"
    );
}

/// Random numbers of a seed (a linear congruential generator), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn text(&mut self) -> String {
        let odd = [
            'a',
            'Z',
            '0',
            ' ',
            '"',
            '\'',
            '\\',
            '{',
            '}',
            '[',
            ']',
            '-',
            '=',
            ',',
            '\n',
            '\0',
            '\u{7f}',
            'é',
            '\u{1f600}',
            '$',
        ];
        (0..self.below(12)).map(|_| odd[self.below(odd.len() as u64) as usize]).collect()
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => json!(self.0.cast_signed()),
            3 => json!(self.below(1 << 30) as f64 / 8.0),
            4 => json!(self.text()),
            5 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                (0..self.below(4)).map(|_| (self.text(), self.value(depth - 1))).collect::<Map<_, _>>().into()
            }
        }
    }
}

/// Any JSON argument survives being written as a command and read back.
#[test]
fn arguments_survive_being_written_as_a_command() {
    let operations = [operation(
        "run",
        json!({ "properties": {
        "text": { "type": "string" }, "whole": { "type": "integer" }, "number": { "type": "number" },
        "flag": { "type": "boolean" }, "object": { "type": "object" }, "list": { "type": "array" }, "any": {},
    } }),
    )];
    let mut random = Random(20_261_128);
    for round in 0..5_000 {
        let arguments: Map<String, Value> = [
            ("text", json!(random.text())),
            ("whole", json!(random.0.cast_signed())),
            ("number", json!(random.below(1 << 30) as f64 / 3.0)),
            ("flag", json!(random.below(2) == 0)),
            ("object", json!({ (random.text()): random.value(3) })),
            ("list", json!([random.value(3), random.value(1)])),
            ("any", random.value(3)),
        ]
        .into_iter()
        .filter(|_| round % 2 == 0 || random.below(3) > 0)
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let line = slash::write("x", "run", &arguments);
        let read = slash::read(&line).unwrap_or_else(|mistake| panic!("{line}: {mistake}"));
        let bound = bind(&read, &operations).unwrap_or_else(|refusal| panic!("{line}: {refusal}"));
        assert_eq!(bound.arguments, arguments, "{line}");
    }
}
