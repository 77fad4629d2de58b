//! Settings of each tenant's record of executions: retention and redaction.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub struct RecordPolicies;

impl MigrationName for RecordPolicies {
    fn name(&self) -> &str {
        "m0011_record_policies"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for RecordPolicies {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (uuid, json) = match manager.get_database_backend() {
            DbBackend::Postgres => ("uuid", "jsonb"),
            _ => ("uuid_text", "jsonb_text"),
        };
        let table = format!(
            "CREATE TABLE record_policies (
                tenant_id {uuid} NOT NULL PRIMARY KEY REFERENCES tenants (id),
                settings {json} NOT NULL,
                updated_at bigint NOT NULL
            )"
        );
        manager.get_connection().execute_unprepared(&table).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE record_policies").await.map(drop)
    }
}
