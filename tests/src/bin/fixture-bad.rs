//! An MCP server on standard input and output that misbehaves as its arguments say. Its tools `echo`
//! (answers with its nonce), `mirror` (shows what arrived, byte for byte) and `pid` behave; `bad` does
//! not. Without arguments `bad` behaves too.

use std::io::{BufRead, StdinLock, Write};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How to misbehave, by argument.
#[derive(Default, Debug)]
struct Manner {
    /// `--banner`: a line for people before anything else.
    banner: bool,
    /// `--slow-start MS`: so long before the first line is read.
    slow_start: u64,
    /// `--hang-at-start`: never answers `initialize`.
    hang_at_start: bool,
    /// `--exit-at-once CODE`
    exit_at_once: Option<i32>,
    /// `--crlf`: lines end as on Windows.
    crlf: bool,
    /// `--twice`: every answer is given twice.
    twice: bool,
    /// `--ignore-eof`: neither it nor its grandchild goes at the end of input or at SIGTERM.
    ignore_eof: bool,
    /// `--grandchild`: starts one that goes by itself at nothing.
    grandchild: bool,
    /// `--log FILE`: a line for each start and each call, written before the answer.
    log: Option<String>,
    /// `--unless FILE`: behaves while the file is there.
    unless: Option<String>,
    bad: Bad,
}

/// What the tool `bad` does.
#[derive(Default, Debug)]
enum Bad {
    #[default]
    Nothing,
    /// `--garbage`: lines that are not JSON, one of them not even UTF-8, and no answer.
    Garbage,
    /// `--garbage-first`: the same, and then the answer.
    GarbageFirst,
    /// `--flood`: notifications for ever.
    Flood,
    /// `--no-newline-flood`: one line that never ends.
    NoNewlineFlood,
    /// `--stderr-flood`: 64 MB to standard error, and then the answer.
    StderrFlood,
    /// `--die-on-call`
    Die,
    /// `--hang`
    Hang,
    /// `--big-line BYTES`: an answer of that size.
    BigLine(usize),
    /// `--wrong-id`: an answer to a question nobody asked, and then the right one.
    WrongId,
    /// `--late MS`: the answer comes so much later.
    Late(u64),
    /// `--ask-roots`: asks its client three things it never offered, and answers after the replies.
    AskRoots,
    /// `--error`: a JSON-RPC error of its own.
    Error,
    /// `--half`: half an answer, and the end.
    Half,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut manner = read(&arguments);
    if manner.unless.as_ref().is_some_and(|file| std::path::Path::new(file).exists()) {
        manner = Manner { log: manner.log, ..Manner::default() };
    }
    note(&manner, "start");
    eprintln!("fixture-bad starts: {manner:?}");
    if let Some(code) = manner.exit_at_once {
        eprintln!("it exits at once, as it was told");
        std::process::exit(code);
    }
    if manner.ignore_eof && std::env::var_os("FIXTURE_IGNORES_SIGTERM").is_none() {
        ignore_signals(&arguments);
    }
    if manner.ignore_eof || manner.grandchild {
        let stubborn = "trap '' TERM HUP INT; while :; do sleep 1; done";
        let spawned = std::process::Command::new("sh").args(["-c", stubborn]).spawn();
        drop(spawned.expect("a grandchild can be started"));
    }
    std::thread::sleep(Duration::from_millis(manner.slow_start));
    if manner.banner {
        print!("Welcome to the fixture!\nIt is listening on stdin.\n");
    }
    let stdin = std::io::stdin();
    let mut input = stdin.lock();
    let mut line = String::new();
    while input.read_line(&mut line).is_ok_and(|read| read > 0) {
        answer(&manner, &line, &mut input);
        line.clear();
    }
    if manner.ignore_eof {
        hang();
    }
}

/// Starts over below a shell that ignores SIGTERM: what is ignored stays ignored over exec.
fn ignore_signals(arguments: &[String]) -> ! {
    use std::os::unix::process::CommandExt;
    let own = std::env::current_exe().expect("a program knows its path");
    let error = std::process::Command::new("sh")
        .args(["-c", "trap '' TERM HUP INT; exec \"$0\" \"$@\""])
        .arg(own)
        .args(arguments)
        .env("FIXTURE_IGNORES_SIGTERM", "1")
        .exec();
    panic!("sh cannot be started: {error}");
}

