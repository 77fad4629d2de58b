//! Attacks on PostgreSQL: statements that write, leave the transaction, read what is not granted, reach files,
//! other servers or other sessions, or have no end. Each must fail and leave nothing behind.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::json;
use servers::sql::Kind::{self, Invalid, PermissionDenied, ReadOnly, TimedOut, TooLarge};
use servers::sql::Limit;
use tokio_postgres::AsyncMessage;

use crate::ground::{Ground, ask, bounds, connect};
use crate::trial;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("attacks::a_reader_can_only_read", a_reader_can_only_read),
        trial("attacks::a_superuser_can_write_nothing", a_superuser_can_write_nothing),
        trial("attacks::nothing_outlives_a_statement", nothing_outlives_a_statement),
        trial("attacks::stricter_roles_call_less", stricter_roles_call_less),
        trial("attacks::what_has_no_end_is_stopped", what_has_no_end_is_stopped),
        trial(
            "attacks::a_request_that_is_given_up_ends_its_statement",
            a_request_that_is_given_up_ends_its_statement,
        ),
        trial("attacks::plans_are_made_and_nothing_is_run", plans_are_made_and_nothing_is_run),
        trial("attacks::other_servers_are_out_of_reach", other_servers_are_out_of_reach),
    ]
}

/// Stopped by the grammar of the cursor, by the one statement of a message, or by the transaction: whatever the
/// role may do.
const FOR_ANY_ROLE: &[(&str, Kind)] = &[
    ("COMMIT; DROP TABLE shop.orders", Invalid),
    ("COMMIT; INSERT INTO shop.orders VALUES (9, 'x', 1)", Invalid),
    ("ROLLBACK; DROP TABLE shop.orders; --", Invalid),
    ("SELECT 1; DROP TABLE shop.orders", Invalid),
    ("SELECT 1; COMMIT; DROP TABLE shop.orders; SELECT 1", Invalid),
    ("SELECT 1) AS x; DROP TABLE shop.orders; --", Invalid),
    ("COMMIT", ReadOnly),
    ("ROLLBACK", ReadOnly),
    ("BEGIN READ WRITE", ReadOnly),
    ("SAVEPOINT here", ReadOnly),
    ("SET TRANSACTION READ WRITE", ReadOnly),
    ("SET TRANSACTION READ WRITE; INSERT INTO shop.orders VALUES (9, 'x', 1)", Invalid),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", ReadOnly),
    ("SET default_transaction_read_only = off", ReadOnly),
    ("SELECT set_config('transaction_read_only', 'off', true)", Invalid),
    ("UPDATE pg_settings SET setting = 'off' WHERE name = 'transaction_read_only' RETURNING 1", Invalid),
    ("SET ROLE pg_monitor", ReadOnly),
    ("RESET ROLE", ReadOnly),
    ("SET SESSION AUTHORIZATION DEFAULT", ReadOnly),
    ("SHOW server_version", ReadOnly),
    ("INSERT INTO shop.orders VALUES (9, 'x', 1)", ReadOnly),
    ("INSERT INTO shop.orders VALUES (9, 'x', 1) RETURNING id", ReadOnly),
    ("UPDATE shop.orders SET total = 0 RETURNING id", ReadOnly),
    ("DELETE FROM shop.orders RETURNING id", ReadOnly),
    ("TRUNCATE shop.orders", ReadOnly),
    ("WITH gone AS (DELETE FROM shop.orders RETURNING id) SELECT * FROM gone", ReadOnly),
    ("WITH new AS (INSERT INTO shop.orders VALUES (9, 'x', 1) RETURNING id) TABLE new", ReadOnly),
    ("SELECT * INTO shop.copy FROM shop.orders", ReadOnly),
    ("CREATE TABLE shop.copy AS SELECT * FROM shop.orders", ReadOnly),
    ("CREATE TEMP TABLE copy (id int)", ReadOnly),
    ("DROP TABLE shop.orders", ReadOnly),
    ("ALTER TABLE shop.orders ADD x int", ReadOnly),
    ("CREATE FUNCTION shop.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", ReadOnly),
    ("GRANT ALL ON shop.orders TO PUBLIC", ReadOnly),
    ("DO $$ BEGIN DELETE FROM shop.orders; END $$", ReadOnly),
    ("CALL shop.do_it()", ReadOnly),
    ("SELECT shop.add_order()", ReadOnly),
    ("SELECT shop.run('DELETE FROM shop.orders')", ReadOnly),
    ("SELECT shop.run('CREATE TEMP TABLE t (id int)')", ReadOnly),
    ("SELECT shop.run('SET TRANSACTION READ WRITE')", Invalid),
    ("SELECT shop.run('COMMIT')", Invalid),
    ("SELECT nextval('shop.numbers')", ReadOnly),
    ("SELECT setval('shop.numbers', 7)", ReadOnly),
    ("SELECT * FROM shop.orders FOR UPDATE", ReadOnly),
    ("COPY shop.orders TO STDOUT", ReadOnly),
    ("COPY shop.orders FROM STDIN", ReadOnly),
    ("COPY (SELECT 1) TO PROGRAM 'touch /tmp/trunkline-was-here'", ReadOnly),
    ("COPY shop.orders TO '/tmp/trunkline-was-here'", ReadOnly),
    ("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE", ReadOnly),
    ("LISTEN channel", ReadOnly),
    ("NOTIFY channel", ReadOnly),
    ("PREPARE later AS SELECT 1", ReadOnly),
    ("EXECUTE later", ReadOnly),
    ("DEALLOCATE ALL", ReadOnly),
    ("DISCARD ALL", ReadOnly),
    ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", ReadOnly),
    ("FETCH ALL FROM trunkline", ReadOnly),
    ("CLOSE ALL", ReadOnly),
    ("VACUUM", ReadOnly),
    ("ANALYZE", ReadOnly),
    ("CHECKPOINT", ReadOnly),
    ("EXPLAIN SELECT 1", ReadOnly),
    ("EXPLAIN ANALYZE DELETE FROM shop.orders", ReadOnly),
    ("EXPLAIN (ANALYZE) SELECT shop.add_order()", ReadOnly),
    ("ANALYZE DELETE FROM shop.orders", Invalid),
    ("LOAD 'auto_explain'", ReadOnly),
    ("REINDEX TABLE shop.orders", ReadOnly),
    ("REFRESH MATERIALIZED VIEW shop.names", ReadOnly),
    ("SELECT 1\0; DROP TABLE shop.orders", Invalid),
    ("/* nothing */ -- at all", ReadOnly),
];

