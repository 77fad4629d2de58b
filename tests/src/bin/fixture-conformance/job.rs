//! A task of the tasks extension while it runs: its state, its thread, its open questions. Knows nothing
//! of the methods that look at it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::server::Server;

pub struct Job {
    status: &'static str,
    created: jiff::Timestamp,
    updated: jiff::Timestamp,
    /// Its result, or its error.
    end: Option<(&'static str, Value)>,
    /// Questions that are not answered yet.
    open: Map<String, Value>,
    given: BTreeMap<String, Value>,
}

/// What a job's thread has of it.
pub struct Running {
    server: Arc<Server>,
    id: String,
}

/// The result of the tool, or a JSON-RPC error.
pub type End = Result<Value, Value>;

/// The job was cancelled meanwhile.
pub struct Cancelled;

const KEPT_FOR: u32 = 300_000;

/// Starts a job; it can be looked up before its id is told to anybody.
pub fn start(
    server: &Arc<Server>,
    work: impl FnOnce(&Running) -> Result<End, Cancelled> + Send + 'static,
) -> Value {
    let now = jiff::Timestamp::now();
    let mut jobs = server.jobs.lock().expect("nobody panics with the jobs");
    let id = format!("job-{}-{}", std::process::id(), jobs.len() + 1);
    let job = Job {
        status: "working",
        created: now,
        updated: now,
        end: None,
        open: Map::new(),
        given: BTreeMap::new(),
    };
    let mut told = job.tell(&id);
    jobs.insert(id.clone(), job);
    let running = Running { server: server.clone(), id };
    std::thread::spawn(move || {
        if let Ok(end) = work(&running) {
            running.finish(end);
        }
    });
    told["resultType"] = json!("task");
    told
}

impl Job {
    pub fn tell(&self, id: &str) -> Value {
        let mut told = json!({
            "taskId": id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "ttlMs": KEPT_FOR,
            "pollIntervalMs": 100,
        });
        if let Some((name, end)) = &self.end {
            told[name] = end.clone();
        }
        if !self.open.is_empty() {
            told["inputRequests"] = json!(self.open);
        }
        told
    }

    pub fn cancel(&mut self) {
        if self.end.is_none() {
            self.open.clear();
            self.turn("cancelled");
        }
    }

    /// Takes replies to open questions; what nobody asked is ignored.
    pub fn answer(&mut self, replies: &Map<String, Value>) {
        for (key, reply) in replies {
            if self.open.remove(key).is_some() {
                self.given.insert(key.clone(), reply.clone());
            }
        }
        if self.status == "input_required" && self.open.is_empty() {
            self.turn("working");
        }
    }

    fn turn(&mut self, status: &'static str) {
        self.status = status;
        self.updated = jiff::Timestamp::now();
    }
}

impl Running {
    pub fn sleep(&self, time: Duration) -> Result<(), Cancelled> {
        let jobs = self.server.jobs.lock().expect("nobody panics with the jobs");
        let waited = self
            .server
            .jobs_changed
            .wait_timeout_while(jobs, time, |jobs| jobs[&self.id].status != "cancelled");
        if waited.expect("nobody panics with the jobs").1.timed_out() { Ok(()) } else { Err(Cancelled) }
    }

    /// Asks, and waits for all replies.
    pub fn ask(&self, questions: Map<String, Value>) -> Result<BTreeMap<String, Value>, Cancelled> {
        let mut jobs = self.server.jobs.lock().expect("nobody panics with the jobs");
        if let Some(job) = jobs.get_mut(&self.id).filter(|job| job.status == "working") {
            job.open = questions;
            job.turn("input_required");
        }
        let waits = |jobs: &mut BTreeMap<String, Job>| jobs[&self.id].status == "input_required";
        let jobs = self.server.jobs_changed.wait_while(jobs, waits).expect("nobody panics with the jobs");
        let job = &jobs[&self.id];
        if job.status == "cancelled" { Err(Cancelled) } else { Ok(job.given.clone()) }
    }

    fn finish(&self, end: End) {
        let mut jobs = self.server.jobs.lock().expect("nobody panics with the jobs");
        let job = jobs.get_mut(&self.id).filter(|job| job.status != "cancelled");
        if let Some(job) = job {
            let (status, end) = match end {
                Ok(result) => ("completed", ("result", result)),
                Err(error) => ("failed", ("error", error)),
            };
            job.end = Some(end);
            job.turn(status);
        }
    }
}
