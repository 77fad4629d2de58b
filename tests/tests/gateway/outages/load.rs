//! Calls in loops during an outage, with counts of the acknowledged and refused ones.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::{Actor, McpClient, TestApp, json};

/// Callers at once at each endpoint.
const LOOPS: usize = 8;

/// Longest answer to a call while Redis is away: one missed answer takes half a second, the rest is what
/// a loaded machine needs.
const WORST: Duration = Duration::from_secs(2);

/// Calls in loops from 2.5 s before the outage to two after it. The agent is new, and replicas follow the
/// registry's changes once a second, so the loops begin long enough before the outage.
pub async fn load(app: &TestApp, what: &str, outage: impl Future<Output = ()>) -> Counts {
    let agent = app.as_agent("alice").await;
    let load = Load::default();
    let loops =
        futures_util::future::join_all((0..LOOPS).flat_map(|number| {
            [Kind::Rpc, Kind::Session].map(|kind| load.calls(agent.clone(), kind, number))
        }));
    let outage = async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        outage.await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        load.over.store(true, Ordering::Relaxed);
    };
    let (made, ()) = tokio::join!(loops, outage);
    let counts = Counts::sum(made);
    let (passed, refused) = (counts.acknowledged.len(), counts.refused.len());
    let (seconds, slowest) = (super::outage(), counts.slowest);
    println!(
        "{what} for {seconds:?}: {passed} calls answered, {refused} refused, the slowest took {slowest:?}"
    );
    counts
}

#[derive(Clone, Copy)]
enum Kind {
    Rpc,
    Session,
}

#[derive(Default)]
struct Load {
    next: AtomicUsize,
    over: AtomicBool,
}

#[derive(Default)]
pub struct Counts {
    pub acknowledged: Vec<i64>,
    refused: Vec<String>,
    slowest: Duration,
}

impl Counts {
    fn sum(all: Vec<Counts>) -> Counts {
        all.into_iter().fold(Counts::default(), |mut sum, one| {
            sum.acknowledged.extend(one.acknowledged);
            sum.refused.extend(one.refused);
            sum.slowest = sum.slowest.max(one.slowest);
            sum
        })
    }

    pub fn none_refused(&self) -> &Counts {
        assert!(self.refused.is_empty(), "{} refused: {}", self.refused.len(), self.refused[0]);
        self
    }

    pub fn none_waits(&self) {
        assert!(self.slowest < WORST, "the slowest took {:?}", self.slowest);
    }
}

impl Load {
    async fn calls(&self, agent: Actor, kind: Kind, number: usize) -> Counts {
        let (agent, path) = match kind {
            Kind::Rpc => (agent, "/mcp/rpc"),
            Kind::Session => {
                let client = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
                let session = client.session.expect("a legacy client has a session");
                let agent = agent.header("mcp-session-id", session);
                (agent.header("mcp-protocol-version", "2025-11-25"), "/mcp")
            }
        };
        let accept =
            [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        let mut counts = Counts::default();
        while !self.over.load(Ordering::Relaxed) {
            let call = self.next.fetch_add(1, Ordering::Relaxed) as i64;
            let arguments = json!({ "name": "calculator__add", "arguments": { "a": call, "b": number } });
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": arguments });
            let sent = agent.send(reqwest::Method::POST, path, &accept, Some(body.to_string().into_bytes()));
            let answer = sent.await;
            counts.slowest = counts.slowest.max(answer.took);
            match answer.status == 200 && answer.text().contains("\"result\"") {
                true => counts.acknowledged.push(call),
                false => counts.refused.push(answer.exchange()),
            }
        }
        counts
    }
}
