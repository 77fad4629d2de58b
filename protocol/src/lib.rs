//! Vocabulary of the gateway: JSON-RPC, MCP, ids, callers, refusals, and the trait of built-in servers. No
//! I/O, no runtime: nothing here opens a socket, a file or a database.

pub mod argument_rule;
pub mod caller;
pub mod ids;
pub mod jsonrpc;
pub mod mcp;
pub mod members;
pub mod names;
pub mod outcome;
pub mod provider;
pub mod refusal;
pub mod slash;
pub mod strict;

pub use argument_rule::ArgumentRule;
pub use caller::{Caller, CallerKind, Role, Scope, Scopes};
pub use ids::{AgentId, AuditId, ConfigId, CredentialId, ExecutionId, RequestId, ServerId, TenantId};
pub use members::Members;
pub use names::Slug;
pub use outcome::Outcome;
pub use refusal::{Code, Refusal};
pub use strict::Strict;
