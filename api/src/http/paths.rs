//! Paths of the MCP endpoints.

/// The whole catalog, over Streamable HTTP.
pub const MCP: &str = "/mcp";
/// Plain JSON-RPC.
pub const RPC: &str = "/mcp/rpc";
/// One server, whose slug follows.
pub const SERVER: &str = "/mcp/s/";