/// Stopped by the role.
const FOR_A_READER: &[(&str, Kind)] = &[
    ("SELECT set_config('role', 'pg_monitor', false)", PermissionDenied),
    ("SELECT set_config('session_authorization', 'boss', false)", PermissionDenied),
    ("SELECT pg_read_file('/etc/passwd')", PermissionDenied),
    ("SELECT pg_read_file_old('/etc/passwd', 0, 9)", PermissionDenied),
    ("SELECT pg_read_binary_file('/etc/passwd')", PermissionDenied),
    ("SELECT pg_ls_dir('/')", PermissionDenied),
    ("SELECT pg_stat_file('/etc/passwd')", PermissionDenied),
    ("SELECT lo_import('/etc/passwd')", PermissionDenied),
    ("SELECT lo_export(1, '/tmp/trunkline-was-here')", PermissionDenied),
    ("SELECT pg_terminate_backend(pg_backend_pid())", PermissionDenied),
    ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user", PermissionDenied),
    ("SELECT pg_cancel_backend(pg_backend_pid())", PermissionDenied),
    ("SELECT pg_reload_conf()", PermissionDenied),
    ("SELECT pg_create_physical_replication_slot('trunkline')", PermissionDenied),
    ("SELECT pg_switch_wal()", PermissionDenied),
    ("SELECT pg_logical_emit_message(false, 'a', 'b')", PermissionDenied),
    ("SELECT lo_create(0)", PermissionDenied),
    ("SELECT lo_from_bytea(0, 'x')", PermissionDenied),
    ("SELECT * FROM hidden.secrets", PermissionDenied),
    ("SELECT * FROM pg_shadow", PermissionDenied),
    ("SELECT rolpassword FROM pg_authid", PermissionDenied),
    ("SELECT query_to_xml('SELECT * FROM hidden.secrets', true, false, '')", PermissionDenied),
    ("SELECT table_to_xml('hidden.secrets', true, false, '')", PermissionDenied),
    ("SELECT shop.run('SELECT * FROM hidden.secrets')", PermissionDenied),
    ("SELECT shop.run('COPY (SELECT 1) TO PROGRAM ''touch /tmp/trunkline-was-here''')", PermissionDenied),
    ("SELECT shop.run('SET ROLE pg_monitor')", PermissionDenied),
    ("SELECT shop.run('LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE')", PermissionDenied),
];

async fn a_reader_can_only_read(ground: Ground) {
    let postgres = ground.postgres();
    assert_eq!(postgres.check(&bounds(5_000)).await.unwrap(), [""; 0], "the role of role_sql has no risk");
    for (attack, kind) in FOR_ANY_ROLE.iter().chain(FOR_A_READER) {
        let error = ask(&postgres, attack, &[]).await.expect_err(attack);
        // The reader's rights are asked for first in some.
        let is_refused = matches!((kind, error.kind), (ReadOnly, PermissionDenied));
        assert!(error.kind == *kind || is_refused, "{attack}: {:?}: {error}", error.kind);
    }
    let rows = ask(&postgres, "SELECT count(*) FROM orders WHERE id < $1", &[json!(3)]).await.unwrap();
    assert_eq!(rows.rows, [[json!(2)]]);
    ground.is_unchanged().await;
    assert!(!std::path::Path::new("/tmp/trunkline-was-here").exists());
    assert!(postgres.figures().open <= 2, "errors cost no connection: {:?}", postgres.figures());
}

