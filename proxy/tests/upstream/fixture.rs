//! Children of every kind. Each speaks enough MCP to get through the handshake, unless it is its
//! nature not to.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::{Value, json};

pub fn run(words: Vec<String>) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["exit-at-once"] => {
            eprintln!("something is missing here");
            return ExitCode::from(3);
        }
        ["exit-unless", file] if !std::path::Path::new(file).exists() => {
            eprintln!("the file is missing");
            return ExitCode::from(4);
        }
        ["silent"] => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        ["stubborn"] => return stubborn(),
        ["banner"] => {
            println!("Welcome to the server!\r\n\n\u{1b}[32mready\u{1b}[0m\n{{\"level\":\"info\"}}");
        }
        _ => {}
    }
    serve()
}

/// Ignores the end of its input and SIGTERM.
fn stubborn() -> ExitCode {
    let ignored = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn serve() -> ExitCode {
    let mut cancelled = 0;
    let mut answers = Vec::new();
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        let message: Value = serde_json::from_str(&line).expect("the gateway writes JSON");
        let id = message["id"].clone();
        match message["method"].as_str() {
            Some("initialize") => say(&json!({ "jsonrpc": "2.0", "id": id, "result": {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "fixture", "version": "1" },
            }})),
            Some("notifications/cancelled") => cancelled += 1,
            Some("notifications/initialized") => {}
            Some("tools/call") => {
                let params = &message["params"];
                match params["name"].as_str().unwrap() {
                    "cancelled" => answer(&id, &cancelled.to_string()),
                    "answers" => answer(&id, &Value::from(answers.clone()).to_string()),
                    tool => call(tool, &params["arguments"], &id),
                }
            }
            Some(_) => {
                say(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "no" } }))
            }
            None => answers.push(message),
        }
    }
    ExitCode::SUCCESS
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
