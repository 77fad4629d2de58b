//! Tasks: shared workspaces, leases with fencing tokens, one numbered event log per task, and the outbox of
//! rows that other programs write.
//!
//! Columns have defaults, so that an `INSERT` of another program names only what it knows (docs/state.md).

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub struct Tasks;

impl MigrationName for Tasks {
    fn name(&self) -> &str {
        "m0006_tasks"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tasks {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let (words, alone): (&[_], &[&str]) = match manager.get_database_backend() {
            DbBackend::Postgres => (&POSTGRES, &POSTGRES_ALONE),
            _ => (&SQLITE, &SQLITE_ALONE),
        };
        for statement in TABLES.iter().chain(alone) {
            let written =
                OF_A_TASK.iter().chain(words).fold((*statement).to_owned(), |text, (name, word)| {
                    text.replace(&format!("{{{name}}}"), word)
                });
            connection.execute_unprepared(&written).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "task_outbox",
            "task_events",
            "task_file_versions",
            "task_files",
            "task_lease_waiters",
            "task_leases",
            "task_participants",
            "task_dependencies",
            "tasks",
        ] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        let alone = match manager.get_database_backend() {
            DbBackend::Postgres => {
                "DROP FUNCTION task_changed_outside, task_event_outside; DROP SEQUENCE fence_tokens"
            }
            _ => "DROP TABLE fence_tokens",
        };
        manager.get_connection().execute_unprepared(alone).await.map(drop)
    }
}

/// Columns and key that tables of a task have in common. They come first, since they hold words of the others.
const OF_A_TASK: [(&str, &str); 2] = [
    ("of_task", "tenant_id {uuid} NOT NULL, task_id text NOT NULL"),
    ("goes_with_task", "FOREIGN KEY (tenant_id, task_id) REFERENCES tasks (tenant_id, id) ON DELETE CASCADE"),
];

/// Words that the databases spell differently.
const POSTGRES: [(&str, &str); 6] = [
    ("uuid", "uuid"),
    ("by_bytes", "COLLATE \"C\""),
    ("json", "jsonb"),
    ("now", "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"),
    ("new_uuid", "gen_random_uuid()"),
    ("counter", "bigserial PRIMARY KEY"),
];
const SQLITE: [(&str, &str); 6] = [
    ("uuid", "uuid_text"),
    ("by_bytes", "COLLATE BINARY"),
    ("json", "jsonb_text"),
    ("now", "(CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))"),
    ("new_uuid", "(randomblob(16))"),
    ("counter", "integer PRIMARY KEY AUTOINCREMENT"),
];

/// Tables of a task. `last_seq` is the number of its newest event and grows with each change that the
/// gateway makes: a change that leaves it as it was is another program's. A lease's `path` may be a pattern.
/// `last_token` of a file is the highest fencing token that wrote it.
const TABLES: [&str; 12] = [
    "CREATE TABLE tasks (
        tenant_id {uuid} NOT NULL REFERENCES tenants (id),
        id text NOT NULL,
        title text NOT NULL DEFAULT '',
        description text,
        status text NOT NULL DEFAULT 'pending',
        assigned_to text,
        complexity integer,
        parent text,
        labels {json} NOT NULL DEFAULT '[]',
        result {json},
        access text NOT NULL DEFAULT 'tenant',
        created_by text,
        version bigint NOT NULL DEFAULT 1,
        last_seq bigint NOT NULL DEFAULT 0,
        created_at bigint NOT NULL DEFAULT {now},
        updated_at bigint NOT NULL DEFAULT {now},
        PRIMARY KEY (tenant_id, id)
    )",
    "CREATE INDEX tasks_by_status ON tasks (tenant_id, status, created_at)",
    "CREATE TABLE task_dependencies (
        {of_task},
        needs text NOT NULL,
        PRIMARY KEY (tenant_id, task_id, needs),
        {goes_with_task}
    )",
    "CREATE TABLE task_participants (
        {of_task},
        agent text NOT NULL,
        role text,
        joined_at bigint NOT NULL DEFAULT {now},
        seen_at bigint NOT NULL DEFAULT {now},
        left_at bigint,
        PRIMARY KEY (tenant_id, task_id, agent),
        {goes_with_task}
    )",
    "CREATE TABLE task_leases (
        {of_task},
        id {uuid} NOT NULL,
        path text NOT NULL,
        shared boolean NOT NULL,
        holder text NOT NULL,
        token bigint NOT NULL,
        granted_at bigint NOT NULL,
        expires_at bigint NOT NULL,
        PRIMARY KEY (tenant_id, task_id, id),
        {goes_with_task}
    )",
    "CREATE TABLE task_lease_waiters (
        {of_task},
        id {uuid} NOT NULL,
        place bigint NOT NULL,
        path text NOT NULL,
        shared boolean NOT NULL,
        agent text NOT NULL,
        expires_at bigint NOT NULL,
        PRIMARY KEY (tenant_id, task_id, id),
        {goes_with_task}
    )",
    "CREATE TABLE task_files (
        {of_task},
        path text {by_bytes} NOT NULL,
        version bigint NOT NULL,
        sha256 text NOT NULL,
        size bigint NOT NULL,
        last_token bigint NOT NULL,
        deleted boolean NOT NULL,
        author text NOT NULL,
        updated_at bigint NOT NULL,
        PRIMARY KEY (tenant_id, task_id, path),
        {goes_with_task}
    )",
    "CREATE TABLE task_file_versions (
        {of_task},
        path text {by_bytes} NOT NULL,
        version bigint NOT NULL,
        sha256 text NOT NULL,
        size bigint NOT NULL,
        token bigint,
        deleted boolean NOT NULL,
        author text NOT NULL,
        written_at bigint NOT NULL,
        PRIMARY KEY (tenant_id, task_id, path, version),
        {goes_with_task}
    )",
    "CREATE TABLE task_events (
        id {uuid} NOT NULL PRIMARY KEY DEFAULT {new_uuid},
        {of_task},
        seq bigint,
        kind text NOT NULL DEFAULT 'step',
        agent text,
        data {json} NOT NULL DEFAULT '{}',
        step_id text,
        at bigint NOT NULL DEFAULT {now},
        {goes_with_task}
    )",
    "CREATE UNIQUE INDEX task_events_seq ON task_events (tenant_id, task_id, seq)",
    "CREATE UNIQUE INDEX task_events_step ON task_events (tenant_id, task_id, step_id)",
    "CREATE TABLE task_outbox (
        id {counter},
        {of_task},
        event_id {uuid},
        noted_at bigint NOT NULL DEFAULT {now}
    )",
];

