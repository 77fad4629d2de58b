//! `trunkline registry import`: entries for the marketplace from a file or another registry.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::app::StartError;
use crate::commands::gateway::{Gateway, with_gateway};
use crate::config::{Client, Config};

/// Documents of one request, so that its body stays small.
const CHUNK: usize = 50;

/// Arguments of the command line.
#[derive(clap::Args)]
pub struct Arguments {
    /// A file with one server.json, a list of them, or an answer of the official Registry API; or the address
    /// (https://…) below which a registry serves /v0.1/servers.
    #[arg(value_name = "FILE|URL")]
    from: String,
}

/// Imports and prints the sums, and each refused version with the reason.
pub fn run(
    arguments: &Arguments,
    client: &Client,
    config: Config,
    environment: Vec<(String, String)>,
) -> Result<ExitCode, StartError> {
    let bodies = match arguments.from.starts_with("https://") || arguments.from.starts_with("http://") {
        true => vec![json!({ "url": arguments.from })],
        false => documents(&arguments.from)?.chunks(CHUNK).map(|some| json!({ "servers": some })).collect(),
    };
    with_gateway(client, config, environment, async |gateway| send(gateway, &bodies).await)
}

fn documents(path: &str) -> Result<Vec<Value>, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| StartError::usage(format!("{path} cannot be read: {error}")))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| StartError::usage(format!("{path} is not JSON: {error}")))?;
    match value {
        Value::Array(all) => Ok(all),
        Value::Object(mut answer) => match answer.remove("servers") {
            Some(Value::Array(all)) => Ok(all),
            _ => Ok(vec![Value::Object(answer)]),
        },
        _ => Err(StartError::usage(format!("{path} is no server.json, and no list of them"))),
    }
}

async fn send(gateway: &Gateway, bodies: &[Value]) -> Result<ExitCode, StartError> {
    let mut sums = [("added", 0), ("updated", 0), ("unchanged", 0), ("refused", 0)];
    let mut is_complete = true;
    for body in bodies {
        let answer = gateway.post("/v1/mcp/registry/import", body).await?;
        if answer.status != 200 {
            return Err(StartError::unavailable(answer.problem()));
        }
        for (name, sum) in &mut sums {
            let count = answer.body[*name].as_u64().ok_or_else(|| {
                StartError::unavailable(format!("the gateway's answer does not say how many are {name}"))
            })?;
            *sum += count;
        }
        for item in answer.body["items"].as_array().into_iter().flatten() {
            let text = |name: &str| item[name].as_str().unwrap_or("?");
            if text("outcome") == "refused" {
                eprintln!("{}@{}: {}", text("name"), text("version"), text("reason"));
            }
        }
        if let Some(reason) = answer.body["incomplete"].as_str() {
            eprintln!("not read to the end: {reason}");
            is_complete = false;
        }
    }
    println!("{}", sums.map(|(name, sum)| format!("{sum} {name}")).join(", "));
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
