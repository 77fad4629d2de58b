//! Gateway of the client commands, asked by REST: one that runs, or, where none does, one in this process that only
//! this machine reaches.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use proxy::egress::{Egress, EgressError, EgressSettings, Method, Url, read_limited};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::app::StartError;
use crate::config::secrets::SecretFiles;
use crate::config::{Client, Config};
use crate::http::headers::{AGENT, API_KEY};
use crate::ops::health_check;
use crate::run;

/// The longest wait for an answer: an import reads another registry for two minutes.
const PATIENCE: Duration = Duration::from_secs(180);
/// Largest answer, bytes.
const ANSWER: usize = 64 << 20;

/// REST client of a gateway.
pub struct Gateway {
    egress: Egress,
    base: String,
    headers: BTreeMap<String, String>,
    /// True if the gateway runs on this machine, so that its paths are those of this process.
    pub is_here: bool,
}

/// Answer of a gateway: status and body.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// Returns the reason of a problem, with what to do.
    pub fn problem(&self) -> String {
        let text = |name: &str| self.body[name].as_str().unwrap_or_default();
        match (text("detail"), text("hint")) {
            ("", _) => format!("the gateway answered with status {}", self.status),
            (detail, "") => detail.to_owned(),
            (detail, hint) => format!("{detail} ({hint})"),
        }
    }
}

/// Runs a command with the gateway at `MCP_GATEWAY_URL`, or at the usual address, or in this process.
pub fn with_gateway(
    client: &Client,
    config: Config,
    environment: Vec<(String, String)>,
    work: impl AsyncFnOnce(&Gateway) -> Result<ExitCode, StartError>,
) -> Result<ExitCode, StartError> {
    let running = client.url.as_ref().or(Some(&client.usual_url).filter(|url| health_check::is_there(url)));
    let runtime = run::runtime()?;
    match running {
        Some(url) => {
            let gateway = Gateway::at(url, client.key.as_deref(), client.agent.as_deref())?;
            runtime.block_on(work(&gateway))
        }
        None => {
            let _alone = run::claim_data_dir(&config)?;
            runtime.block_on(inside(client, config, environment, work))
        }
    }
}

async fn inside(
    client: &Client,
    mut config: Config,
    environment: Vec<(String, String)>,
    work: impl AsyncFnOnce(&Gateway) -> Result<ExitCode, StartError>,
) -> Result<ExitCode, StartError> {
    config.server.host = "127.0.0.1".to_owned();
    config.server.port = 0;
    config.server.enable_metrics = false;
    let key_file = SecretFiles::new(&config.server.data_dir).operator_key();
    let (up, address) = oneshot::channel();
    let stop = CancellationToken::new();
    let gateway = run::live(Arc::new(config), environment, stop.clone(), |_, listens| {
        // Nobody waits any more when the process ends.
        up.send(listens.gateway).ok();
    });
    let command = async {
        let _stop = stop.drop_guard();
        // The gateway says itself why it does not start.
        let Ok(address) = address.await else { return Ok(ExitCode::FAILURE) };
        let key = match &client.key {
            Some(key) => Some(key.clone()),
            None => operator_key(&key_file)?,
        };
        work(&Gateway::at(&format!("http://{address}"), key.as_deref(), client.agent.as_deref())?).await
    };
    let (gateway, code) = tokio::join!(gateway, command);
    gateway.and(code)
}

/// Reads the operator's key; there is none where the gateway was given another way to authenticate.
fn operator_key(file: &Path) -> Result<Option<String>, StartError> {
    match std::fs::read_to_string(file) {
        Ok(key) => Ok(Some(key.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(StartError::usage(format!("{} (DATA_DIR) cannot be read: {error}", file.display())))
        }
    }
}

impl Gateway {
    fn at(base: &str, key: Option<&str>, agent: Option<&str>) -> Result<Gateway, StartError> {
        let url: Url = base.parse().map_err(|error| {
            StartError::usage(format!("{base} (MCP_GATEWAY_URL) is not the address of a gateway: {error}"))
        })?;
        let header = |(name, value): (_, Option<&str>)| Some((format!("{name}"), value?.trim().to_owned()));
        let headers = [(API_KEY, key), (AGENT, agent)].into_iter().filter_map(header).collect();
        let is_here = url.host_str().is_some_and(|host| ["127.0.0.1", "[::1]", "localhost"].contains(&host));
        // The operator's own address, which may be private.
        let (timeout, trusted) = (PATIENCE, vec![url]);
        let egress = Egress::new(EgressSettings { timeout, trusted, ..EgressSettings::default() });
        Ok(Gateway { egress, base: base.trim_end_matches('/').to_owned(), headers, is_here })
    }

    pub async fn get(&self, path: &str) -> Result<Answer, StartError> {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, StartError> {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, StartError> {
        let answer = self.exchange(method, path, body).await;
        let answer = answer.map_err(|error| StartError::unavailable(format!("{error} (MCP_GATEWAY_URL)")))?;
        match answer.status {
            401 => Err(StartError::usage(format!("{} (MCP_KEY)", answer.problem()))),
            _ => Ok(answer),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, EgressError> {
        let url = Url::parse(&format!("{}{path}", self.base))
            .map_err(|_| EgressError::NotUrl(self.base.clone()))?;
        let mut request = self.egress.request(method, &url)?;
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.egress.send(request).await?;
        let status = response.status().as_u16();
        let text = read_limited(response, ANSWER).await?;
        let body = serde_json::from_slice(&text);
        let body = body
            .map_err(|error| EgressError::NotJson { host: self.base.clone(), reason: error.to_string() })?;
        Ok(Answer { status, body })
    }
}
