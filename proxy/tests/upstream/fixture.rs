//! Children of every kind. Each speaks enough MCP to get through the handshake, unless it is its
//! nature not to.

use std::fs::OpenOptions;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::{Value, json};

/// `STARTS` is a file that gets a line for each start, and one for its first answer to a handshake, which
/// comes `START_MS` later.
pub fn run(words: Vec<String>) -> ExitCode {
    log("start");
    if let Ok(ms) = std::env::var("START_MS") {
        std::thread::sleep(Duration::from_millis(ms.parse().unwrap()));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["exit-at-once"] => {
            eprintln!("something is missing here");
            return ExitCode::from(3);
        }
        ["silent"] => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        ["stubborn"] => return stubborn(),
        ["banner"] => {
            println!("Welcome to the server!\r\n\n\u{1b}[32mready\u{1b}[0m\n{{\"level\":\"info\"}}");
        }
        ["era", era, "tells-a-change"] => {
            say(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
            return serve(Eras::of(era));
        }
        ["era", era, ..] => return serve(Eras::of(era)),
        _ => {}
    }
    serve(Eras::of("legacy"))
}

fn log(line: &str) {
    if let Ok(path) = std::env::var("STARTS") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Ignores the end of its input and SIGTERM.
fn stubborn() -> ExitCode {
    let ignored = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn serve(mut era: Eras) -> ExitCode {
    let mut cancelled = 0;
    let mut answers = Vec::new();
    let mut hello = Value::Null;
    let mut told = Vec::new();
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        let message: Value = serde_json::from_str(&line).expect("the gateway writes JSON");
        let id = message["id"].clone();
        let params = &message["params"];
        if message["method"].is_string() && era.refuses(&message) {
            continue;
        }
        match message["method"].as_str() {
            Some("initialize") => {
                hello = params.clone();
                log("ready");
                result(
                    &id,
                    &json!({
                        "protocolVersion": params["protocolVersion"],
                        "capabilities": { "tools": {}, "resources": { "subscribe": true } },
                        "serverInfo": { "name": "fixture", "version": "1" },
                    }),
                );
            }
            Some("server/discover") if era.modern => {
                hello = params.clone();
                log("ready");
                result(
                    &id,
                    &json!({
                        "resultType": "complete",
                        "supportedVersions": [era.version],
                        "capabilities": { "tools": { "listChanged": true }, "resources": { "subscribe": true } },
                    }),
                );
            }
            Some("tools/list") => result(&id, &json!({ "tools": [{ "name": "echo" }] })),
            Some("notifications/cancelled") => {
                cancelled += 1;
                era.listens.retain(|(listen, _)| *listen != params["requestId"]);
            }
            Some("notifications/initialized") => {}
            Some("tools/call") => match params["name"].as_str().unwrap() {
                "cancelled" => answer(&id, &cancelled.to_string()),
                "answers" => answer(&id, &Value::from(answers.clone()).to_string()),
                "hello" => answer(&id, &hello.to_string()),
                "told" => answer(&id, &Value::from(told.clone()).to_string()),
                "listens" => answer(&id, &era.listens().to_string()),
                "end-listens" => {
                    era.listens.drain(..).for_each(|(id, _)| result(&id, &json!({})));
                    answer(&id, "ended");
                }
                tool => call(tool, &params["arguments"], &id),
            },
            Some(method) if id.is_null() => told.push(Value::from(method)),
            Some(method) if era.listen(method, &id, params) => {}
            Some(_) => error(&id, -32601),
            None => answers.push(message),
        }
    }
    ExitCode::SUCCESS
}

/// Which eras a child speaks, and what it does about the other one.
struct Eras {
    legacy: bool,
    modern: bool,
    version: &'static str,
    /// Keeps to the era of its first message, as servers made with a certain library do.
    locks: bool,
    /// Its answer to `server/discover` if it is not modern.
    error: i32,
    /// Ends when it is asked in an era that it does not speak.
    dies: bool,
    /// Does not answer then.
    mute: bool,
    /// What a modern client listens to, and what a legacy one subscribed to.
    listens: Vec<(Value, Value)>,
}

impl Eras {
    fn of(word: &str) -> Eras {
        let (dies, mute) = (word == "dies", word == "mute");
        Eras {
            legacy: !matches!(word, "modern" | "future" | "picky"),
            modern: matches!(word, "modern" | "dual" | "future"),
            version: if word == "future" { "2031-01-01" } else { "2026-07-28" },
            locks: true,
            // A picky one misses a capability of the client.
            error: if word.starts_with("picky") { -32021 } else { -32601 },
            dies,
            mute,
            listens: Vec::new(),
        }
    }

    fn refuses(&mut self, message: &Value) -> bool {
        let (id, method) = (&message["id"], message["method"].as_str().unwrap());
        if method == "initialize" || method == "server/discover" {
            let modern = method == "server/discover";
            let speaks = if modern { self.modern } else { self.legacy };
            if !speaks {
                match (self.dies, self.mute) {
                    (true, _) => std::process::exit(7),
                    (_, true) => {}
                    _ if modern => error(id, self.error),
                    _ => error(id, -32022),
                }
                return true;
            }
            if self.locks {
                (self.legacy, self.modern) = (!modern, modern);
            }
        }
        let own = !matches!(method, "tools/call") && !id.is_null();
        if self.modern && !self.legacy && own {
            let meta = &message["params"]["_meta"];
            if meta["io.modelcontextprotocol/protocolVersion"] != "2026-07-28"
                || !meta["io.modelcontextprotocol/clientCapabilities"].is_object()
            {
                error(id, -32602);
                return true;
            }
        }
        false
    }

    /// Subscriptions of either era. Resources with `no` in their URI are not told about.
    fn listen(&mut self, method: &str, id: &Value, params: &Value) -> bool {
        match method {
            "subscriptions/listen" if self.modern => {
                let mut honoured = params["notifications"].clone();
                if let Some(uris) = honoured.get_mut("resourceSubscriptions").and_then(Value::as_array_mut) {
                    uris.retain(|uri| !uri.as_str().unwrap().contains("no"));
                }
                let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
                say(&json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                    "params": { "_meta": meta, "notifications": honoured } }));
                self.listens.push((id.clone(), honoured));
            }
            "resources/subscribe" if params["uri"].as_str().unwrap().contains("no") => error(id, -32002),
            "resources/subscribe" => {
                self.listens.push((params["uri"].clone(), params["uri"].clone()));
                result(id, &json!({}));
            }
            "resources/unsubscribe" => {
                self.listens.retain(|(uri, _)| *uri != params["uri"]);
                result(id, &json!({}));
            }
            _ => return false,
        }
        true
    }

    fn listens(&self) -> Value {
        self.listens.iter().map(|(_, what)| what.clone()).collect()
    }
}

