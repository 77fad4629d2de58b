//! Paths of the MCP endpoints.

/// Where the doors that speak JSON-RPC are.
pub const MCP: &str = "/mcp";
/// Plain JSON-RPC.
pub const RPC: &str = "/mcp/rpc";
/// One server, whose slug follows.
pub const SERVER: &str = "/mcp/s/";