fn answer(manner: &Manner, line: &str, input: &mut StdinLock<'_>) {
    let message: Line<'_> = match serde_json::from_str(line) {
        Ok(message) => message,
        Err(error) => return eprintln!("not JSON-RPC: {error}: {line}"),
    };
    let (Some(method), Some(id)) = (message.method, message.id) else { return };
    let params = message.params.map_or("{}", RawValue::get);
    let result = match method.as_str() {
        "initialize" if manner.hang_at_start => hang(),
        "initialize" => {
            let asked: Value = serde_json::from_str(params).expect("it was read before");
            json!({
                "protocolVersion": asked["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "fixture-bad", "version": "1.0.0" },
            })
            .to_string()
        }
        "ping" => "{}".to_owned(),
        "tools/list" => {
            let tools = ["echo", "mirror", "pid", "bad"].map(|name| {
                json!({ "name": name, "inputSchema": { "type": "object" }, "vendorKey": { "kept": 1.0 } })
            });
            json!({ "tools": tools }).to_string()
        }
        "tools/call" => return call(manner, id.get(), params, line, input),
        _ => {
            let error = r#"{"code":-32601,"message":"no such method"}"#;
            return say(manner, &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
        }
    };
    give(manner, id.get(), &result);
}

fn call(manner: &Manner, id: &str, params: &str, line: &str, input: &mut StdinLock<'_>) {
    let asked: Value = serde_json::from_str(params).expect("it was read before");
    let nonce = asked["arguments"]["nonce"].as_str().unwrap_or("none").to_owned();
    let tool = asked["name"].as_str().unwrap_or_default();
    note(manner, &format!("call {tool} {nonce}"));
    match tool {
        "echo" => give(manner, id, &text(&nonce)),
        "pid" => give(manner, id, &text(&std::process::id().to_string())),
        "mirror" => give(manner, id, &mirror(params, line)),
        "bad" => misbehave(manner, id, &nonce, input),
        _ => give(manner, id, r#"{"content":[{"type":"text","text":"no such tool"}],"isError":true}"#),
    }
}

fn misbehave(manner: &Manner, id: &str, nonce: &str, input: &mut StdinLock<'_>) {
    match &manner.bad {
        Bad::Nothing => {}
        Bad::Garbage => return garbage(),
        Bad::GarbageFirst => garbage(),
        Bad::Flood => loop {
            say(manner, r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}"#);
        },
        Bad::NoNewlineFlood => loop {
            raw(&[b'x'; 65536]);
        },
        Bad::StderrFlood => {
            let line = [b"noise ".repeat(170), b"\n".to_vec()].concat();
            (0..65536).for_each(|_| std::io::stderr().write_all(&line).expect("somebody reads it"));
        }
        Bad::Die => std::process::exit(9),
        Bad::Hang => return,
        Bad::BigLine(bytes) => return give(manner, id, &text(&"b".repeat(*bytes))),
        Bad::WrongId => give(manner, "987654321", &text("for nobody")),
        Bad::Late(ms) => std::thread::sleep(Duration::from_millis(*ms)),
        Bad::AskRoots => return ask_roots(manner, id, input),
        Bad::Error => {
            let error = r#"{"code":-31999,"message":"my own error","data":{"why":[1.0,"ü"]}}"#;
            return say(manner, &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
        }
        Bad::Half => {
            raw(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"conte"#).as_bytes());
            std::process::exit(0);
        }
    }
    give(manner, id, &text(nonce));
}

/// Shows the line that arrived and its params as they are, beside members that no SDK knows.
fn mirror(params: &str, line: &str) -> String {
    let shown = Value::from(line.trim_end()).to_string();
    format!(
        concat!(
            r#"{{"content":[{{"type":"text","text":{shown},"vendor":{{"x":1.0}}}}],"#,
            r#""structuredContent":{{"params":{params}}},"isError":false,"#,
            r#""big":123456789012345678901234567890,"one":1.0,"exponent":1E5,"minus":-0.0,"#,
            r#""escaped":"\u00e9\/\u0000","plain":"é😀","empty":{{}},"nothing":null,"_meta":{{"vendor/x":[]}}}}"#
        ),
        shown = shown,
        params = params
    )
}

/// Asks for roots, sampling and elicitation, and answers with what became of it.
fn ask_roots(manner: &Manner, id: &str, input: &mut StdinLock<'_>) {
    let methods = ["roots/list", "sampling/createMessage", "elicitation/create"];
    for (number, method) in methods.iter().enumerate() {
        let question = format!("question-{number}");
        let asked = json!({ "jsonrpc": "2.0", "id": question, "method": method, "params": {} });
        say(manner, &asked.to_string());
    }
    let mut replies = Vec::new();
    let mut line = String::new();
    while replies.len() < methods.len() && input.read_line(&mut line).is_ok_and(|read| read > 0) {
        let reply: Value = serde_json::from_str(&line).unwrap_or_default();
        if reply["id"].as_str().is_some_and(|id| id.starts_with("question-")) {
            replies.push(reply["error"]["code"].to_string());
        }
        line.clear();
    }
    give(manner, id, &text(&replies.join(" ")));
}

fn garbage() {
    let lines: [&[u8]; 6] =
        [b"\xff\xfe\xfd", b"{\"jsonrpc\":", b"[1,2", b"\"text\"", b"Traceback (most recent call last):", b""];
    for line in lines {
        raw(&[line, b"\n"].concat());
    }
}

fn text(text: &str) -> String {
    json!({ "content": [{ "type": "text", "text": text }] }).to_string()
}

fn give(manner: &Manner, id: &str, result: &str) {
    let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    say(manner, &line);
    if manner.twice {
        say(manner, &line);
    }
}

fn say(manner: &Manner, line: &str) {
    let end = if manner.crlf { "\r\n" } else { "\n" };
    raw(format!("{line}{end}").as_bytes());
}

/// Writes to standard output; ends when nobody reads any more.
fn raw(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    if output.write_all(bytes).and_then(|()| output.flush()).is_err() {
        std::process::exit(0);
    }
}

fn hang() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// One line in one write, so that the lines of several processes do not mix.
fn note(manner: &Manner, what: &str) {
    let Some(file) = &manner.log else { return };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let line = format!("{} {what}\n", std::process::id());
    opened.and_then(|mut file| file.write_all(line.as_bytes())).expect("the trial's log can be written");
}

fn read(arguments: &[String]) -> Manner {
    let mut manner = Manner::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value")).clone();
        let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{text} is not a number"));
        match argument.as_str() {
            "--banner" => manner.banner = true,
            "--slow-start" => manner.slow_start = number(value()),
            "--hang-at-start" => manner.hang_at_start = true,
            "--exit-at-once" => manner.exit_at_once = Some(number(value()) as i32),
            "--crlf" => manner.crlf = true,
            "--twice" => manner.twice = true,
            "--ignore-eof" => manner.ignore_eof = true,
            "--grandchild" => manner.grandchild = true,
            "--log" => manner.log = Some(value()),
            "--unless" => manner.unless = Some(value()),
            "--garbage" => manner.bad = Bad::Garbage,
            "--garbage-first" => manner.bad = Bad::GarbageFirst,
            "--flood" => manner.bad = Bad::Flood,
            "--no-newline-flood" => manner.bad = Bad::NoNewlineFlood,
            "--stderr-flood" => manner.bad = Bad::StderrFlood,
            "--die-on-call" => manner.bad = Bad::Die,
            "--hang" => manner.bad = Bad::Hang,
            "--big-line" => manner.bad = Bad::BigLine(number(value()) as usize),
            "--wrong-id" => manner.bad = Bad::WrongId,
            "--late" => manner.bad = Bad::Late(number(value())),
            "--ask-roots" => manner.bad = Bad::AskRoots,
            "--error" => manner.bad = Bad::Error,
            "--half" => manner.bad = Bad::Half,
            other => panic!("no such argument: {other}"),
        }
    }
    manner
}
