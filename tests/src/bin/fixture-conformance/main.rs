//! An MCP server on standard input and output that has everything the official conformance suite calls
//! for, in both eras of the protocol. It is written on plain JSON: no SDK, and nothing of the gateway.
//!
//! | Argument | Means |
//! | --- | --- |
//! | `--era legacy\|modern\|dual` | which eras it speaks; a dual one keeps to that of its first message |
//! | `--die-on-probe` | exits at any message that comes before `initialize` |
//! | `--silent-on-probe` | never answers `server/discover` |
//! | `--slow MS` | waits so long in `tools/call`, `prompts/get` and `resources/read` |
//! | `--tools N` | has so many tools more, which do nothing |
//! | `--chatty` | lines on standard error, log messages and changes of lists around every answer |
//! | `--log FILE` | appends every line that arrives, and `cancelled ID` for what it gave up |

mod asking;
mod call;
mod content;
mod echo;
mod era;
mod job;
mod listen;
mod manner;
mod methods;
mod prompts;
mod question;
mod read;
mod resources;
mod rounds;
mod seal;
mod server;
mod signals;
mod tasks;
mod tools;

use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use server::Server;

/// How long answers may still take after the end of input.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let server = Arc::new(Server::new(manner::read(&arguments)));
    eprintln!("fixture-conformance starts: {:?}", server.manner);
    for line in std::io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { break };
        server.note(&line);
        methods::receive(&server, &line);
    }
    let until = Instant::now() + LAST_ANSWERS;
    while server.is_busy() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}
