//! SQL tables of the gateway: rows, the tenant scope as the only access to rows, and the encryption of
//! secret columns. Knows SQL; does not know HTTP, Redis, child processes or configuration files.

mod actor;
mod agent;
mod audit;
mod catalog;
mod change;
pub mod collab;
mod connect;
mod credential;
mod db;
mod error;
pub mod marketplace;
mod page;
pub mod record;
mod record_policy;
mod reseal;
mod rows;
mod scope;
mod seal;
mod secrets;
mod server;
mod server_config;
mod server_settings;
mod session;
mod tenant;
mod time;
mod tokens;
mod turns;

pub use actor::Actor;
pub use agent::{Agent, NewAgent, is_agent_slug};
pub use audit::AuditEvent;
pub use catalog::{CatalogPart, DiscoveredList};
pub use change::Changes;
pub use credential::{Credential, KnownCredential, NewCredential};
pub use db::{Backend, Connections, DEFAULT_TENANT, DatabaseSettings, Db};
pub use error::DbError;
pub use page::{Page, Paged};
pub use record_policy::{RecordPolicy, RecordPolicyPatch, RecordPolicySettings};
pub use scope::{OperatorScope, TenantScope};
pub use seal::{Seal, SealError};
pub use secrets::{Secrets, SecretsPatch};
pub use server::{ErasFound, ManagedBy, NewServer, Server, ServerFilter, ServerUsage, Transport};
pub use server_config::{
    ChildResources, ConfigFilter, ConfigPatch, ConfigSecrets, ConfigSettings, NewConfig, ServerConfig,
};
pub use server_settings::{ServerPatch, ServerSettings};
pub use session::{NewSession, SessionRow};
pub use tenant::{NewTenant, Tenant};
pub use tokens::{Tokenizer, estimated_tokens};
pub use turns::Turns;
