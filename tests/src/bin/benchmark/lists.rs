//! Lists of all tools: for an agent that sees everything, and for one whose configs hide some at each server.

use std::path::Path;
use std::time::Duration;

use hyper::{Method, StatusCode};
use memchr::memmem;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::client::{Connection, shown};
use crate::gateway::{Gateway, RPC};
use crate::program::Place;
use crate::rounds::median;
use crate::usage;

pub const SERVERS: usize = 30;
/// Tools of each server.
pub const TOOLS: usize = 17;
const REQUESTS: u32 = 400;
const ROUNDS: usize = 3;
const AT_MOST: Duration = Duration::from_secs(20);

/// Processor time of one list, in milliseconds, and what it holds.
pub struct List {
    pub agent: &'static str,
    pub tools: usize,
    pub bytes: usize,
    pub cpu: f64,
}

pub fn run(runtime: &Runtime, place: &Place, path: &Path) -> Result<Vec<List>, String> {
    let gateway = Gateway::start(place, path, "lists")?;
    let (all, some) = runtime.block_on(prepare(&gateway))?;
    let agents = [("sees all", all), ("six hidden at each server", some)];
    let mut cpu = [const { Vec::new() }; 2];
    let mut sizes = [(0, 0); 2];
    for round in 0..=ROUNDS {
        for (at, (_, key)) in agents.iter().enumerate() {
            let before = usage::cpu_of(gateway.program.pid());
            sizes[at] = runtime.block_on(list(&gateway, key))?;
            let took = usage::cpu_of(gateway.program.pid()) - before;
            // The first round warms up.
            if round > 0 {
                cpu[at].push(took.as_secs_f64() * 1e3 / f64::from(REQUESTS));
            }
        }
    }
    gateway.program.stop(AT_MOST)?;
    let lists = agents.iter().zip(cpu).zip(sizes);
    Ok(lists
        .map(|(((agent, _), cpu), (tools, bytes))| List { agent, tools, bytes, cpu: median(cpu) })
        .collect())
}

/// Registers the servers, and makes the keys of an agent without configs and of one with them.
async fn prepare(gateway: &Gateway<'_>) -> Result<(String, String), String> {
    for number in 0..SERVERS {
        gateway.register_with(&format!("many-{number}"), &["echo", &TOOLS.to_string()]).await?;
    }
    let all = gateway.agent_key().await?;
    let mut operator = gateway.operator()?;
    let agent = operator.make("/v1/agents", json!({ "slug": "narrow", "name": "narrow" })).await?;
    let body = json!({ "agentId": agent["id"], "name": "narrow", "role": "agent" });
    let key = operator.make("/v1/keys", body).await?;
    for number in 0..SERVERS {
        let config = json!({
            "serverId": format!("many-{number}"), "agentId": agent["id"],
            "allowedTools": ["tool_*"], "blockedTools": ["tool_1[0-5]"],
        });
        operator.make("/v1/mcp/configs", config).await?;
    }
    Ok((all, key["secret"].as_str().ok_or("the new key has no secret")?.to_owned()))
}

/// Lists all tools again and again; returns the number of the servers' tools and the bytes of the last list.
async fn list(gateway: &Gateway<'_>, key: &str) -> Result<(usize, usize), String> {
    let mut connection = Connection::to(gateway.address, Some(key));
    let mut size = (0, 0);
    for _ in 0..REQUESTS {
        let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#.to_vec();
        let answer = connection.send(Method::POST, RPC, body).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("a list: {} {}", answer.status, shown(&answer.body)));
        }
        size = (memmem::find_iter(&answer.body, b"__tool_").count(), answer.body.len());
    }
    Ok(size)
}
