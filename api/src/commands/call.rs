//! `trunkline call`: a slash command from a terminal.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::app::StartError;
use crate::commands::gateway::with_gateway;
use crate::config::{Client, Config};

/// Arguments of the command line.
#[derive(clap::Args)]
pub struct Arguments {
    /// The command, in one piece: '/mcp-calculator add 2 3'. Without an operation it lists those of the service.
    command: String,
}

/// Carries the command out, and prints what the tool answered.
pub fn run(
    arguments: &Arguments,
    client: &Client,
    config: Config,
    environment: Vec<(String, String)>,
) -> Result<ExitCode, StartError> {
    let body = json!({ "command": arguments.command });
    with_gateway(client, config, environment, async |gateway| {
        let answer = gateway.post("/mcp/execute", &body).await?;
        if answer.status != 200 {
            eprintln!("{}", answer.problem());
            return Ok(ExitCode::FAILURE);
        }
        print(&answer.body["data"]);
        Ok(ExitCode::SUCCESS)
    })
}

fn print(data: &Value) {
    match data {
        Value::String(text) => println!("{text}"),
        Value::Object(members) if members.len() == 1 && members.contains_key("operations") => {
            for operation in members["operations"].as_array().into_iter().flatten() {
                println!("{}", operation["usage"].as_str().unwrap_or_default());
            }
        }
        data => println!("{data:#}"),
    }
}
