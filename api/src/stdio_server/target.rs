//! Which gateway the bridge leads to: one that runs, or, where none does, one in this process.

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

/// The target that the command line names.
#[derive(clap::Args)]
pub struct Wanted {
    /// The gateway's address, instead of MCP_GATEWAY_URL.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// One server under its own names, instead of all servers of the caller.
    #[arg(long, value_name = "SLUG")]
    server: Option<Slug>,
}

/// Serves standard input and output until the end of input, SIGTERM or SIGINT.
pub fn run(
    wanted: Wanted,
    client: &Client,
    config: Config,
    environment: Vec<(String, String)>,
) -> Result<(), StartError> {
    let said = wanted.url.as_ref().or(client.url.as_ref());
    let there = said.or(Some(&client.usual_url).filter(|url| health_check::is_there(url)));
    let runtime = run::runtime()?;
    let (stop, signals) = (CancellationToken::new(), TaskTracker::new());
    let outcome = match there {
        Some(url) => {
            let client = client_of(url, &wanted, client)?;
            tracing::info!(url = client.shown, "a bridge to this gateway");
            runtime.block_on(async {
                signals.spawn(run::end_on_signal(stop.clone()));
                super::serve(client, stop).await;
            });
            Ok(())
        }
        None => {
            tracing::info!(url = client.usual_url, "no gateway is there; one is started in this process");
            let _alone = run::claim_data_dir(&config)?;
            runtime.block_on(inside(&wanted, client, config, environment, stop, &signals))
        }
    };
    // A client that does not read holds a thread, which is not waited for.
    runtime.shutdown_background();
    outcome
}

/// The ordinary gateway, on a port of its own that only this machine reaches, and the bridge to it.
async fn inside(
    wanted: &Wanted,
    client: &Client,
    mut config: Config,
    environment: Vec<(String, String)>,
    stop: CancellationToken,
    signals: &TaskTracker,
) -> Result<(), StartError> {
    config.server.host = "127.0.0.1".to_owned();
    config.server.port = 0;
    config.server.enable_metrics = false;
    let (up, address) = oneshot::channel();
    let gateway = run::live(Arc::new(config), environment, stop.clone(), |_, listens| {
        // Nobody waits any more when the process ends.
        up.send(listens.gateway).ok();
    });
    let bridge = async {
        // The gateway says itself why it does not start.
        let Ok(address) = address.await else { return Ok(()) };
        let client = client_of(&format!("http://{address}"), wanted, client);
        let asked = CancellationToken::new();
        signals.spawn(run::end_on_signal(asked.clone()));
        let served = match client {
            Ok(client) => {
                super::serve(client, asked).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        stop.cancel();
        served
    };
    let (gateway, bridge) = tokio::join!(gateway, bridge);
    gateway.and(bridge)
}

fn client_of(base: &str, wanted: &Wanted, client: &Client) -> Result<GatewayClient, StartError> {
    let path = match &wanted.server {
        Some(slug) => format!("{}{slug}", paths::SERVER),
        None => paths::MCP.to_owned(),
    };
    let url: Url = format!("{}{path}", base.trim_end_matches('/')).parse().map_err(|error| {
        StartError::usage(format!("{base} (MCP_GATEWAY_URL) is not the address of a gateway: {error}"))
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(StartError::usage(format!("{base} (MCP_GATEWAY_URL): http:// or https:// is wanted")));
    }
    GatewayClient::new(url, client.key.as_deref(), client.agent.as_deref())
        .map_err(|problem| StartError::usage(format!("{problem} (MCP_KEY, AGENT_ID)")))
}
