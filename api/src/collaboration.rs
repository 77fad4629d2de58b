//! The built-in server `collab` from the configuration.

use std::sync::Arc;
use std::time::Duration;

use entity::Db;
use protocol::{Caller, Refusal, Scope, TenantId};
use proxy::catalog::ListKind;
use proxy::server::{Launch, ServerSpec};
use proxy::state::StateStore;
use servers::collab::{Blobs, Checkouts, Collab, CollabSettings, S3};

use crate::config::Config;
use crate::mcp::builtin_names::COLLAB;

/// Checks whether a caller's scopes open a list of a server: the resources of `collab` name tasks.
///
/// # Errors
/// [`protocol::Code::MissingScope`].
pub fn may_list(caller: &Caller, kind: ListKind, spec: &ServerSpec) -> Result<(), Refusal> {
    match (&spec.launch, kind) {
        (Launch::Builtin(launch), ListKind::Resources) if launch.provider == COLLAB => {
            caller.require(Scope::TasksRead)
        }
        _ => Ok(()),
    }
}

/// Opens the server `collab`; the error is a sentence for the operator.
pub fn collab(
    config: &Config,
    db: &Db,
    state: &Arc<dyn StateStore>,
    default_tenant: TenantId,
) -> Result<Collab, String> {
    let given = &config.collaboration;
    let settings = CollabSettings {
        lease: Duration::from_secs(given.file_lock_timeout),
        // A file comes in Base64, four bytes for three.
        max_file_bytes: given.workspace_file_max_bytes.min(config.server.max_body_bytes / 4 * 3),
        cache_ttl: Duration::from_secs(given.task_cache_ttl),
        sync_from: Duration::from_millis(given.sync_from_postgres_interval),
        sync_to: Duration::from_millis(given.sync_to_postgres_interval),
        compat_keys: given.redis_compat_keys.then_some(default_tenant),
    };
    let dir = &given.workspace_checkout_dir;
    let checkouts = match dir.as_os_str().is_empty() {
        true => None,
        false => Some(Checkouts::open(dir).map_err(|error| {
            format!("the directory of checkouts (WORKSPACE_CHECKOUT_DIR) cannot be used: {error}")
        })?),
    };
    Ok(Collab::new(db.clone(), Arc::clone(state), blobs(config)?, checkouts, settings))
}

fn blobs(config: &Config) -> Result<Blobs, String> {
    let given = &config.collaboration;
    if !given.workspace_s3_bucket.is_empty() {
        let s3 = S3 {
            bucket: given.workspace_s3_bucket.clone(),
            endpoint: given.workspace_s3_endpoint.clone(),
            region: given.workspace_s3_region.clone(),
            access_key: given.workspace_s3_access_key.clone(),
            secret_key: given.workspace_s3_secret_key.clone(),
        };
        return Blobs::in_s3(&s3).map_err(|error| {
            format!("the store of workspaces (WORKSPACE_S3_BUCKET) cannot be used: {error}")
        });
    }
    let dir = match given.workspace_dir.as_os_str().is_empty() {
        true => config.server.data_dir.join("blobs"),
        false => given.workspace_dir.clone(),
    };
    Blobs::in_directory(&dir)
        .map_err(|error| format!("the directory of workspaces (WORKSPACE_DIR) cannot be used: {error}"))
}
