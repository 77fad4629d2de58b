//! Names of the Model Context Protocol: methods, versions and `_meta` keys.

/// Newest revision with a handshake, requested from stdio servers.
/// <https://modelcontextprotocol.io/specification/2025-11-25>
pub const LEGACY_LATEST: &str = "2025-11-25";

/// Only revision with JSON-RPC batches.
pub const WITH_BATCHES: &str = "2025-03-26";

/// First revision whose streams may begin with an event that has an id and empty data.
pub const WITH_EMPTY_EVENTS: &str = "2025-11-25";

/// Revisions that start with `initialize`.
pub const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Stateless revision. <https://modelcontextprotocol.io/specification/2026-07-28>
pub const MODERN: &str = "2026-07-28";

/// A generation of the protocol: with a handshake and sessions, or stateless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Era {
    /// Revisions up to 2025-11-25.
    Legacy,
    /// Revision 2026-07-28.
    Modern,
}

impl Era {
    pub fn as_str(self) -> &'static str {
        match self {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        }
    }

    pub fn parse(text: &str) -> Option<Era> {
        [Era::Legacy, Era::Modern].into_iter().find(|era| era.as_str() == text)
    }
}

/// Eras that a server speaks; at least one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Eras {
    pub legacy: bool,
    pub modern: bool,
}

impl Eras {
    pub const LEGACY: Eras = Eras { legacy: true, modern: false };
    pub const MODERN: Eras = Eras { legacy: false, modern: true };
    pub const DUAL: Eras = Eras { legacy: true, modern: true };

    /// Returns the era for a client of `wanted`: the client's own where the server speaks it.
    pub fn nearest(self, wanted: Era) -> Era {
        match (self.legacy, self.modern) {
            (true, true) => wanted,
            (_, false) => Era::Legacy,
            (false, true) => Era::Modern,
        }
    }

    /// Returns `legacy`, `modern` or `dual`.
    pub fn as_str(self) -> &'static str {
        match (self.legacy, self.modern) {
            (true, true) => "dual",
            (_, false) => "legacy",
            (false, true) => "modern",
        }
    }

    pub fn parse(text: &str) -> Option<Eras> {
        [Eras::LEGACY, Eras::MODERN, Eras::DUAL].into_iter().find(|eras| eras.as_str() == text)
    }
}

/// Keys of `_meta` (2026-07-28, basic, "_meta").
pub mod meta {
    /// Prefix reserved by the specification.
    pub const RESERVED: &str = "io.modelcontextprotocol/";
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// Keys that only the modern era has.
    pub const MODERN: [&str; 6] =
        [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, SERVER_INFO, SUBSCRIPTION_ID];
    pub const PROGRESS_TOKEN: &str = "progressToken";
    /// Our own: code, reason and facts of a refusal.
    pub const REFUSAL: &str = "trunkline/refusal";
}

/// Error codes of the modern era (2026-07-28, basic, "Error Codes") and of the legacy one.
pub mod code {
    pub const HEADER_MISMATCH: i32 = -32020;
    pub const MISSING_CLIENT_CAPABILITY: i32 = -32021;
    pub const UNSUPPORTED_PROTOCOL_VERSION: i32 = -32022;
    /// Legacy only: the resource does not exist.
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
    /// Legacy only: the user must visit a URL first.
    pub const URL_ELICITATION_REQUIRED: i32 = -32042;
    /// Codes reserved by the specification, which older servers used freely.
    pub const RESERVED: std::ops::RangeInclusive<i64> = -32099..=-32000;
}

/// Headers of Streamable HTTP, in lower case as HTTP/2 wants them.
pub mod header {
    /// Legacy only.
    pub const SESSION: &str = "mcp-session-id";
    pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
    /// Legacy only: event after which a broken stream resumes.
    pub const LAST_EVENT_ID: &str = "last-event-id";
    /// Modern only: the method, as in the body.
    pub const METHOD: &str = "mcp-method";
    /// Modern only: the tool, prompt, resource or task.
    pub const NAME: &str = "mcp-name";
    /// Modern only: prefix of mirrored parameters.
    pub const PARAM: &str = "mcp-param-";
    /// Prefix of all MCP headers.
    pub const OURS: &str = "mcp-";
}

pub mod method {
    /// Prefix of all notifications' methods.
    pub const NOTIFICATIONS: &str = "notifications/";
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
    pub const RESOURCE_UPDATED: &str = "notifications/resources/updated";
    pub const PROGRESS: &str = "notifications/progress";
    pub const LOG: &str = "notifications/message";
    pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
    pub const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";
    pub const TASKS: &str = "notifications/tasks";
    pub const SET_LEVEL: &str = "logging/setLevel";
    pub const SUBSCRIBE: &str = "resources/subscribe";
    pub const UNSUBSCRIBE: &str = "resources/unsubscribe";
    pub const SAMPLE: &str = "sampling/createMessage";
    pub const ELICIT: &str = "elicitation/create";
    pub const LIST_ROOTS: &str = "roots/list";

    /// Modern only.
    pub const TASKS_GET: &str = "tasks/get";
    pub const TASKS_UPDATE: &str = "tasks/update";
    pub const TASKS_CANCEL: &str = "tasks/cancel";
    /// Legacy tasks (2025-11-25, experimental).
    pub const TASKS_RESULT: &str = "tasks/result";
    pub const TASKS_LIST: &str = "tasks/list";
    pub const DISCOVER: &str = "server/discover";
    pub const LISTEN: &str = "subscriptions/listen";
    pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

    /// Method of this gateway, on `/mcp/rpc` only.
    pub const LIST_SERVICES: &str = "mcp.listServices";
    pub const DESCRIBE_SERVICE: &str = "mcp.describeService";
    pub const EXECUTE: &str = "mcp.execute";
}
