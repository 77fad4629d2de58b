//! Parameters of tools that headers repeat (`Mcp-Param-*`, 2026-07-28): read from the lists that pass by, or
//! asked for before the first call of a tool that no list has named.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::mcp::{meta, method};
use proxy::header_params::{self, HeaderParam};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::stdio_server::gateway_client::GatewayClient;
use crate::stdio_server::message::Message;

/// The most pages of a list that are read; a list without an end must not hold a call for ever.
const MAX_PAGES: usize = 64;

#[derive(Default)]
pub struct ParamHeaders {
    tools: Mutex<Tools>,
    /// Held while one task asks, so that the others find the answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Tools {
    /// The parameters of each tool that was listed.
    params: HashMap<String, Vec<HeaderParam>>,
    /// The whole list was read.
    is_complete: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    name: String,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

impl ParamHeaders {
    /// Reads a result of `tools/list`. Returns the cursor of the next page.
    pub fn learn(&self, result: &RawValue) -> Option<String> {
        let page: Page<'_> = serde_json::from_str(result.get()).ok()?;
        let mut tools = self.tools.lock();
        for tool in page.tools {
            // A tool with an annotation that is not valid does not come through the gateway.
            let params = tool.input_schema.and_then(|schema| header_params::read(schema).ok());
            tools.params.insert(tool.name, params.unwrap_or_default());
        }
        page.next_cursor
    }

    /// Returns the headers of a call; where what is known is stale, after another look at the list.
    pub async fn of_call(
        &self,
        client: &GatewayClient,
        message: &Message,
        is_stale: bool,
    ) -> Vec<(String, String)> {
        let Ok(call) = serde_json::from_slice::<Call<'_>>(&message.params) else { return Vec::new() };
        if is_stale || !self.is_known(&call.name) {
            let _turn = self.asking.lock().await;
            if is_stale || !self.is_known(&call.name) {
                self.ask(client, &call).await;
            }
        }
        let tools = self.tools.lock();
        let (Some(params), Some(arguments)) = (tools.params.get(&call.name), call.arguments) else {
            return Vec::new();
        };
        let values = header_params::values(params, arguments);
        values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn is_known(&self, name: &str) -> bool {
        let tools = self.tools.lock();
        tools.is_complete || tools.params.contains_key(name)
    }

    /// Asks for the whole list with the `_meta` of the call. Where that fails the call is sent as it is, and
    /// the gateway says which header is missing.
    async fn ask(&self, client: &GatewayClient, call: &Call<'_>) {
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let Some(Ok(message)) = list_request(call, cursor.as_deref()).map(Message::read) else { return };
            let Ok((result, _)) = client.ask(message.headers(&[]), message.line).await else { return };
            let next = self.learn(&result).filter(|next| !next.is_empty() && Some(next) != cursor.as_ref());
            if next.is_none() {
                break;
            }
            cursor = next;
        }
        self.tools.lock().is_complete = true;
    }
}

/// Returns `tools/list` as the client of this call would send it.
fn list_request(call: &Call<'_>, cursor: Option<&str>) -> Option<Bytes> {
    let mut meta: HashMap<String, &RawValue> = serde_json::from_str(call.meta?.get()).ok()?;
    let kept = [meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES, meta::CLIENT_INFO];
    meta.retain(|key, _| kept.contains(&key.as_str()));
    let mut params = json!({ "_meta": meta });
    if let Some(cursor) = cursor {
        params["cursor"] = cursor.into();
    }
    let message = json!({
        "jsonrpc": "2.0", "id": "trunkline-list", "method": method::TOOLS_LIST, "params": params,
    });
    Some(message.to_string().into())
}