async fn a_superuser_can_write_nothing(ground: Ground) {
    let postgres = ground.unsafe_postgres();
    let warnings = postgres.check(&bounds(5_000)).await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("SUPERUSER")), "{warnings:?}");
    for (attack, kind) in FOR_ANY_ROLE {
        let error = ask(&postgres, attack, &[]).await.expect_err(attack);
        assert_eq!(error.kind, *kind, "{attack}: {error}");
    }
    ground.is_unchanged().await;
    assert!(!std::path::Path::new("/tmp/trunkline-was-here").exists());
}

async fn nothing_outlives_a_statement(ground: Ground) {
    let settings = servers::sql::postgres::PostgresSettings { pool_min: 1, pool_max: 1, ..ground.settings() };
    let postgres = servers::sql::postgres::Postgres::new(settings).unwrap();
    let (mut listener, mut connection) =
        tokio_postgres::connect(&ground.boss_url(), tokio_postgres::NoTls).await.unwrap();
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                heard.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    listener.batch_execute("LISTEN channel").await.unwrap();
    let pid = ask(&postgres, "SELECT pg_backend_pid()", &[]).await.unwrap().rows;
    for leaves in [
        "SELECT pg_advisory_lock(42), pg_advisory_lock_shared(43), pg_try_advisory_lock(44)",
        "SELECT pg_notify('channel', 'from the reader')",
        "SELECT set_config('search_path', 'hidden', false), set_config('statement_timeout', '0', false)",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "SELECT set_config('datestyle', 'german', false), set_config('bytea_output', 'escape', false)",
        "SELECT set_config('my.note', 'left behind', false)",
    ] {
        ask(&postgres, leaves, &[]).await.unwrap_or_else(|error| panic!("{leaves}: {error}"));
        ground.is_unchanged().await;
    }
    assert_eq!(ask(&postgres, "SELECT pg_backend_pid()", &[]).await.unwrap().rows, pid, "it is one session");
    let sql = "SELECT current_setting('search_path'), current_setting('my.note', true), date '2026-01-02', \
               current_setting('transaction_read_only'), (SELECT count(*) FROM orders)";
    let rows = ask(&postgres, sql, &[]).await.unwrap().rows;
    assert_eq!(json!(rows), json!([["shop", "", "2026-01-02", "on", 3]]));
    let left = "SELECT current_setting('default_transaction_read_only')";
    assert_eq!(json!(ask(&postgres, left, &[]).await.unwrap().rows), json!([["on"]]));
    listener.batch_execute("NOTIFY channel, 'from the boss'").await.unwrap();
    assert_eq!(hearing.recv().await.as_deref(), Some("from the boss"), "the reader's was rolled back");
    listener.query("SELECT 1", &[]).await.unwrap();
    drop(listener.transaction().await.unwrap());
}

/// The part of the role's SQL that is commented out.
async fn stricter_roles_call_less(ground: Ground) {
    let sql = servers::sql::postgres::role_sql(&ground.role, &ground.database, &["shop".to_owned()]);
    let strict: String = sql
        .lines()
        .skip_while(|line| !line.contains("Stricter"))
        .filter_map(|line| line.strip_prefix("-- "))
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(strict.starts_with("DO $$"), "{strict}");
    ground.do_as_boss(&strict).await;
    let postgres = ground.postgres();
    for sql in ["SELECT pg_advisory_lock(42)", "SELECT pg_notify('a', 'b')", "SELECT txid_current()"] {
        assert_eq!(ask(&postgres, sql, &[]).await.expect_err(sql).kind, PermissionDenied);
    }
    assert_eq!(ask(&postgres, "SELECT 1", &[]).await.unwrap().rows, [[json!(1)]]);
}