/// The source of fencing tokens, which gives none twice, and the triggers that note other programs' rows.
const POSTGRES_ALONE: [&str; 6] = [
    "CREATE SEQUENCE fence_tokens",
    "CREATE FUNCTION task_changed_outside() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO task_outbox (tenant_id, task_id) VALUES (NEW.tenant_id, NEW.id);
        RETURN NULL;
    END $$",
    "CREATE FUNCTION task_event_outside() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO task_outbox (tenant_id, task_id, event_id) VALUES (NEW.tenant_id, NEW.task_id, NEW.id);
        RETURN NULL;
    END $$",
    "CREATE TRIGGER task_inserted_outside AFTER INSERT ON tasks FOR EACH ROW
        WHEN (NEW.last_seq = 0) EXECUTE FUNCTION task_changed_outside()",
    "CREATE TRIGGER task_updated_outside AFTER UPDATE ON tasks FOR EACH ROW
        WHEN (NEW.last_seq = OLD.last_seq) EXECUTE FUNCTION task_changed_outside()",
    "CREATE TRIGGER task_event_inserted_outside AFTER INSERT ON task_events FOR EACH ROW
        WHEN (NEW.seq IS NULL) EXECUTE FUNCTION task_event_outside()",
];
const SQLITE_ALONE: [&str; 5] = [
    "CREATE TABLE fence_tokens (id integer NOT NULL PRIMARY KEY, last bigint NOT NULL)",
    "INSERT INTO fence_tokens (id, last) VALUES (1, 0)",
    "CREATE TRIGGER task_inserted_outside AFTER INSERT ON tasks WHEN NEW.last_seq = 0 BEGIN
        INSERT INTO task_outbox (tenant_id, task_id) VALUES (NEW.tenant_id, NEW.id);
    END",
    "CREATE TRIGGER task_updated_outside AFTER UPDATE ON tasks WHEN NEW.last_seq = OLD.last_seq BEGIN
        INSERT INTO task_outbox (tenant_id, task_id) VALUES (NEW.tenant_id, NEW.id);
    END",
    "CREATE TRIGGER task_event_inserted_outside AFTER INSERT ON task_events WHEN NEW.seq IS NULL BEGIN
        INSERT INTO task_outbox (tenant_id, task_id, event_id) VALUES (NEW.tenant_id, NEW.task_id, NEW.id);
    END",
];
