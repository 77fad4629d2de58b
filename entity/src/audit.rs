//! Audit events: one for each change of the registry, written in the change's own transaction.

use jiff::Timestamp;
use protocol::{AgentId, AuditId, CredentialId, RequestId, TenantId};

/// One recorded change. `details` never holds a secret, only the names of environment variables and
/// headers.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    pub id: AuditId,
    pub at: Timestamp,
    /// The tenant whose row changed; `None` for what belongs to the whole installation.
    pub tenant: Option<TenantId>,
    pub actor_tenant: TenantId,
    pub actor_agent: Option<AgentId>,
    pub actor_credential: Option<CredentialId>,
    /// `api_key`, `jwt`, `loopback`, or `gateway` for the gateway itself.
    pub actor_kind: String,
    pub request: RequestId,
    pub ip: Option<String>,
    /// Name of the change, such as `server.create`.
    pub action: String,
    /// Typed id of the changed row.
    pub target: String,
    pub details: serde_json::Value,
}