fn result(id: &Value, result: &Value) {
    say(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
}

fn error(id: &Value, code: i32) {
    say(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": "no" } }));
}

fn say(message: &Value) {
    raw(&format!("{message}\n"));
}

fn raw(text: &str) {
    let mut out = stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn answer(id: &Value, text: &str) {
    say(&json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [{ "type": "text", "text": text }] } }));
}

fn call(tool: &str, arguments: &Value, id: &Value) {
    let number = |name: &str| arguments[name].as_u64().unwrap_or(0);
    match tool {
        "echo" => answer(id, arguments["text"].as_str().unwrap()),
        "sleep" => {
            let (id, ms) = (id.clone(), number("ms"));
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(ms));
                answer(&id, "slept");
            });
        }
        "nap" => {
            std::thread::sleep(Duration::from_millis(number("ms")));
            answer(id, "napped");
        }
        "big" => answer(id, &"x".repeat(number("bytes") as usize)),
        "raw" => raw(&arguments["text"].as_str().unwrap().replace("$ID", &id.to_string())),
        "twice" => {
            answer(id, "once");
            answer(id, "again");
        }
        "exit" => {
            eprintln!("last words");
            std::process::exit(number("code") as i32);
        }
        "hang" => {}
        "deaf" => {
            answer(id, "deaf from now on");
            std::thread::sleep(Duration::from_secs(600));
        }
        "flood" => loop {
            raw(&"x".repeat(65536));
        },
        "chatter" => {
            answer(id, "chattering");
            std::thread::spawn(|| {
                loop {
                    raw(&r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x"}}
"#
                    .repeat(1000));
                }
            });
        }
        "shout" => {
            for line in 0..number("lines") {
                eprintln!("line {line}");
            }
            answer(id, "shouted");
        }
        "offspring" => {
            // It leaves the process group, too.
            let me = std::env::current_exe().unwrap();
            let mut command = Command::new(me);
            command.args(["fixture", "stubborn"]);
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            let mut child = command.spawn().unwrap();
            answer(id, &child.id().to_string());
            std::thread::spawn(move || child.wait());
        }
        "environment" => {
            let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            answer(id, &names.join(","));
        }
        "limits" => answer(id, &std::fs::read_to_string("/proc/self/limits").unwrap()),
        "pid" => answer(id, &std::process::id().to_string()),
        other => panic!("no tool {other}"),
    }
}
