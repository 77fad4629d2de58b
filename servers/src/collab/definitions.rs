//! Definitions of the tools: names, descriptions, input schemas.

use protocol::provider::{Annotations, ToolDefinition};
use serde_json::{Map, Value, json};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Read,
    /// Adds or changes; what was there stays in the history.
    Write,
}
use Effect::{Read, Write};

struct Tool {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    effect: Effect,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

/// The tool that needs workspaces as directories.
const FILE_IMPORT: &str = "file_import";

const TOOLS: [Tool; 22] = [
    Tool {
        name: "task_create",
        title: "Create a task",
        description: "Creates a task with a workspace and a log. Without `task_id` it gets an id.",
        effect: Write,
        required: &["title"],
        optional: &[
            "task_id",
            "description",
            "status",
            "assigned_to",
            "complexity",
            "parent",
            "labels",
            "depends_on",
            "access",
            "participants",
        ],
    },
    Tool {
        name: "task_get",
        title: "Get a task",
        description: "Shows a task and its participants.",
        effect: Read,
        required: &["task_id"],
        optional: &[],
    },
    Tool {
        name: "task_update",
        title: "Update a task",
        description: "Changes the given members of a task. `expected_version` or `expected_status` refuses the \
                      change if another agent changed the task meanwhile.",
        effect: Write,
        required: &["task_id"],
        optional: &[
            "title",
            "description",
            "status",
            "assigned_to",
            "complexity",
            "parent",
            "labels",
            "depends_on",
            "result",
            "access",
            "participants",
            "expected_version",
            "expected_status",
            "note",
            "clear",
        ],
    },
    Tool {
        name: "task_list",
        title: "List tasks",
        description: "Lists tasks, the oldest first.",
        effect: Read,
        required: &[],
        optional: &["status", "assigned_to", "parent", "page", "page_size"],
    },
    Tool {
        name: "task_next",
        title: "Take the next task",
        description: "Takes the oldest pending task that nobody else has and whose dependencies are done: it is \
                      in_progress and yours then. `task` is null when there is none.",
        effect: Write,
        required: &[],
        optional: &["parent"],
    },
    Tool {
        name: "task_handoff",
        title: "Hand a task over",
        description: "Assigns a task to another agent and releases your leases in it.",
        effect: Write,
        required: &["task_id", "to"],
        optional: &["note"],
    },
    Tool {
        name: "join_collab",
        title: "Join a task",
        description: "Makes you a participant of a task; shows the task, who else is there, and the leases.",
        effect: Write,
        required: &["task_id"],
        optional: &["role"],
    },
    Tool {
        name: "leave_collab",
        title: "Leave a task",
        description: "Releases your leases in a task and notes that you left.",
        effect: Write,
        required: &["task_id"],
        optional: &[],
    },
    Tool {
        name: "who",
        title: "Who works on a task",
        description: "Shows the participants of a task, when each was seen, and the leases.",
        effect: Read,
        required: &["task_id"],
        optional: &[],
    },
    Tool {
        name: "file_read",
        title: "Read a file",
        description: "Reads a file of a task's workspace, or an earlier version of it.",
        effect: Read,
        required: &["task_id", "path"],
        optional: &["version"],
    },
    Tool {
        name: "file_write",
        title: "Write a file",
        description: "Writes a whole file. An existing file is only replaced in the version that you read last, \
                      or that you name (`expected_version`, `etag`); a file that another agent leases is not.",
        effect: Write,
        required: &["task_id", "path", "content"],
        optional: &["encoding", "expected_version", "etag", "token"],
    },
    Tool {
        name: "file_edit",
        title: "Edit a file",
        description: "Changes parts of a text file by `edits` (search and replace) or by `diff` (unified). \
                      Answers with the diff that was made.",
        effect: Write,
        required: &["task_id", "path"],
        optional: &["edits", "diff", "expected_version", "etag", "token"],
    },
    Tool {
        name: "file_delete",
        title: "Delete a file",
        description: "Deletes a file; its history stays.",
        effect: Write,
        required: &["task_id", "path"],
        optional: &["expected_version", "etag", "token"],
    },
    Tool {
        name: FILE_IMPORT,
        title: "Take over a file",
        description: "Writes a file with what another server left in the directory of the workspace.",
        effect: Write,
        required: &["task_id", "path"],
        optional: &["expected_version", "etag", "token"],
    },
    Tool {
        name: "file_list",
        title: "List files",
        description: "Lists the files of a task's workspace by path; `next` continues a long list.",
        effect: Read,
        required: &["task_id"],
        optional: &["prefix", "after_path", "limit"],
    },
    Tool {
        name: "file_history",
        title: "History of a file",
        description: "Lists the versions of a file, the newest first.",
        effect: Read,
        required: &["task_id", "path"],
        optional: &["limit"],
    },
    Tool {
        name: "file_diff",
        title: "Compare versions",
        description: "Compares two versions of a file: by default the newest with the one before.",
        effect: Read,
        required: &["task_id", "path"],
        optional: &["from_version", "to_version"],
    },
    Tool {
        name: "claim_file",
        title: "Claim a file",
        description: "Leases a path, or a pattern such as `src/**`, so that no other agent writes there. A claim \
                      of your own lease renews it. `wait_seconds` waits in the queue for a path that is leased.",
        effect: Write,
        required: &["task_id", "path"],
        optional: &["shared", "ttl_seconds", "wait_seconds"],
    },
    Tool {
        name: "renew_file",
        title: "Renew a lease",
        description: "Lets your lease of a path last longer.",
        effect: Write,
        required: &["task_id", "path"],
        optional: &["token", "ttl_seconds"],
    },
    Tool {
        name: "release_file",
        title: "Release a lease",
        description: "Ends your lease of a path.",
        effect: Write,
        required: &["task_id", "path"],
        optional: &["token"],
    },
    Tool {
        name: "log_step",
        title: "Log a step",
        description: "Adds a step to the log of a task, where other agents see it at once. It is stored when the \
                      answer comes; the same `step_id` again is the same step.",
        effect: Write,
        required: &["task_id", "step"],
        optional: &["status", "message", "data", "step_id"],
    },
    Tool {
        name: "subscribe_logs",
        title: "Follow a log",
        description: "Returns the events of a task after the number `after`, and the number to go on from. \
                      `wait_seconds` waits for the first one when there is none.",
        effect: Read,
        required: &["task_id"],
        optional: &["after", "wait_seconds", "limit"],
    },
];

/// Returns whether a tool only reads; `None` for an unknown one.
pub fn is_read(name: &str) -> Option<bool> {
    TOOLS.iter().find(|tool| tool.name == name).map(|tool| tool.effect == Read)
}

/// Returns the definitions; `checkouts` if workspaces are kept as directories.
pub fn all(checkouts: bool) -> Vec<ToolDefinition> {
    TOOLS.iter().filter(|tool| checkouts || tool.name != FILE_IMPORT).map(Tool::definition).collect()
}

impl Tool {
    fn definition(&self) -> ToolDefinition {
        let names = self.required.iter().chain(self.optional).chain(&["agent_id"]);
        // `after` of a list of files is a path.
        let shown = |name: &str| name.strip_suffix("_path").unwrap_or(name).to_owned();
        let properties: Map<String, Value> = names.map(|name| (shown(name), argument(name))).collect();
        let is_read = self.effect == Read;
        ToolDefinition {
            name: self.name.into(),
            title: self.title.into(),
            description: self.description.into(),
            input_schema: json!({
                "type": "object",
                "properties": properties,
                "required": self.required,
                "additionalProperties": false,
            }),
            output_schema: None,
            annotations: Annotations {
                read_only_hint: is_read,
                destructive_hint: false,
                idempotent_hint: is_read,
                open_world_hint: false,
            },
        }
    }
}

/// Returns the schema of an argument.
fn argument(name: &str) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let texts = |description: &str| json!({ "type": "array", "items": { "type": "string" }, "description": description });
    let version = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let seconds = |most: u64, description: &str| json!({ "type": "number", "minimum": 0, "maximum": most, "description": description });
    match name {
        "agent_id" => text("The agent that acts. Only needed on connections without a credential."),
        "task_id" => text("The task, such as `task-123`: letters, digits and `_.:@-`"),
        "title" => text("What is to be done, in one line"),
        "description" => text("What is to be done"),
        "status" => {
            text("pending, in_progress, blocked, review, done, failed or cancelled; of a step any word")
        }
        "assigned_to" => text("The agent that does it"),
        "complexity" => json!({ "type": "integer", "minimum": 0, "maximum": 1000 }),
        "parent" => text("The task that this one is a part of"),
        "clear" => texts("Members to remove: description, assigned_to, complexity, parent or result"),
        "labels" => texts("Words to sort tasks by"),
        "depends_on" => texts("Tasks that must be done before this one"),
        "access" => text("`tenant`: every agent; `participants`: only agents of the task"),
        "participants" => texts("Agents that become participants"),
        "result" => json!({ "type": "object", "description": "What came out" }),
        "expected_version" => {
            version("The version that the change builds on; 0 for a file that does not exist")
        }
        "expected_status" => text("The status that the change builds on"),
        "note" => text("Words for the other agents"),
        "page" => json!({ "type": "integer", "minimum": 1 }),
        "page_size" => json!({ "type": "integer", "minimum": 1, "maximum": 500 }),
        "to" => text("The agent that goes on"),
        "role" => text("What you do in the task, such as `coder`"),
        "path" => text("A path in the workspace, such as `src/main.rs`; a lease may have `*`, `?` and `**`"),
        "version" => json!({ "type": "integer", "minimum": 1, "description": "An earlier version" }),
        "content" => text("The whole contents"),
        "encoding" => json!({ "type": "string", "enum": ["utf-8", "base64"] }),
        "etag" => text("The etag that the change builds on, instead of `expected_version`"),
        "token" => json!({ "type": "integer", "description": "The token of your lease" }),
        "edits" => json!({
            "type": "array",
            "description": "Replacements, one after the other; `old` occurs once, or `all` is true",
            "items": {
                "type": "object",
                "properties": {
                    "old": { "type": "string" }, "new": { "type": "string" }, "all": { "type": "boolean" },
                },
                "required": ["old", "new"],
            },
        }),
        "diff" => text("A unified diff of the file"),
        "prefix" => text("How the paths begin"),
        "after_path" => text("The `next` of the list before"),
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
        "from_version" | "to_version" => version("A version; 0 for none"),
        "shared" => json!({ "type": "boolean", "description": "Beside other shared leases; for reading" }),
        "ttl_seconds" => seconds(super::leases::LONGEST_LEASE, "How long the lease lasts without a renewal"),
        "wait_seconds" => seconds(super::logs::LONGEST_WAIT, "How long to wait"),
        "step" => text("What you did or found"),
        "message" => text("More words"),
        "data" => json!({ "type": "object", "description": "More facts" }),
        "step_id" => text("An id of your own, so that a step that is sent again counts once"),
        "after" => {
            json!({ "type": "integer", "minimum": 0, "description": "The number of the last event you know" })
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_has_a_schema_and_every_tool_is_known() {
        for tool in all(true) {
            let properties = tool.input_schema["properties"].as_object().unwrap();
            for (name, schema) in properties {
                // Some clients refuse the whole list for a list of types, or none (AutoGen).
                assert!(schema["type"].is_string(), "{} {name}", tool.name);
            }
            for required in tool.input_schema["required"].as_array().unwrap() {
                assert!(properties.contains_key(required.as_str().unwrap()), "{}", tool.name);
            }
            assert_eq!(is_read(&tool.name), Some(tool.annotations.read_only_hint));
        }
        assert_eq!(is_read("other"), None);
    }
}
