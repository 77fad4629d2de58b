//! The table: what a server writes, and what its caller gets.

use tests::raw_server::{Manner, packed};
use tests::{Value, json};

/// The ways to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Stdio,
    /// Streamable HTTP: a body.
    Json,
    /// Streamable HTTP: a stream that ends after its event.
    Event,
    /// Streamable HTTP: a stream that goes on after its event.
    HeldOpen,
    /// HTTP with SSE.
    Sse,
    WebSocket,
}
use Way::{Event, HeldOpen, Json, Stdio, WebSocket};

/// What the caller gets.
#[derive(Clone)]
pub enum Gets {
    /// This text of a tool.
    Text(&'static str),
    /// The server's own error, as it is.
    Own(i64, &'static str),
    /// An error with this code; `data.original` is this.
    Error(i64, Value),
    /// An error of 50200 whose `data.original` is the line, as JSON or as text.
    Line,
    /// An error of 50200 for a connection that the server broke.
    Broken,
}
use Gets::{Broken, Error, Line, Own, Text};

pub struct Row {
    pub name: &'static str,
    pub method: &'static str,
    text: Vec<u8>,
    manner: Manner,
    gets: Gets,
    otherwise: Vec<(Way, Gets)>,
    only: Vec<Way>,
}

pub const CALL: &str = "tools/call";
const FINE: &str = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"a"}]}}"#;

fn row(name: &'static str, method: &'static str, text: impl Into<Vec<u8>>, gets: Gets) -> Row {
    let text = text.into();
    Row { name, method, text, manner: Manner::Usual, gets, otherwise: Vec::new(), only: Vec::new() }
}

fn call(name: &'static str, text: impl Into<Vec<u8>>, gets: Gets) -> Row {
    row(name, CALL, text, gets)
}

