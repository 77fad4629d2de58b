//! `trunkline server`: a built-in server as an MCP server of its own on standard input and output.

use std::collections::BTreeMap;
use std::process::ExitCode;

use servers::shipped;

use crate::app::StartError;

/// Arguments of the command line.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the server; without one, the names are printed.
    name: Option<String>,
    /// Arguments of the server, as its page in docs/servers says.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Serves until the input ends.
pub fn run(arguments: &Arguments, environment: &BTreeMap<String, String>) -> Result<ExitCode, StartError> {
    let Some(name) = &arguments.name else {
        shipped::SHIPPED
            .iter()
            .for_each(|server| println!("{:<12} {}", server.info.name, server.info.description));
        return Ok(ExitCode::SUCCESS);
    };
    let variable = |name: &str| environment.get(name).cloned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::unavailable(format!("the runtime cannot start: {error}")))?;
    let served = runtime.block_on(async {
        let server = shipped::find(name).map_err(StartError::usage)?;
        if let Some(text) = server.print(&arguments.arguments, &variable).map_err(StartError::usage)? {
            print!("{text}");
            return Ok(());
        }
        let provider = server.open(&arguments.arguments, &variable).map_err(StartError::usage)?;
        provider.health().await.map_err(|error| StartError::unavailable(error.to_string()))?;
        framework::serve_stdio(provider)
            .await
            .map_err(|error| StartError::unavailable(format!("standard streams: {error}")))
    });
    // The thread that reads standard input ends with the process.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}
