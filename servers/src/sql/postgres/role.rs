//! Role of PostgreSQL that can only read: the check of a role, and the SQL that makes one.

use super::guard::{Session, quoted_name};
use crate::sql::{Bounds, SqlError};

/// Findings of a check, as parts of a sentence.
#[derive(Default)]
pub struct Risks {
    /// Reasons to refuse the role.
    pub refused: Vec<String>,
    /// Functions whose effects outlive a transaction, though they write no data.
    pub warned: Vec<String>,
}

/// Finding of a role that may do everything.
const ALL: &str = "it has the attribute SUPERUSER";

/// Most findings of one kind.
const MOST: usize = 10;

/// Functions with effects outside the transaction that roles without rights may call. `REVOKE` is advised.
const WARNED: &str = "'pg_terminate_backend', 'pg_cancel_backend', 'pg_logical_emit_message', 'lo_create', \
                      'lo_creat', 'lo_from_bytea', 'lo_put', 'lo_open', 'lowrite', 'lo_unlink', 'lo_truncate', 'lo_truncate64'";

/// Functions that applications use too; their effects end with the statement's transaction or session.
const SHARED: &str = "'pg_advisory_lock', 'pg_advisory_lock_shared', 'pg_advisory_xact_lock', \
                      'pg_advisory_xact_lock_shared', 'pg_try_advisory_lock', 'pg_try_advisory_lock_shared', \
                      'pg_try_advisory_xact_lock', 'pg_try_advisory_xact_lock_shared', 'pg_notify', \
                      'txid_current', 'pg_current_xact_id'";

/// Functions that read files, connect elsewhere or change the server. `pg_read_file_old` and its like check the
/// caller themselves.
const REFUSED: &str = "'pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_ls_logdir', \
    'pg_ls_waldir', 'pg_ls_archive_statusdir', 'pg_ls_tmpdir', 'pg_stat_file', 'lo_import', 'lo_export', \
    'pg_reload_conf', 'pg_rotate_logfile', 'pg_promote', 'pg_switch_wal', \
    'pg_create_restore_point', 'pg_start_backup', 'pg_backup_start', 'pg_log_backend_memory_contexts', \
    'pg_file_write', 'pg_file_sync', 'pg_file_rename', 'pg_file_unlink', 'pg_logdir_ls', \
    'dblink', 'dblink_exec', 'dblink_connect', 'dblink_connect_u', 'dblink_open', 'dblink_send_query'";

/// Finds the risks of the role that is logged in.
pub async fn find(session: &mut Session, schemas: &[String], bounds: &Bounds) -> Result<Risks, SqlError> {
    let rows = session.constant(&question(schemas), bounds).await?;
    let mut risks = Risks::default();
    for row in rows {
        let [kind, finding] = row.as_slice() else { continue };
        let kept = if kind == "warned" { &mut risks.warned } else { &mut risks.refused };
        kept.push(finding.clone());
    }
    // The rest follows from it.
    if risks.refused.iter().any(|finding| finding == ALL) {
        risks.refused = vec![ALL.to_owned()];
    }
    Ok(risks)
}