/// A call whose answer has this `error`.
fn error(name: &'static str, error: &str, code: i64) -> Row {
    let original = serde_json::from_str(error).expect("it is JSON");
    call(name, format!(r#"{{"jsonrpc":"2.0","id":$ID,"error":{error}}}"#), Error(code, original))
}

/// An answer with this `result`, which nobody can read.
fn result(name: &'static str, method: &'static str, result: &str) -> Row {
    let original = serde_json::from_str(result).expect("it is JSON");
    row(name, method, format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#), Error(50200, original))
}

/// An answer under this id, or a part of one.
fn under(name: &'static str, id: &str) -> Row {
    call(name, format!(r#"{{"jsonrpc":"2.0",{id}"result":{{"content":[]}}}}"#), Line)
}

impl Row {
    fn on(mut self, ways: &[Way], gets: &Gets) -> Row {
        self.otherwise.extend(ways.iter().map(|way| (*way, gets.clone())));
        self
    }

    fn by(self, manner: Manner) -> Row {
        Row { manner, ..self }
    }

    fn only(self, ways: &[Way]) -> Row {
        Row { only: ways.to_vec(), ..self }
    }

    pub fn is_for(&self, way: Way) -> bool {
        self.only.is_empty() || self.only.contains(&way)
    }

    pub fn gets(&self, way: Way) -> &Gets {
        self.otherwise.iter().find(|(other, _)| *other == way).map_or(&self.gets, |(_, gets)| gets)
    }

    pub fn params(&self) -> Value {
        let text = packed(&self.text);
        match self.method {
            "tools/call" => {
                json!({ "name": "raw", "arguments": { "text": text, "manner": self.manner.name() } })
            }
            "prompts/get" => json!({ "name": text }),
            "resources/read" => json!({ "uri": format!("raw:{text}") }),
            _ => {
                json!({ "ref": { "type": "ref/prompt", "name": text }, "argument": { "name": "a", "value": "" } })
            }
        }
    }
}

/// The usual answer with a byte in its text that is not UTF-8.
pub fn not_utf8() -> Vec<u8> {
    let mut answer = FINE.as_bytes().to_vec();
    let text = FINE.find(r#""a""#).expect("it has a text") + 1;
    answer[text] = 0xff;
    answer
}

/// What behaves, between the others.
pub fn fine() -> Row {
    call("usual", FINE, Text("a"))
}

pub fn all() -> Vec<Row> {
    [errors(), results(), ids(), envelopes(), texts(), pieces(), bodies()].into_iter().flatten().collect()
}

fn errors() -> Vec<Row> {
    vec![
        call(
            "error: as it should be",
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":8,"message":"m"}}"#,
            Own(8, "m"),
        ),
        error("error: a string", r#""no luck""#, 50200),
        error("error: an empty string", r#""""#, 50200),
        error("error: a string as code", r#"{"code":"E_NO","message":"no"}"#, 50200),
        error("error: digits as code", r#"{"code":"-32602","message":"no"}"#, 50200),
        error("error: null as code", r#"{"code":null,"message":"no"}"#, 50200),
        error("error: a fraction as code", r#"{"code":1.5,"message":"no"}"#, 50200),
        error("error: an integer written as a fraction", r#"{"code":9.0,"message":"no"}"#, 9),
        error("error: a code of more than 32 bits", r#"{"code":12345678901234,"message":"no"}"#, 50200),
        error("error: no code", r#"{"message":"no"}"#, 50200),
        error("error: a null message", r#"{"code":8,"message":null}"#, 8),
        error("error: a number as message", r#"{"code":8,"message":5}"#, 8),
        error("error: an object as message", r#"{"code":8,"message":{"a":1},"data":[2]}"#, 8),
        error("error: no message", r#"{"code":7}"#, 7),
        error("error: empty", "{}", 50200),
        error("error: an array", "[1]", 50200),
        error("error: a number", "7", 50200),
        error("error: true", "true", 50200),
        error("error: a code twice", r#"{"code":7,"code":7,"message":"no"}"#, 7),
        call("error: null", r#"{"jsonrpc":"2.0","id":$ID,"error":null}"#, Line),
    ]
}

fn results() -> Vec<Row> {
    vec![
        result("result: null", CALL, "null"),
        result("result: a string", CALL, r#""a""#),
        result("result: an array", CALL, r#"["a"]"#),
        result("result: a number", CALL, "7"),
        result("result: true", CALL, "true"),
        result("content: a string", CALL, r#"{"content":"a"}"#),
        result("content: null", CALL, r#"{"content":null}"#),
        result("content: an object", CALL, r#"{"isError":false,"content":{"type":"text","text":"a"}}"#),
        result("content: of strings", CALL, r#"{"content":["a"]}"#),
        result("content: of null", CALL, r#"{"content": [ null ]}"#),
        result("a resource: null", "resources/read", "null"),
        result("no contents", "resources/read", "{}"),
        result("contents: an object", "resources/read", r#"{"contents":{}}"#),
        result("contents: of strings", "resources/read", r#"{"contents":["a"]}"#),
        result("messages: null", "prompts/get", r#"{"messages":null}"#),
        result("messages: of strings", "prompts/get", r#"{"messages":["a"]}"#),
        result("a prompt: null", "prompts/get", "null"),
        result("a prompt: a string", "prompts/get", r#""a""#),
        result("completion: an array", "completion/complete", r#"{"completion":[]}"#),
        result("completion: no values", "completion/complete", r#"{"completion":{}}"#),
        result("a completion: null", "completion/complete", "null"),
    ]
}

fn ids() -> Vec<Row> {
    vec![
        under("id: a string", r#""id":"$ID","#),
        under("id: a fraction of nothing", r#""id":$ID.0,"#),
        under("id: a fraction", r#""id":$ID.5,"#),
        under("id: null", r#""id":null,"#),
        under("id: none", ""),
        under("id: another string", r#""id":"abc","#),
        under("id: an array", r#""id":[$ID],"#),
        under("id: an object", r#""id":{"id":$ID},"#),
        under("id: true", r#""id":true,"#),
        under("id: twice", r#""id":$ID,"id":$ID,"#),
        call(
            "an error without an id",
            r#"{"jsonrpc":"2.0","error":{"code":-32603,"message":"m"}}"#,
            Own(-32603, "m"),
        )
        .on(&[Stdio, WebSocket], &Line),
        call("an error that is a string, without an id", r#"{"jsonrpc":"2.0","id":null,"error":"no"}"#, Line)
            .on(&[Json, Event, HeldOpen], &Error(50200, json!("no"))),
    ]
}

fn envelopes() -> Vec<Row> {
    vec![
        call(
            "both",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]},"error":{"code":1,"message":"m"}}"#,
            Line,
        ),
        call(
            "both, the error first",
            r#"{"error":"m","result":{"content":[]},"id":$ID,"jsonrpc":"2.0"}"#,
            Line,
        ),
        call("neither", r#"{"jsonrpc":"2.0","id":$ID}"#, Line),
        call("only a version", r#"{"jsonrpc":"2.0"}"#, Line),
        call(
            "an error of null beside a result",
            r#"{"jsonrpc":"2.0","id":$ID,"error":null,"result":{"content":[{"type":"text","text":"a"}]}}"#,
            Text("a"),
        ),
        call(
            "a result of null beside an error",
            r#"{"jsonrpc":"2.0","id":$ID,"result":null,"error":{"code":8,"message":"m"}}"#,
            Own(8, "m"),
        ),
        call(
            "the method beside the result",
            r#"{"jsonrpc":"2.0","id":$ID,"method":"tools/call","result":{"content":[{"type":"text","text":"a"}]}}"#,
            Text("a"),
        ),
        call(
            "a method that is a number",
            r#"{"jsonrpc":"2.0","id":$ID,"method":5,"result":{"content":[]}}"#,
            Line,
        ),
        call("a result twice", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]},"result":{}}"#, Line),
        call("no version", r#"{"id":$ID,"result":{"content":[{"type":"text","text":"a"}]}}"#, Text("a")),
        call("version 1.0", FINE.replace(r#""2.0""#, r#""1.0""#), Text("a")),
        call("a version that is a number", FINE.replace(r#""2.0""#, "2.0"), Text("a")),
        call("a batch", format!("[{FINE}]"), Text("a")),
        call("a broken batch", format!("[{FINE},]"), Line),
        call("the same answer twice", format!("{FINE}{FINE}"), Text("a")),
        call(
            "two messages in one line",
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/x"}}{FINE}"#),
            Text("a"),
        ),
        call(
            "an answer without an id before the right one",
            format!("{}{FINE}", r#"{"jsonrpc":"2.0","id":null,"result":{"content":[]}}"#),
            Text("a"),
        ),
        call(
            "an answer under another id before the right one",
            format!(r#"{{"id":"s","result":{{}}}}{FINE}"#),
            Text("a"),
        ),
        call("an answer and text", format!("{FINE} done"), Text("a")),
        call("an answer and a comma", format!("{FINE},"), Text("a")),
        call("text and an answer", format!("INFO: {FINE}"), Line),
    ]
}

fn texts() -> Vec<Row> {
    let number =
        |written: &str| format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"content":[],"x":{written}}}}}"#);
    let spaced = |written: &str| {
        format!(r#"{{"jsonrpc": "2.0", "id": $ID, "result": {{"content": [], "x": {written}}}}}"#)
    };
    let large = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"a"}],"x":[LARGE]}}"#;
    let huge = format!(r#"[NaN, "{}"]"#, "\u{e9}".repeat(200_000));
    vec![
        call("NaN", number("NaN"), Line),
        call("NaN after a space", spaced("NaN"), Line),
        call("NaN after spaces and tabs", number(" \t NaN \t "), Line),
        call("NaN in an array", spaced("[1, NaN, 2]"), Line),
        call("NaN as the result", r#"{"jsonrpc":"2.0","id":$ID,"result": NaN}"#, Line),
        call(
            "NaN before the id",
            r#"{"result": {"content": [], "x": NaN}, "id": $ID, "jsonrpc": "2.0"}"#,
            Line,
        ),
        call(
            "NaN in the error",
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":1,"message":"m","data": NaN}}"#,
            Line,
        ),
        call("nan", spaced("nan"), Line),
        call("Infinity", spaced("Infinity"), Line),
        call("-Infinity", spaced("-Infinity"), Line),
        call("inf", number("inf"), Line),
        call("undefined", number("undefined"), Line),
        call("None", spaced("None"), Line),
        call("a hexadecimal number", number("0x10"), Line),
        call("a number with a plus", number("+1"), Line),
        call("a number with a zero before it", number("01"), Line),
        call(
            "large numbers",
            large.replace("LARGE", "123456789012345678901234567890,1e300,-1e-400"),
            Text("a"),
        ),
        call("NaN in a large answer", spaced(&huge), Line),
        call("a comma too many", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[],}}"#, Line),
        call("a comment", r#"{"jsonrpc":"2.0","id":$ID,/* c */"result":{"content":[]}}"#, Line),
        call("single quotes", "{'jsonrpc': '2.0', 'id': $ID, 'result': {'content': []}}", Line),
        call("names without quotes", r#"{"jsonrpc":"2.0","id":$ID,result:{content:[]}}"#, Line),
        call("a tab in a text", number("\"\t\""), Line),
        call("an escape that is none", number(r#""\x""#), Line),
        // In a stream of events what is not UTF-8 becomes U+FFFD (HTML, section 9.2.5). A WebSocket ends
        // with it, which has a trial of its own.
        call("not UTF-8", not_utf8(), Line)
            .on(&[Event, HeldOpen], &Text("\u{fffd}"))
            .only(&[Stdio, Json, Event, HeldOpen]),
    ]
}

fn pieces() -> Vec<Row> {
    vec![
        call("cut off in the result", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"te"#, Line),
        call("cut off behind the id", r#"{"jsonrpc":"2.0","id":$ID,"#, Line),
        call("cut off in the id", r#"{"jsonrpc":"2.0","id":$ID"#, Line),
        // On a line for all requests this may also be the beginning of a notification.
        call("cut off before the id", r#"{"jsonrpc":"2.0","#, Line).only(&[Json, Event, HeldOpen]),
        call("a brace too few", FINE.strip_suffix('}').unwrap_or_default(), Line),
        call("a brace too many", format!("{FINE}}}"), Text("a")),
        call(
            "over several lines",
            "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": $ID,\n  \"result\": {\n    \"content\": [\n      {\n        \"type\": \"text\",\n        \"text\": \"a\"\n      }\n    ]\n  }\n}",
            Text("a"),
        ),
        call(
            "over several lines, with NaN",
            "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": $ID,\n  \"result\": {\n    \"x\": NaN\n  }\n}",
            Line,
        ),
        call(
            "over several lines, cut off",
            "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": $ID,\n  \"result\": {",
            Line,
        ),
        call(
            "a line end in a text",
            "{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"a\nb\"}]}}",
            Line,
        ),
        call("without a line end", FINE, Text("a")).by(Manner::Bare),
        call("NaN without a line end", FINE.replace(r#""a""#, "NaN"), Line).by(Manner::Bare),
        call("lines end as on Windows", format!("{FINE}\r"), Text("a")),
        call("white space around", format!(" \t {FINE} \t"), Text("a")),
        call("a byte-order mark", format!("\u{feff}{FINE}"), Text("a")),
        call("a byte-order mark before NaN", format!("\u{feff}{}", FINE.replace(r#""a""#, "NaN")), Line),
        call(
            "a byte-order mark before an error",
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":$ID,\"error\":\"no\"}",
            Error(50200, json!("no")),
        ),
        call("a byte-order mark before the stream", FINE, Text("a")).by(Manner::Marked),
        call("a binary frame", FINE, Text("a")).by(Manner::Binary),
        call("a binary frame with NaN", FINE.replace(r#""a""#, "NaN"), Line).by(Manner::Binary),
    ]
}

/// A body and a finished stream are for one request, whatever is in them. On the others these are noise.
fn bodies() -> Vec<Row> {
    let alone = |name, text: &'static str| call(name, text, Line).only(&[Json]);
    vec![
        alone("a page", "<html>Welcome</html>"),
        alone("a body that is null", "null"),
        alone("a body that is a string", r#""a""#),
        alone("an empty array", "[]"),
        alone("an empty object", "{}"),
        alone("only a byte-order mark", "\u{feff}"),
        alone("a result without an envelope", r#"{"content":[{"type":"text","text":"a"}]}"#),
        alone("an id that was never given", r#"{"jsonrpc":"2.0","id":123456789,"result":{"content":[]}}"#),
        alone("a negative id", r#"{"jsonrpc":"2.0","id":-1,"result":{"content":[]}}"#),
        alone("an event as a body", "data: {\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"content\":[]}}\n\n"),
        call("nothing", "", Broken).only(&[Json, Event]),
        call("an event that is no JSON", "Welcome", Broken).only(&[Event]),
    ]
}