async fn what_has_no_end_is_stopped(ground: Ground) {
    let postgres = ground.postgres();
    postgres.check(&bounds(5_000)).await.unwrap();
    for (sql, kind, part) in [
        ("SELECT pg_sleep(60)", TimedOut, ""),
        ("SELECT set_config('statement_timeout', '0', false), pg_sleep(60)", TimedOut, ""),
        ("SELECT shop.run('SET statement_timeout = 0'), pg_sleep(60)", TimedOut, ""),
        ("SELECT count(*) FROM generate_series(1, 99999) a, generate_series(1, 99999) b", TimedOut, ""),
        (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n",
            TimedOut,
            "statement timeout",
        ),
        ("SELECT repeat('x', 100000000)", TooLarge, "a row has more than 8388608 bytes"),
        ("SELECT repeat('x', 1100000000)", TooLarge, "requested length too large"),
        ("SELECT repeat('x', 2000000)", TooLarge, "the first row has 2000004 bytes"),
    ] {
        let began = Instant::now();
        let patience = if kind == TimedOut { 1_500 } else { 20_000 };
        let error = postgres.query(sql, &[], &bounds(patience)).await.expect_err(sql);
        assert!(error.kind == kind && error.message.contains(part), "{sql}: {:?}: {error}", error.kind);
        assert!(began.elapsed() < Duration::from_millis(patience + 2_000), "{sql}: {:?}", began.elapsed());
    }
    let sort = "SELECT i FROM generate_series(1, 50000000) i ORDER BY random()";
    let error = postgres.query(sort, &[], &bounds(60_000)).await.unwrap_err();
    assert!(error.kind == TooLarge && error.message.contains("temp_file_limit"), "{error}");
    let many = "SELECT i FROM generate_series(1, 1000000) i";
    let cut = ask(&postgres, many, &[]).await.unwrap();
    assert_eq!((cut.row_count, cut.cut_by), (1000, Some(Limit::Rows)));
    let wide = "SELECT repeat('x', 100000) FROM generate_series(1, 1000000)";
    let cut = ask(&postgres, wide, &[]).await.unwrap();
    assert_eq!((cut.row_count, cut.cut_by), (9, Some(Limit::Bytes)));
    let runs = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ROLE' AND state = 'active'";
    for _ in 0..50 {
        if ground.see(&runs.replace("ROLE", &ground.role)).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("a statement still runs in the server");
}

async fn a_request_that_is_given_up_ends_its_statement(ground: Ground) {
    let postgres = ground.postgres();
    postgres.check(&bounds(5_000)).await.unwrap();
    let runs = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND query LIKE 'FETCH%' AND state = 'active'",
        ground.role
    );
    let bounds = bounds(60_000);
    let asked = postgres.query("SELECT pg_sleep(50)", &[], &bounds);
    assert!(tokio::time::timeout(Duration::from_millis(500), asked).await.is_err());
    let began = Instant::now();
    while ground.see(&runs).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "it still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask(&postgres, "SELECT 1", &[]).await.unwrap().rows, [[json!(1)]]);
}

async fn plans_are_made_and_nothing_is_run(ground: Ground) {
    let postgres = ground.postgres();
    let plan =
        postgres.explain("SELECT * FROM orders WHERE id = $1", &[json!(1)], &bounds(5_000)).await.unwrap();
    assert_eq!(plan[0]["Plan"]["Relation Name"], "orders", "{plan}");
    let unsafe_postgres = ground.unsafe_postgres();
    for (sql, kind) in [
        ("ANALYZE DELETE FROM shop.orders", Invalid),
        ("(ANALYZE) DELETE FROM shop.orders", Invalid),
        ("DELETE FROM shop.orders RETURNING 1", ReadOnly),
        ("EXECUTE x", ReadOnly),
        ("SELECT 1; DROP TABLE shop.orders", Invalid),
    ] {
        let error = unsafe_postgres.explain(sql, &[], &bounds(5_000)).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
    }
    // The plan of a statement that would wait is there at once.
    let began = Instant::now();
    postgres.explain("SELECT pg_sleep(30)", &[], &bounds(5_000)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));
    ground.is_unchanged().await;
}

/// The extension dblink connects to other servers; where it is installed, its functions must be taken back.
async fn other_servers_are_out_of_reach(ground: Ground) {
    if ground.boss.batch_execute("CREATE EXTENSION dblink SCHEMA shop").await.is_err() {
        let postgres = ground.postgres();
        let error = ask(&postgres, "SELECT dblink_exec('', 'SELECT 1')", &[]).await.unwrap_err();
        assert_eq!(error.sql_state.as_deref(), Some("42883"), "the extension is not on this machine");
        return;
    }
    let error = ground.postgres().check(&bounds(5_000)).await.unwrap_err();
    assert!(error.message.contains("it can call") && error.message.contains("dblink"), "{error}");
    let functions = "SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure) FROM pg_proc p \
                     WHERE p.proname LIKE 'dblink%'";
    for row in connect(&ground.boss_url()).await.query(functions, &[]).await.unwrap() {
        ground.do_as_boss(row.get(0)).await;
    }
    let postgres = ground.postgres();
    for sql in [
        "SELECT dblink_exec('dbname=postgres', 'SELECT 1')",
        "SELECT * FROM dblink('', 'SELECT 1') AS t (i int)",
    ] {
        let error = ask(&postgres, sql, &[]).await.expect_err(sql);
        assert_eq!(error.kind, PermissionDenied, "{sql}: {error}");
    }
}
