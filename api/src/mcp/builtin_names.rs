//! Names of `collab` that need no slug: the tools as earlier gateways named them, and the URIs of its own
//! schemes. They are resolved before policy, and listed nowhere.

use proxy::route::Verb;

/// Slug of the built-in server.
pub const COLLAB: &str = "collab";

/// Prefix of the earlier names of tools.
const EARLIER: &str = "mcp_";

/// Tools that had an earlier name.
const TOOLS: [&str; 6] =
    ["file_read", "file_write", "claim_file", "release_file", "log_step", "subscribe_logs"];

const SCHEMES: [&str; 5] = ["tasks", "workspace", "logs", "agents", "collaboration"];

/// Returns the server's own name of a tool or URI that is given without the slug.
pub fn find(verb: Verb, name: &str) -> Option<&str> {
    match verb {
        Verb::CallTool => earlier(name),
        Verb::ReadResource => {
            name.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme)).map(|_| name)
        }
        Verb::GetPrompt | Verb::Complete | Verb::Pass => None,
    }
}

/// Returns the present name of a tool that is named as by an earlier gateway.
pub fn earlier(name: &str) -> Option<&str> {
    name.strip_prefix(EARLIER).filter(|name| TOOLS.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_taken() {
        for (verb, name, own) in [
            (Verb::CallTool, "mcp_file_read", Some("file_read")),
            (Verb::CallTool, "file_read", None),
            (Verb::CallTool, "mcp_other", None),
            (Verb::CallTool, "mcp_task_list", None),
            (Verb::ReadResource, "tasks://t/state", Some("tasks://t/state")),
            (Verb::ReadResource, "collab+tasks://t/state", None),
            (Verb::ReadResource, "file:///x", None),
            (Verb::GetPrompt, "mcp_file_read", None),
        ] {
            assert_eq!(find(verb, name), own, "{name}");
        }
    }
}
