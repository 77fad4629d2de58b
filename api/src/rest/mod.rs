//! REST routes under `/v1`, in the order of the document. The caller is known before a handler runs; the
//! handler's first line checks the caller's scopes.

pub mod acting;
mod agents;
mod argument_rules;
mod audit;
mod config_forms;
mod configs;
pub mod describe;
mod effective;
mod executions;
mod explain;
mod export;
mod find;
mod input;
mod keys;
mod leases;
mod listed;
mod record_policy;
mod registry;
mod servers;
mod stats;
mod tasks;
mod tenancy;
mod tenants;
mod tokens;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
pub use input::Name;
pub use input::form::reference;
pub use input::parameters::MAX_TEXT;

/// Returns every route of the registry, the record and the identities. Authentication goes around it as a
/// `route_layer`, so that an unknown path is 404 for everybody.
pub fn router() -> OpenApiRouter<Arc<App>> {
    use registry::{official, publish, ratings};
    use servers::{discover, process};
    OpenApiRouter::default()
        .routes(routes!(servers::list_servers, servers::create_server))
        .routes(routes!(servers::find_server, servers::update_server, servers::delete_server))
        .routes(routes!(discover::discover_server))
        .routes(routes!(process::check_server))
        .routes(routes!(process::start_server))
        .routes(routes!(process::stop_server))
        .routes(routes!(process::restart_server))
        .routes(routes!(process::list_server_logs))
        .routes(routes!(stats::server_usage))
        .routes(routes!(configs::list_configs, configs::create_config))
        .routes(routes!(effective::effective_config))
        .routes(routes!(explain::explain))
        .routes(routes!(configs::find_config, configs::update_config, configs::delete_config))
        .routes(routes!(registry::list_entries, publish::publish_entry))
        .routes(routes!(registry::import::import_entries))
        .routes(routes!(registry::find_entry, publish::update_entry))
        .routes(routes!(publish::delete_entry_version))
        .routes(routes!(registry::install::install_entry))
        .routes(routes!(ratings::list_ratings))
        .routes(routes!(ratings::rate_entry, ratings::delete_rating))
        .routes(routes!(official::list_official))
        .routes(routes!(official::list_official_versions))
        .routes(routes!(official::find_official))
        .routes(routes!(executions::list_executions))
        .routes(routes!(export::export_executions))
        .routes(routes!(stats::execution_stats))
        .routes(routes!(record_policy::find_record_settings, record_policy::update_record_settings))
        .routes(routes!(executions::find_execution))
        .routes(routes!(tenants::list_tenants, tenants::create_tenant))
        .routes(routes!(tenants::find_tenant, tenants::delete_tenant))
        .routes(routes!(agents::list_agents, agents::create_agent))
        .routes(routes!(agents::find_agent, agents::delete_agent))
        .routes(routes!(keys::list_keys, keys::create_key))
        .routes(routes!(keys::delete_key))
        .routes(routes!(tokens::create_token))
        .routes(routes!(tasks::list_tasks, tasks::create_task))
        .routes(routes!(tasks::find_task, tasks::update_task, tasks::delete_task))
        .routes(routes!(tasks::events::follow_task))
        .routes(routes!(tasks::list_files))
        .routes(routes!(tasks::download_file))
        .routes(routes!(tasks::download_workspace))
        .routes(routes!(leases::list_leases))
        .routes(routes!(leases::force_release))
        .routes(routes!(audit::list_audit_events))
}
