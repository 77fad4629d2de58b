//! Rows of tasks that other programs write: their JSON is checked on SQLite, as PostgreSQL does by itself, and
//! their triggers find the outbox whatever the program's search path is.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub struct OutsideRows;

impl MigrationName for OutsideRows {
    fn name(&self) -> &str {
        "m0007_outside_rows"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for OutsideRows {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let statements: &[&str] = match manager.get_database_backend() {
            DbBackend::Postgres => &POSTGRES,
            _ => &SQLITE,
        };
        for statement in statements {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements: &[&str] = match manager.get_database_backend() {
            DbBackend::Postgres => &[
                "ALTER FUNCTION task_changed_outside() RESET search_path",
                "ALTER FUNCTION task_event_outside() RESET search_path",
            ],
            _ => &[
                "DROP TRIGGER task_json_inserted",
                "DROP TRIGGER task_json_updated",
                "DROP TRIGGER task_event_json_inserted",
            ],
        };
        for statement in statements {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

const POSTGRES: [&str; 2] = [
    "ALTER FUNCTION task_changed_outside() SET search_path FROM CURRENT",
    "ALTER FUNCTION task_event_outside() SET search_path FROM CURRENT",
];
const SQLITE: [&str; 3] = [
    "CREATE TRIGGER task_json_inserted BEFORE INSERT ON tasks
        WHEN NOT json_valid(NEW.labels) OR NOT coalesce(json_valid(NEW.result), 1) BEGIN
        SELECT raise(ABORT, 'labels and result of a task are JSON');
    END",
    "CREATE TRIGGER task_json_updated BEFORE UPDATE OF labels, result ON tasks
        WHEN NOT json_valid(NEW.labels) OR NOT coalesce(json_valid(NEW.result), 1) BEGIN
        SELECT raise(ABORT, 'labels and result of a task are JSON');
    END",
    "CREATE TRIGGER task_event_json_inserted BEFORE INSERT ON task_events WHEN NOT json_valid(NEW.data) BEGIN
        SELECT raise(ABORT, 'data of an event is JSON');
    END",
];
