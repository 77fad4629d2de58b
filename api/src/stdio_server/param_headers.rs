//! Which parameters of which tools are mirrored into headers: learnt from the lists that pass by, or
//! asked for before the first call of a tool that no list has named.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::{meta, method};
use proxy::header_params::{self, HeaderParam};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::stdio_server::gateway_client::{GatewayClient, Reply};
use crate::stdio_server::message::{self, Message};

/// Pages of a list that are read; a gateway that has no end must not hold a call for ever.
const MAX_PAGES: usize = 64;

#[derive(Default)]
pub struct ParamHeaders {
    tools: Mutex<Tools>,
    /// One asks at a time, and the others find the answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Tools {
    seen: HashSet<String>,
    /// Only those that mirror something.
    params: HashMap<String, Vec<HeaderParam>>,
    /// The whole list was asked for.
    asked: bool,
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
    /// Reads the result of `tools/list`. Gives the cursor of the next page.
    pub fn learn(&self, result: &RawValue) -> Option<String> {
        let page: Page<'_> = serde_json::from_str(result.get()).ok()?;
        let mut tools = self.tools.lock();
        for tool in page.tools {
            // A tool with an annotation that is not valid does not come through the gateway.
            let params = tool.input_schema.and_then(|schema| header_params::read(schema).ok());
            match params.filter(|params| !params.is_empty()) {
                Some(params) => drop(tools.params.insert(tool.name.clone(), params)),
                None => drop(tools.params.remove(&tool.name)),
            }
            tools.seen.insert(tool.name);
        }
        page.next_cursor
    }

    /// The headers of a call.
    pub async fn of_call(&self, client: &GatewayClient, message: &Message) -> Vec<(String, String)> {
        let Ok(call) = serde_json::from_slice::<Call<'_>>(message.params()) else { return Vec::new() };
        if !self.is_known(&call.name) {
            let _turn = self.asking.lock().await;
            if !self.is_known(&call.name) {
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

    /// Asks once more, since what is known is out of date.
    pub async fn refresh(&self, client: &GatewayClient, message: &Message) {
        let Ok(call) = serde_json::from_slice::<Call<'_>>(message.params()) else { return };
        let _turn = self.asking.lock().await;
        self.ask(client, &call).await;
    }

    fn is_known(&self, name: &str) -> bool {
        let tools = self.tools.lock();
        tools.asked || tools.seen.contains(name)
    }

    /// Asks for the whole list, in the words of the call. Where that fails the call is sent as it is, and
    /// the gateway says what is missing.
    async fn ask(&self, client: &GatewayClient, call: &Call<'_>) {
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let Some(line) = question(call, cursor.as_deref()) else { return };
            let Ok(list) = Message::read(line) else { return };
            let answered = client.post(message::modern_headers(&list, &[]), list.line.clone()).await;
            let text = match answered.map(|answered| answered.reply) {
                Ok(Reply::Json(text)) => Some(text),
                Ok(Reply::Events(mut events)) => loop {
                    match events.next().await {
                        Ok(Some(text)) if is_response(&text) => break Some(text),
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => break None,
                    }
                },
                Ok(Reply::Nothing | Reply::Refused(_)) | Err(_) => None,
            };
            let Some(text) = text else { return };
            let Ok(Body::Single(Incoming::Response(response))) = jsonrpc::parse(&text, usize::MAX) else {
                return;
            };
            let Ok(result) = response.outcome else { return };
            let next = self.learn(result).filter(|next| !next.is_empty() && Some(next) != cursor.as_ref());
            if next.is_none() {
                break;
            }
            cursor = next;
        }
        self.tools.lock().asked = true;
    }
}

fn is_response(text: &[u8]) -> bool {
    matches!(jsonrpc::parse(text, usize::MAX), Ok(Body::Single(Incoming::Response(_))))
}

/// `tools/list` as the client of this call would send it.
fn question(call: &Call<'_>, cursor: Option<&str>) -> Option<Bytes> {
    let about: HashMap<String, &RawValue> = serde_json::from_str(call.meta?.get()).ok()?;
    let kept = [meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES, meta::CLIENT_INFO];
    let about: HashMap<&str, &RawValue> =
        kept.iter().filter_map(|key| Some((*key, *about.get(*key)?))).collect();
    let mut params = json!({ "_meta": about });
    if let Some(cursor) = cursor {
        params["cursor"] = cursor.into();
    }
    let message = json!({
        "jsonrpc": "2.0", "id": "trunkline-list", "method": method::TOOLS_LIST, "params": params,
    });
    Some(message.to_string().into())
}
