//! Legacy session with the gateway: its beginning, and its renewal when the gateway has lost it, with the
//! `initialize` and the settings of the client.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::mcp::{header, method};
use protocol::{Code, Refusal};
use proxy::egress::header::{HeaderMap, HeaderValue};
use proxy::http::Trouble;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::stdio_server::gateway_client::{GatewayClient, Sent, status};
use crate::stdio_server::message::Message;

/// The headers of every message in a session: `Mcp-Session-Id` and `MCP-Protocol-Version`.
pub type SessionHeaders = Arc<HeaderMap>;

#[derive(Default)]
pub struct Session {
    current: Mutex<Option<SessionHeaders>>,
    /// The session after `notifications/initialized`, whose GET stream is to be read.
    pub initialized: watch::Sender<Option<SessionHeaders>>,
    /// The `params` of the client's `initialize`.
    initialize: Mutex<Option<Box<RawValue>>>,
    /// Requests that set something in the session, to be sent again in the next one: the last of each.
    settings: Mutex<Vec<(Box<[u8]>, Bytes)>>,
    renewing: tokio::sync::Mutex<()>,
}

impl Session {
    /// Returns the headers of a message now.
    pub fn headers(&self) -> HeaderMap {
        self.current.lock().as_deref().cloned().unwrap_or_default()
    }

    /// Notes the client's `initialize`.
    pub fn introduce(&self, params: &[u8]) {
        *self.initialize.lock() = serde_json::from_slice(params).ok();
        self.settings.lock().clear();
    }

    /// Notes the session that a result of `initialize` begins.
    pub fn begin(&self, id: HeaderValue, result: &RawValue) {
        let result: Value = serde_json::from_str(result.get()).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(header::SESSION, id);
        if let Some(Ok(version)) = result["protocolVersion"].as_str().map(HeaderValue::from_str) {
            headers.insert(header::PROTOCOL_VERSION, version);
        }
        *self.current.lock() = Some(Arc::new(headers));
    }

    /// Notes that the gateway knows the session as initialized: its GET stream can be read.
    pub fn confirm(&self) {
        self.initialized.send_replace(self.current.lock().clone());
    }

    /// Remembers a request whose effect would be lost with the session.
    pub fn remember(&self, message: &Message) {
        let key = match &*message.method {
            method::SET_LEVEL => method::SET_LEVEL.as_bytes(),
            method::SUBSCRIBE | method::UNSUBSCRIBE => &message.params,
            _ => return,
        };
        let mut settings = self.settings.lock();
        settings.retain(|(known, _)| **known != *key);
        if *message.method != *method::UNSUBSCRIBE {
            settings.push((key.into(), message.line.clone()));
        }
    }

    /// Sends a message within the session; when the gateway has lost that, within a new one. Returns the
    /// headers of the session too.
    pub async fn post(&self, client: &GatewayClient, line: &Bytes) -> (HeaderMap, Sent) {
        let current = self.current.lock().clone();
        let headers = current.as_deref().cloned().unwrap_or_default();
        let sent = client.post(headers.clone(), line.clone()).await;
        let Some(lost) = current.filter(|_| status(&sent) == Some(404)) else { return (headers, sent) };
        if let Err(refusal) = self.renew(client, &lost).await {
            return (headers, Err(Trouble::from_refusal(refusal, false)));
        }
        let headers = self.headers();
        let sent = client.post(headers.clone(), line.clone()).await;
        (headers, sent)
    }

    /// Begins a new session, unless another task has done so since the loss.
    pub async fn renew(&self, client: &GatewayClient, lost: &SessionHeaders) -> Result<(), Refusal> {
        let _turn = self.renewing.lock().await;
        if self.current.lock().as_ref().is_some_and(|current| !Arc::ptr_eq(current, lost)) {
            return Ok(());
        }
        let failed = |reason: &str| {
            let reason = format!("the gateway has ended the session, and a new one did not begin: {reason}");
            Refusal::new(Code::SessionNotFound, reason).hint("connect again")
        };
        let params = self.initialize.lock().clone();
        tracing::info!("the gateway has ended the session; a new one is begun");
        let request = json!({ "jsonrpc": "2.0", "id": "trunkline-again", "method": method::INITIALIZE, "params": params });
        let answer = client.ask(HeaderMap::new(), request.to_string().into()).await;
        let (result, headers) = answer.map_err(|refusal| match refusal.code {
            Code::UpstreamFailed => failed(&refusal.reason),
            _ => refusal,
        })?;
        self.begin(headers.get(header::SESSION).cloned().ok_or_else(|| failed("it has no id"))?, &result);
        let set = self.set_again(client).await;
        if set.is_err() {
            // The next attempt begins another session, whose GET stream is read and which knows the settings.
            *self.current.lock() = Some(Arc::clone(lost));
        }
        set
    }

    /// Sends what the last session knew to a new one.
    async fn set_again(&self, client: &GatewayClient) -> Result<(), Refusal> {
        let initialized = json!({ "jsonrpc": "2.0", "method": method::INITIALIZED }).to_string();
        client.post(self.headers(), initialized.into()).await.map_err(|trouble| client.refusal(trouble))?;
        let settings: Vec<Bytes> = self.settings.lock().iter().map(|(_, line)| line.clone()).collect();
        for line in settings {
            // The client has had the answer already.
            if let Err(refusal) = client.ask(self.headers(), line).await {
                tracing::warn!(%refusal, "a setting of the session was not repeated");
            }
        }
        self.confirm();
        Ok(())
    }

    /// Ends the session.
    pub async fn close(&self, client: &GatewayClient) {
        self.initialized.send_replace(None);
        let current = self.current.lock().take();
        if let Some(session) = current
            && let Err(trouble) = client.delete((*session).clone()).await
        {
            tracing::debug!(refusal = %trouble.failure.refusal, "the session was not ended");
        }
    }
}
