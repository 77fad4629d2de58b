//! One call of a tool, and how its answer is told from any other call's answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use memchr::memmem;

use crate::client::{Answer, shown};
use crate::mcp::append;

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tool {
    /// An echo server's tool, by the name under which the target lists it.
    Echo(&'static str),
    /// The gateway's own calculator, in its process. Its arguments are two numbers, so a larger message
    /// is made by padding in `_meta`, which the answer does not carry.
    Add,
}

/// Which call of the whole benchmark this is.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    pub series: u64,
    pub agent: u64,
    pub call: u64,
}

/// A call that was made, as it is checked.
pub struct Mark {
    text: String,
    /// The shortest answer that can be right.
    at_least: usize,
}

/// The body of a call and its mark. Agents use the same JSON-RPC ids, so that an answer given to the
/// wrong one is found by its mark.
pub fn make(tool: Tool, number: Number, padding: &Arc<str>) -> (Vec<u8>, Mark) {
    let Number { series, agent, call } = number;
    let mut body = Vec::with_capacity(padding.len() + 256);
    let id = (call + 1).to_string();
    append(&mut body, &[r#"{"jsonrpc":"2.0","id":"#, &id, r#","method":"tools/call","params":{"name":""#]);
    match tool {
        Tool::Echo(name) => {
            let text = format!("[{series}.{agent}.{call}]");
            let padding = &padding[text.len().min(padding.len())..];
            append(&mut body, &[name, r#"","arguments":{"text":""#, &text, padding, r#""}}}"#]);
            (body, Mark { at_least: text.len() + padding.len(), text })
        }
        Tool::Add => {
            let a = (series * 1_000 + agent) * 100_000_000 + call;
            let numbers = format!(r#"calculator__add","arguments":{{"a":{a},"b":1}},"_meta":{{"padding":""#);
            append(&mut body, &[&numbers, padding, r#""}}}"#]);
            (body, Mark { text: format!("\"{}\"", a + 1), at_least: 0 })
        }
    }
}

impl Mark {
    pub fn check(&self, answer: &Answer) -> Result<(), String> {
        let body: &Bytes = &answer.body;
        let right = answer.status == StatusCode::OK
            && body.len() >= self.at_least
            && memmem::find(body, self.text.as_bytes()).is_some()
            && memmem::find(body, br#""isError":true"#).is_none();
        if right {
            Ok(())
        } else {
            Err(format!("{} instead of {}: {}", answer.status, self.text, shown(body)))
        }
    }
}
