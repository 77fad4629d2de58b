//! Gateway that `trunkline stdio` connects to: one that runs, or, where none does, one in this process.

use std::sync::Arc;

use protocol::Slug;
use proxy::egress::Url;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::StartError;
use crate::config::{Client, Config};
use crate::http::paths;
use crate::ops::health_check;
use crate::run;
use crate::stdio_server::gateway_client::GatewayClient;

/// Arguments of the command line.
#[derive(clap::Args)]
pub struct Arguments {
    /// The gateway's address, instead of MCP_GATEWAY_URL.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// One server under its own names, instead of all servers of the caller.
    #[arg(long, value_name = "SLUG")]
    server: Option<Slug>,
}

/// Serves standard input and output until the end of input, SIGTERM or SIGINT.
pub fn run(
    arguments: Arguments,
    client: &Client,
    config: Config,
    environment: Vec<(String, String)>,
) -> Result<(), StartError> {
    let given = arguments.url.as_ref().or(client.url.as_ref());
    let running = given.or(Some(&client.usual_url).filter(|url| health_check::is_there(url)));
    let runtime = run::runtime()?;
    let outcome = match running {
        Some(url) => runtime.block_on(bridge(url, &arguments, client)),
        None => {
            tracing::info!(url = client.usual_url, "no gateway is there; one is started in this process");
            let _alone = run::claim_data_dir(&config)?;
            runtime.block_on(inside(&arguments, client, config, environment))
        }
    };
    // A client that does not read holds a thread, which nothing waits for.
    runtime.shutdown_background();
    outcome
}

/// Runs the ordinary gateway on a port of its own that only this machine reaches, and the stdio server
/// before the gateway.
async fn inside(
    arguments: &Arguments,
    client: &Client,
    mut config: Config,
    environment: Vec<(String, String)>,
) -> Result<(), StartError> {
    config.server.host = "127.0.0.1".to_owned();
    config.server.port = 0;
    config.server.enable_metrics = false;
    let (up, address) = oneshot::channel();
    let stop = CancellationToken::new();
    let gateway = run::live(Arc::new(config), environment, stop.clone(), |_, listens| {
        // Nobody waits any more when the process ends.
        up.send(listens.gateway).ok();
    });
    let bridge = async {
        // The gateway says itself why it does not start.
        let Ok(address) = address.await else { return Ok(()) };
        let _stop = stop.drop_guard();
        bridge(&format!("http://{address}"), arguments, client).await
    };
    let (gateway, bridge) = tokio::join!(gateway, bridge);
    gateway.and(bridge)
}

/// Runs the stdio server before the gateway at a URL, until a signal at the latest.
async fn bridge(url: &str, arguments: &Arguments, client: &Client) -> Result<(), StartError> {
    let gateway = connect(url, arguments, client)?;
    tracing::info!(url = gateway.address(), "a bridge to this gateway");
    let (stop, signals) = (CancellationToken::new(), TaskTracker::new());
    signals.spawn(run::end_on_signal(stop.clone()));
    super::serve(gateway, stop).await;
    Ok(())
}

fn connect(base: &str, arguments: &Arguments, client: &Client) -> Result<GatewayClient, StartError> {
    let path = match &arguments.server {
        Some(slug) => format!("{}{slug}", paths::SERVER),
        None => paths::MCP.to_owned(),
    };
    let url: Url = format!("{}{path}", base.trim_end_matches('/')).parse().map_err(|error| {
        StartError::usage(format!("{base} (MCP_GATEWAY_URL) is not the address of a gateway: {error}"))
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(StartError::usage(format!("{base} (MCP_GATEWAY_URL): http:// or https:// is wanted")));
    }
    GatewayClient::new(&url, client.key.as_deref(), client.agent.as_deref())
        .map_err(|refusal| StartError::usage(format!("{} (MCP_KEY, AGENT_ID)", refusal.reason)))
}