/// Returns the query that finds the risks: rows of a kind and a finding.
fn question(schemas: &[String]) -> String {
    let mut findings: Vec<(&str, String)> = vec![
        (
            "refused",
            "SELECT 'it has the attribute ' || attribute FROM pg_roles r, LATERAL (VALUES \
             ('SUPERUSER', rolsuper), ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb), \
             ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)) a (attribute, has) \
             WHERE r.rolname = current_user AND has"
                .to_owned(),
        ),
        (
            "refused",
            "SELECT 'it is a member of ' || g.rolname FROM pg_auth_members m \
             JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member \
             WHERE r.rolname = current_user"
                .to_owned(),
        ),
        (
            "refused",
            "SELECT 'it owns objects' FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid \
             WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname = current_user LIMIT 1"
                .to_owned(),
        ),
        (
            "refused",
            // Everybody may write this view, which sets what `SET` sets.
            "SELECT 'it can write ' || c.oid::regclass FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             AND c.oid <> 'pg_settings'::regclass AND (has_table_privilege(c.oid, \
             'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER, REFERENCES') \
             OR has_any_column_privilege(c.oid, 'INSERT, UPDATE, REFERENCES'))"
                .to_owned(),
        ),
        (
            "refused",
            "SELECT 'it can change the sequence ' || c.oid::regclass FROM pg_class c \
             WHERE CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE, UPDATE') END"
                .to_owned(),
        ),
        (
            "refused",
            "SELECT 'it can create objects in the schema ' || quote_ident(n.nspname) FROM pg_namespace n \
             WHERE has_schema_privilege(n.oid, 'CREATE') AND n.nspname !~ '^pg_(toast_)?temp_'"
                .to_owned(),
        ),
        (
            "refused",
            "SELECT 'it can make schemas or temporary tables in the database' \
             WHERE has_database_privilege(current_database(), 'CREATE, TEMPORARY')"
                .to_owned(),
        ),
        (
            "refused",
            format!(
                "SELECT 'it can call ' || p.oid::regprocedure FROM pg_proc p WHERE p.proname IN ({REFUSED}) \
                 AND has_function_privilege(p.oid, 'EXECUTE') \
                 AND EXISTS (SELECT FROM pg_namespace n WHERE n.oid = p.pronamespace AND has_schema_privilege(n.oid, 'USAGE'))"
            ),
        ),
        (
            "refused",
            "SELECT 'it can call ' || p.oid::regprocedure || ', which runs with the rights of a superuser' \
             FROM pg_proc p JOIN pg_roles o ON o.oid = p.proowner WHERE p.prosecdef AND o.rolsuper \
             AND has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(p.pronamespace, 'USAGE')"
                .to_owned(),
        ),
        (
            "refused",
            "SELECT 'it can call ' || p.oid::regprocedure || ', which is written in the untrusted language ' || l.lanname \
             FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE NOT l.lanpltrusted \
             AND l.lanname NOT IN ('internal', 'c') AND has_function_privilege(p.oid, 'EXECUTE') \
             AND has_schema_privilege(p.pronamespace, 'USAGE')"
                .to_owned(),
        ),
        (
            "warned",
            format!(
                "SELECT 'it can call ' || p.oid::regprocedure FROM pg_proc p WHERE p.proname IN ({WARNED}) \
                 AND p.pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege(p.oid, 'EXECUTE')"
            ),
        ),
    ];
    if !schemas.is_empty() {
        let names: Vec<_> = schemas.iter().map(|name| quoted_text(name)).collect();
        let names = names.join(", ");
        findings.push((
            "refused",
            format!(
                "SELECT 'it can read ' || c.oid::regclass || ', which is outside the schemas that are allowed' \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ({names}, 'pg_catalog', \
                 'information_schema', 'pg_toast') AND has_schema_privilege(n.oid, 'USAGE') \
                 AND has_any_column_privilege(c.oid, 'SELECT')"
            ),
        ));
        findings.push((
            "refused",
            format!(
                "SELECT 'there is no schema ' || quote_ident(s.name) || ' that it may use' \
                 FROM unnest(ARRAY[{names}]) s (name) WHERE NOT EXISTS (SELECT FROM pg_namespace n \
                 WHERE n.nspname = s.name AND has_schema_privilege(n.oid, 'USAGE'))"
            ),
        ));
    }
    let parts = findings.into_iter().map(|(kind, sql)| {
        format!(
            "SELECT '{kind}', f.finding FROM (SELECT * FROM ({sql}) g (finding) ORDER BY 1 LIMIT {MOST}) f"
        )
    });
    Vec::from_iter(parts).join(" UNION ALL ")
}

/// Returns the SQL that makes a role for one database and some of its schemas.
pub fn role_sql(role: &str, database: &str, schemas: &[String]) -> String {
    let (role, database) = (quoted_name(role), quoted_name(database));
    let public = ["public".to_owned()];
    let schemas = if schemas.is_empty() { &public } else { schemas };
    let mut sql = format!(
        "-- Run this as a superuser, connected to the database {database}:\n\
         --     psql --dbname={database} --file=role.sql\n\
         -- Then give the role a password, which is sent sealed:  \\password {role}\n\
         BEGIN;\n\n\
         -- A role of its own, with no attribute and no membership, and with limits that it keeps in every session.\n\
         CREATE ROLE {role} LOGIN NOSUPERUSER NOINHERIT NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS\n    \
             CONNECTION LIMIT 20;\n\
         ALTER ROLE {role} SET default_transaction_read_only = on;\n\
         ALTER ROLE {role} SET statement_timeout = '60s';\n\
         ALTER ROLE {role} SET lock_timeout = '2s';\n\
         ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s';\n\
         ALTER ROLE {role} SET temp_file_limit = '256MB';\n\n\
         -- Everybody may make temporary tables, and before PostgreSQL 15 tables in `public`, unless this is taken\n\
         -- back. Grant it again to the roles that need it.\n\
         REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC;\n\
         REVOKE CREATE ON SCHEMA public FROM PUBLIC;\n\
         GRANT CONNECT ON DATABASE {database} TO {role};\n"
    );
    for schema in schemas {
        let schema = quoted_name(schema);
        sql.push_str(&format!(
            "\nGRANT USAGE ON SCHEMA {schema} TO {role};\n\
             GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};\n\
             -- Tables that the role running this makes later; run it for other owners with FOR ROLE.\n\
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role};\n"
        ));
    }
    sql.push_str(&format!(
        "\n-- Functions of everybody that end other sessions of the same role, or leave something behind after a\n\
         -- rollback. Superusers keep them; grant them again to the roles that need them.\n{}",
        revoke(WARNED, "")
    ));
    sql.push_str(&format!(
        "\n-- Stricter, where no application uses these: locks and messages, which are cleared after each statement.\n{}",
        revoke(SHARED, "-- ")
    ));
    sql.push_str("\nCOMMIT;\n");
    sql
}

/// Returns a block that takes functions back from everybody, in whatever forms this version has them.
fn revoke(names: &str, mark: &str) -> String {
    let block = format!(
        "DO $$\nDECLARE\n    called regprocedure;\nBEGIN\n    FOR called IN SELECT oid FROM pg_proc\n        \
         WHERE pronamespace = 'pg_catalog'::regnamespace\n        AND proname IN ({names})\n    LOOP\n        \
         EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', called);\n    END LOOP;\nEND $$;"
    );
    block.lines().map(|line| format!("{mark}{line}\n")).collect()
}

fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
