//! What the gateway says when it asks an upstream for itself: who it is, and the `_meta` that the
//! modern era wants in every request. It knows no method.

use protocol::mcp::{Era, MODERN, meta};
use serde_json::{Map, Value, json};

/// Who we say we are.
#[derive(Clone, Debug)]
pub struct ClientName {
    pub name: String,
    pub version: String,
}

impl ClientName {
    /// The object of `clientInfo`.
    pub fn info(&self) -> Value {
        json!({ "name": self.name, "version": self.version })
    }
}

/// The raw `params` of one of the gateway's own requests. It declares no capability: nobody is behind
/// it who could be asked.
pub fn params(era: Era, client: &ClientName, mut members: Map<String, Value>) -> String {
    if era == Era::Modern {
        let about = json!({
            meta::PROTOCOL_VERSION: MODERN,
            meta::CLIENT_CAPABILITIES: {},
            meta::CLIENT_INFO: client.info(),
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
        let client = ClientName { name: "trunkline".to_owned(), version: "1".to_owned() };
        let members = || Map::from_iter([("cursor".to_owned(), json!("x"))]);
        assert_eq!(params(Era::Legacy, &client, members()), r#"{"cursor":"x"}"#);
        let modern: Value = serde_json::from_str(&params(Era::Modern, &client, members())).unwrap();
        assert_eq!(modern["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(modern["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
        assert_eq!(modern["cursor"], "x");
    }
}
