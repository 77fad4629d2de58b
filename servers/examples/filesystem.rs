//! The MCP server `filesystem` alone, on standard streams: `filesystem DIR…`, with the options of the server.

use std::process::ExitCode;
use std::sync::Arc;

use servers::Filesystem;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let served = match Filesystem::from_arguments(&arguments, &|_| None) {
        Ok(filesystem) => {
            framework::serve_stdio(Arc::new(filesystem)).await.map_err(|error| error.to_string())
        }
        Err(mistake) => Err(mistake),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(mistake) => {
            eprintln!("filesystem: {mistake}");
            ExitCode::FAILURE
        }
    }
}
