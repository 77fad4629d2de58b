//! Names the Model Context Protocol fixes: methods, versions, headers and `_meta` keys.

/// The newest revision with a handshake; what we ask of a stdio child.
/// <https://modelcontextprotocol.io/specification/2025-11-25>
pub const LEGACY_LATEST: &str = "2025-11-25";

/// Every revision that starts with `initialize`.
pub const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// A generation of the protocol: with a handshake and sessions, or stateless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Era {
    /// Up to 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

pub mod method {
    pub const INITIALIZE: &str = "initialize";
    pub const INITIALIZED: &str = "notifications/initialized";
    pub const PING: &str = "ping";
    pub const TOOLS_LIST: &str = "tools/list";
    pub const TOOLS_CALL: &str = "tools/call";
    pub const RESOURCES_LIST: &str = "resources/list";
    pub const RESOURCE_TEMPLATES_LIST: &str = "resources/templates/list";
    pub const RESOURCES_READ: &str = "resources/read";
    pub const PROMPTS_LIST: &str = "prompts/list";
    pub const PROMPTS_GET: &str = "prompts/get";
    pub const COMPLETE: &str = "completion/complete";
    pub const CANCELLED: &str = "notifications/cancelled";
    pub const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
    pub const RESOURCES_CHANGED: &str = "notifications/resources/list_changed";
    pub const PROMPTS_CHANGED: &str = "notifications/prompts/list_changed";

    /// Ours, on `/mcp/rpc` only.
    pub const LIST_SERVICES: &str = "mcp.listServices";
    pub const DESCRIBE_SERVICE: &str = "mcp.describeService";
    pub const EXECUTE: &str = "mcp.execute";
}
