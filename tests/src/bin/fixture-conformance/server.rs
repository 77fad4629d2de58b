//! What all requests of this process share: its output, its era, who waits for what. Knows messages,
//! not what their methods mean.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::call::{Call, Cancellation, Detour};
use crate::era::{Era, Session};
use crate::job::Job;
use crate::listen::Listen;
use crate::manner::Manner;

/// How long a client may think about a question.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub manner: Manner,
    pub era: Mutex<Option<Era>>,
    pub session: Mutex<Option<Session>>,
    /// The rank of the lowest level that the legacy client wants to hear.
    pub level: Mutex<usize>,
    /// The URIs that the legacy client subscribed to.
    pub watched: Mutex<HashSet<String>>,
    pub listens: Mutex<Vec<Listen>>,
    /// How often the watched resource was touched.
    pub touched: AtomicU64,
    /// Whether the lists have the entry that comes and goes.
    pub more_tools: AtomicBool,
    pub more_prompts: AtomicBool,
    pub jobs: Mutex<BTreeMap<String, Job>>,
    pub jobs_changed: Condvar,
    running: Mutex<HashMap<String, Arc<Cancellation>>>,
    /// Our questions to the client that are open, by id.
    questions: Mutex<HashMap<u64, Sender<Value>>>,
    /// Begins with 0, which is an id like any other.
    next: AtomicU64,
    output: Mutex<std::io::Stdout>,
}

impl Server {
    pub fn new(manner: Manner) -> Server {
        Server {
            manner,
            era: Mutex::default(),
            session: Mutex::default(),
            level: Mutex::new(1),
            watched: Mutex::default(),
            listens: Mutex::default(),
            touched: AtomicU64::new(0),
            more_tools: AtomicBool::new(false),
            more_prompts: AtomicBool::new(false),
            jobs: Mutex::default(),
            jobs_changed: Condvar::new(),
            running: Mutex::default(),
            questions: Mutex::default(),
            next: AtomicU64::new(0),
            output: Mutex::new(std::io::stdout()),
        }
    }

    /// Writes one line; ends when nobody reads any more.
    pub fn say(&self, line: &str) {
        let mut output = self.output.lock().expect("nobody panics with the output");
        if output.write_all(format!("{line}\n").as_bytes()).and_then(|()| output.flush()).is_err() {
            std::process::exit(0);
        }
    }

    pub fn notify(&self, method: &str, params: Value) {
        self.say(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// A question to the legacy client, and its reply.
    pub fn ask(&self, call: &Call, method: &str, params: &Value) -> Result<Value, Detour> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        self.questions.lock().expect("nobody panics with the questions").insert(id, sender);
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        let until = Instant::now() + PATIENCE;
        loop {
            match receiver.recv_timeout(Duration::from_millis(20)) {
                Ok(reply) if reply["result"].is_null() => {
                    return Err(Detour::ToolError(format!("{method} was refused: {}", reply["error"])));
                }
                Ok(mut reply) => return Ok(reply["result"].take()),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => call.wait(Duration::ZERO)?,
                Err(_) => return Err(Detour::ToolError(format!("{method} was not answered"))),
            }
        }
    }

    /// A reply of the client goes to who asked.
    pub fn reply(&self, reply: Value) {
        let mut questions = self.questions.lock().expect("nobody panics with the questions");
        let asked = reply["id"].as_u64().and_then(|id| questions.remove(&id));
        match asked {
            Some(sender) => drop(sender.send(reply)),
            None => eprintln!("a reply to nothing: {reply}"),
        }
    }

    pub fn begin(&self, id: &str) -> Arc<Cancellation> {
        let cancellation = Arc::new(Cancellation::default());
        let mut running = self.running.lock().expect("nobody panics with the requests");
        running.insert(id.to_owned(), cancellation.clone());
        cancellation
    }

    pub fn end(&self, id: &str) {
        self.running.lock().expect("nobody panics with the requests").remove(id);
    }

    pub fn is_busy(&self) -> bool {
        !self.running.lock().expect("nobody panics with the requests").is_empty()
    }

    /// Gives up a request or a stream, and writes that down.
    pub fn cancel(&self, id: &str) {
        let running = self.running.lock().expect("nobody panics with the requests").get(id).cloned();
        if let Some(cancellation) = &running {
            cancellation.cancel();
        }
        // A stream that is just beginning is among both.
        if self.end_listen(id) || running.is_some() {
            self.note(format!("cancelled {id}").as_bytes());
        }
    }

    /// One line of the trial's log, in one write.
    pub fn note(&self, what: &[u8]) {
        let Some(file) = &self.manner.log else { return };
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let line = [what, b"\n"].concat();
        opened.and_then(|mut file| file.write_all(&line)).expect("the trial's log can be written");
    }
}
