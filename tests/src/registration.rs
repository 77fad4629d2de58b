//! Bodies of `POST /v1/mcp/servers` for the fixtures, and what comes back.

use serde_json::{Value, json};

use crate::programs::programs;

/// A server about to be registered.
#[derive(Clone)]
pub struct Registration(Value);

/// A registered server.
#[derive(Clone, Debug)]
pub struct Registered {
    pub id: String,
    pub body: Value,
}

impl Registration {
    /// A program that speaks MCP on its standard streams.
    pub fn stdio(slug: &str, command: &str, arguments: &[&str]) -> Registration {
        Registration(json!({
            "slug": slug, "name": slug, "transport": "stdio", "command": command, "args": arguments,
        }))
    }

    /// The fixture built on the official SDK.
    pub fn rmcp(slug: &str) -> Registration {
        Self::stdio(slug, programs().fixture_rmcp, &[])
    }

    /// The fixture that misbehaves as its arguments say.
    pub fn bad(slug: &str, arguments: &[&str]) -> Registration {
        Self::stdio(slug, programs().fixture_bad, arguments)
    }

    /// The fixture with all that the conformance suite asks of a server.
    pub fn conformance(slug: &str, arguments: &[&str]) -> Registration {
        Self::stdio(slug, programs().fixture_conformance, arguments)
    }

    /// Sets one more member of the body.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Registration {
        self.0[name] = value.into();
        self
    }

    pub fn body(&self) -> Value {
        self.0.clone()
    }
}

impl Registered {
    /// The path of the server, with a tail such as `/health`.
    pub fn path(&self, tail: &str) -> String {
        format!("/v1/mcp/servers/{}{tail}", self.id)
    }
}
