//! Migrations of the SQL schema, one file per step. Imports nothing of the other crates, so that a step
//! never changes with their code.

mod m0001_foundation;
mod m0002_executions;
mod m0003_sessions_and_eras;
mod m0004_tenant_changes;
mod m0005_catalogs;
mod m0006_tasks;
mod m0007_outside_rows;
mod m0008_config_settings;
mod m0009_server_usage;
mod m0010_execution_indexes;
mod m0011_record_policies;
mod m0012_marketplace;
mod m0013_server_health;
mod m0014_config_secrets;

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

/// All steps, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_foundation::Foundation),
            Box::new(m0002_executions::Executions),
            Box::new(m0003_sessions_and_eras::SessionsAndEras),
            Box::new(m0004_tenant_changes::TenantChanges),
            Box::new(m0005_catalogs::Catalogs),
            Box::new(m0006_tasks::Tasks),
            Box::new(m0007_outside_rows::OutsideRows),
            Box::new(m0008_config_settings::ConfigSettings),
            Box::new(m0009_server_usage::ServerUsage),
            Box::new(m0010_execution_indexes::ExecutionIndexes),
            Box::new(m0011_record_policies::RecordPolicies),
            Box::new(m0012_marketplace::Marketplace),
            Box::new(m0013_server_health::ServerHealth),
            Box::new(m0014_config_secrets::ConfigSecrets),
        ]
    }
}
