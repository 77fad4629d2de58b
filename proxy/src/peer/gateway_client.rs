//! MCP client of the gateway itself: `clientInfo`, and `_meta` of modern requests.

use protocol::mcp::{Era, MODERN, meta};
use serde_json::{Map, Value, json};

/// The `clientInfo` of the gateway.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    pub name: String,
    pub version: String,
}

impl ClientInfo {
    /// Returns the object of `clientInfo`.
    pub fn json(&self) -> Value {
        json!({ "name": self.name, "version": self.version })
    }
}

/// Returns the raw `params` of a request of the gateway itself, without capabilities: no client could answer
/// requests of the server.
pub fn params(era: Era, client: &ClientInfo, mut members: Map<String, Value>) -> String {
    if era == Era::Modern {
        let about = json!({
            meta::PROTOCOL_VERSION: MODERN,
            meta::CLIENT_CAPABILITIES: {},
            meta::CLIENT_INFO: client.json(),
        });
        members.insert("_meta".to_owned(), about);
    }
    Value::Object(members).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_modern_era_has_meta() {
        let client = ClientInfo { name: "trunkline".to_owned(), version: "1".to_owned() };
        let members = || Map::from_iter([("cursor".to_owned(), json!("x"))]);
        assert_eq!(params(Era::Legacy, &client, members()), r#"{"cursor":"x"}"#);
        let modern: Value = serde_json::from_str(&params(Era::Modern, &client, members())).unwrap();
        assert_eq!(modern["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(modern["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
        assert_eq!(modern["cursor"], "x");
    }
}
