//! Attacks on the guard of SQLite, on a file and on a database in memory: each must fail, change nothing and
//! make no file.

use std::path::PathBuf;

use serde_json::json;

use super::*;

const TABLES: &str = "
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL, note BLOB);
    INSERT INTO orders VALUES (1, 'Ada', 9.5, NULL), (2, 'Grace', 1e999, x'0001ff'), (3, 'Mary', NULL, 'x');
    CREATE VIRTUAL TABLE search USING fts5(body);
    INSERT INTO search VALUES ('one'), ('two');
    CREATE VIRTUAL TABLE old_search USING fts4(body);
    INSERT INTO old_search VALUES ('one');
    CREATE VIEW names AS SELECT customer FROM orders;
    CREATE TRIGGER spy AFTER INSERT ON orders BEGIN DELETE FROM orders; END;";

struct Ground {
    directory: tempfile::TempDir,
    file: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shop.db");
        Connection::open(&file).unwrap().execute_batch(TABLES).unwrap();
        std::fs::write(directory.path().join("secret.txt"), "secret").unwrap();
        Self { directory, file }
    }

    fn guarded(&self) -> [(&'static str, Guarded); 2] {
        let memory = Connection::open_in_memory().unwrap();
        memory.execute_batch(TABLES).unwrap();
        [
            ("file", Guarded::open(&self.file, Limits::default()).unwrap()),
            ("memory", Guarded::new(memory, Limits::default()).unwrap()),
        ]
    }

    /// Names and contents of everything in the directory.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut found: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        found.sort();
        found
    }
}

fn bounds(milliseconds: u64) -> Bounds {
    Bounds {
        rows: 1000,
        bytes: 1_000_000,
        deadline: Instant::now() + Duration::from_millis(milliseconds),
        cancellation: Default::default(),
    }
}

fn ask(guarded: &mut Guarded, sql: &str) -> Result<ResultSet, SqlError> {
    guarded.query(sql, &[], &bounds(5_000))
}

#[test]
fn every_attack_fails_and_changes_nothing() {
    use Kind::{Invalid, PermissionDenied, ReadOnly, TooLarge};
    let ground = Ground::new();
    let place = ground.directory.path().display();
    let attacks: Vec<(String, Kind)> = vec![
        (format!("ATTACH '{place}/new.db' AS other"), ReadOnly),
        (format!("ATTACH 'file:{place}/new.db?mode=rwc' AS other"), ReadOnly),
        (format!("ATTACH '{place}/secret.txt' AS other"), ReadOnly),
        ("ATTACH ':memory:' AS other".into(), ReadOnly),
        ("DETACH main".into(), ReadOnly),
        ("VACUUM".into(), ReadOnly),
        (format!("VACUUM INTO '{place}/copy.db'"), ReadOnly),
        ("PRAGMA query_only = OFF".into(), ReadOnly),
        ("PRAGMA journal_mode = WAL".into(), ReadOnly),
        ("PRAGMA journal_mode".into(), ReadOnly),
        ("PRAGMA writable_schema = 1".into(), ReadOnly),
        ("PRAGMA user_version = 7".into(), ReadOnly),
        ("PRAGMA database_list".into(), ReadOnly),
        ("SELECT * FROM pragma_database_list".into(), ReadOnly),
        ("PRAGMA temp_store_directory = '/'".into(), ReadOnly),
        ("PRAGMA hard_heap_limit = 1".into(), ReadOnly),
        ("PRAGMA wal_checkpoint(TRUNCATE)".into(), ReadOnly),
        ("INSERT INTO orders VALUES (9, 'x', 1, NULL)".into(), ReadOnly),
        ("INSERT INTO orders VALUES (9, 'x', 1, NULL) RETURNING id".into(), ReadOnly),
        ("REPLACE INTO orders VALUES (1, 'x', 1, NULL)".into(), ReadOnly),
        ("UPDATE orders SET total = 0 RETURNING id".into(), ReadOnly),
        ("DELETE FROM orders".into(), ReadOnly),
        ("WITH gone AS (SELECT 1) DELETE FROM orders RETURNING id".into(), ReadOnly),
        ("UPDATE sqlite_schema SET sql = ''".into(), Invalid),
        ("INSERT INTO search(search) VALUES ('optimize')".into(), ReadOnly),
        ("SELECT optimize(old_search) FROM old_search".into(), PermissionDenied),
        ("CREATE TABLE more (id)".into(), ReadOnly),
        ("CREATE TEMP TABLE more (id)".into(), ReadOnly),
        ("CREATE TABLE more AS SELECT * FROM orders".into(), ReadOnly),
        ("CREATE TEMP VIEW more AS SELECT 1".into(), ReadOnly),
        ("CREATE TEMP TRIGGER more AFTER INSERT ON orders BEGIN SELECT 1; END".into(), ReadOnly),
        ("CREATE VIRTUAL TABLE more USING fts5(x)".into(), ReadOnly),
        ("CREATE INDEX more ON orders (total)".into(), ReadOnly),
        ("DROP TABLE orders".into(), ReadOnly),
        ("DROP VIEW names".into(), ReadOnly),
        ("ALTER TABLE orders RENAME TO gone".into(), ReadOnly),
        ("REINDEX".into(), ReadOnly),
        ("ANALYZE".into(), ReadOnly),
        ("BEGIN EXCLUSIVE".into(), ReadOnly),
        ("COMMIT".into(), ReadOnly),
        ("ROLLBACK".into(), ReadOnly),
        ("SAVEPOINT here".into(), ReadOnly),
        ("EXPLAIN DELETE FROM orders".into(), ReadOnly),
        (format!("SELECT load_extension('{place}/x.so')"), PermissionDenied),
        (format!("SELECT LOAD_Extension('{place}/x.so')"), PermissionDenied),
        (format!("SELECT readfile('{place}/secret.txt')"), Invalid),
        (format!("SELECT writefile('{place}/new.txt', 'x')"), Invalid),
        ("SELECT edit('x')".into(), Invalid),
        ("SELECT hex(fts3_tokenizer('simple'))".into(), PermissionDenied),
        (format!("SELECT * FROM csv('{place}/secret.txt')"), Invalid),
        ("SELECT 1; DROP TABLE orders".into(), Invalid),
        ("SELECT 1;; ; DROP TABLE orders".into(), Invalid),
        ("; SELECT 1; SELECT 2".into(), Invalid),
        ("SELECT 1; broken".into(), Invalid),
        ("SELECT 1\0; DROP TABLE orders".into(), Invalid),
        ("SELECT 1;".repeat(9_000), Invalid),
        ("/* nothing */ -- at all".into(), Invalid),
        (";;;".into(), Invalid),
        (format!("SELECT 1{}", "+1".repeat(5_000)), Invalid),
        (format!("SELECT {}1", "- ".repeat(5_000)), Invalid),
        ("SELECT zeroblob(900000000)".into(), TooLarge),
        ("SELECT length(zeroblob(900000000) || 'x')".into(), TooLarge),
        ("SELECT replace(hex(zeroblob(400000)), '0', 'xxxxxxxx')".into(), TooLarge),
        ("SELECT zeroblob(990000)".into(), TooLarge),
        (format!("SELECT 1{}", " + instr('ab', 'b')".repeat(33)), TooLarge),
        (format!("SELECT 1{}", " OR 'a' LIKE 'b'".repeat(33)), TooLarge),
    ];
    let before = ground.contents();
    for (name, mut guarded) in ground.guarded() {
        for (attack, kind) in &attacks {
            let shown: String = attack.chars().take(100).collect();
            let error = ask(&mut guarded, attack).expect_err(&shown);
            assert_eq!(error.kind, *kind, "{name}: {shown}: {error}");
            // Read-only file and `query_only` are further barriers; the authorizer comes first.
            let is_parsed_only = *kind != ReadOnly || attack.starts_with("VACUUM");
            assert!(is_parsed_only || error.message.contains("statement is refused"), "{shown}: {error}");
        }
        let rows = ask(&mut guarded, "SELECT count(*), (SELECT count(*) FROM search) FROM orders").unwrap();
        assert_eq!(rows.rows, [[json!(3), json!(2)]], "{name}");
    }
    assert_eq!(ground.contents(), before);
}

#[test]
fn what_has_no_end_is_stopped() {
    use Kind::{TimedOut, TooLarge};
    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    let ground = Ground::new();
    let limits = Limits { temporary_bytes: 20 << 20, memory_bytes: 100 << 20, ..Limits::default() };
    let mut guarded = Guarded::open(&ground.file, limits).unwrap();
    for (sql, kind, part) in [
        (format!("{ENDLESS} SELECT count(*) FROM n"), TimedOut, "took too long"),
        (format!("{ENDLESS} SELECT max(i) FROM n WHERE i < 0"), TimedOut, "took too long"),
        (
            format!("{ENDLESS} SELECT printf('%.*c', 2000, 'x') FROM n ORDER BY random()"),
            TooLarge,
            "temporary space",
        ),
        (format!("{ENDLESS} SELECT zeroblob(900000) FROM n ORDER BY i DESC"), TooLarge, "temporary space"),
        (format!("{ENDLESS} SELECT DISTINCT i || '{}' FROM n", "x".repeat(900)), TooLarge, ""),
        (
            format!("{ENDLESS} SELECT json_group_array(printf('%.*c', 900000, 'x')) FROM n"),
            TooLarge,
            "too much memory",
        ),
        (format!("{ENDLESS} SELECT group_concat(i) FROM n"), TimedOut, "took too long"),
        (
            "SELECT count(*) FROM json_each(?1), json_each(?1), json_each(?1), json_each(?1)".into(),
            TimedOut,
            "took too long",
        ),
    ] {
        let array = json!(vec![1; 5_000]);
        let params = if sql.contains("?1") { vec![array] } else { vec![] };
        let began = Instant::now();
        let error = guarded.query(&sql, &params, &bounds(3_000));
        let Err(error) = error else {
            // DISTINCT gives rows until the result is full.
            assert!(sql.contains("DISTINCT"), "{sql}");
            continue;
        };
        assert!(error.kind == kind && error.message.contains(part), "{sql}: {:?}: {error}", error.kind);
        assert!(began.elapsed() < Duration::from_millis(4_000), "{sql}: {:?}", began.elapsed());
    }
    let cancelled = bounds(60_000);
    cancelled.cancellation.cancel();
    let error = guarded.query(&format!("{ENDLESS} SELECT count(*) FROM n"), &[], &cancelled).unwrap_err();
    assert_eq!(error.kind, Kind::Cancelled);
    assert_eq!(ask(&mut guarded, "SELECT 1").unwrap().rows, [[json!(1)]], "the connection is usable");
}

#[test]
fn values_and_parameters_lose_nothing() {
    let ground = Ground::new();
    let params =
        json!([null, true, 9007199254740991_i64, 9007199254740992_i64, 1.5, "é' OR 1", [1, "a"], {"b": 2}]);
    let params = params.as_array().unwrap();
    for (name, mut guarded) in ground.guarded() {
        let sql = "SELECT ?, ?, ?, ?, ?, ?, ?, ?";
        let rows = guarded.query(sql, params, &bounds(1000)).unwrap().rows;
        let expected = json!([[
            null,
            1,
            9007199254740991_i64,
            "9007199254740992",
            1.5,
            "é' OR 1",
            "[1,\"a\"]",
            "{\"b\":2}"
        ]]);
        assert_eq!(json!(rows), expected, "{name}");
        // A place with a number takes the parameter of that number, in whatever order.
        let rows = guarded.query("SELECT $2, $1, $2", &[json!("a"), json!("b")], &bounds(1000)).unwrap().rows;
        assert_eq!(json!(rows), json!([["b", "a", "b"]]));
        let result =
            ask(&mut guarded, "SELECT id, total, note, CAST(x'ff' AS TEXT) AS odd FROM orders").unwrap();
        assert_eq!(
            json!(result.rows),
            json!([
                [1, 9.5, null, {"base64": "/w=="}],
                [2, "Infinity", {"base64": "AAH/"}, {"base64": "/w=="}],
                [3, null, "x", {"base64": "/w=="}],
            ])
        );
        assert_eq!(result.columns[0], Column { name: "id".into(), r#type: Some("INTEGER".into()) });
        assert_eq!(result.columns[3], Column { name: "odd".into(), r#type: None });
        for (sql, params, part) in [
            ("SELECT ?", json!([]), "has 1 parameters, and `params` has 0"),
            ("SELECT 1", json!([1]), "has 0 parameters, and `params` has 1"),
            ("SELECT ?3", json!([1, 2]), "has 3 parameters"),
            ("SELECT :name", json!([1]), "`:name`"),
            ("SELECT $2, $1, ?2", json!([1, 2]), "not both"),
            ("SELECT $2, ?, $1", json!([1, 2]), "not both"),
            ("SELECT $0", json!([1]), "`$0`"),
            ("SELECT ?", json!([18446744073709551615_u64]), "params[0]: 18446744073709551615 does not fit"),
            ("SELECT wrong FROM orders", json!([]), "no such column: wrong"),
        ] {
            let error = guarded.query(sql, params.as_array().unwrap(), &bounds(1000)).unwrap_err();
            assert!(error.kind == Kind::Invalid && error.message.contains(part), "{sql}: {error}");
        }
        let error = ask(&mut guarded, "SELECT 'é', wrong FROM orders").unwrap_err();
        assert_eq!(error.position, Some(13), "in characters");
    }
}

#[test]
fn results_are_bounded() {
    const SERIES: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)";
    let ground = Ground::new();
    for (_, mut guarded) in ground.guarded() {
        let sql = format!("{SERIES} SELECT i FROM n");
        let cut = ask(&mut guarded, &sql).unwrap();
        assert_eq!((cut.rows.len(), cut.cut_by), (1000, Some(crate::sql::Limit::Rows)));
        assert!(cut.text().starts_with("1000 rows, cut by max_rows"), "{}", &cut.text()[..80]);
        let exact = guarded.query(&sql, &[], &Bounds { rows: 2000, ..bounds(1000) }).unwrap();
        assert_eq!((exact.rows.len(), exact.cut_by), (2000, None));
        let sql = format!("{SERIES} SELECT printf('%.*c', 10000, 'x') FROM n");
        let cut = ask(&mut guarded, &sql).unwrap();
        assert_eq!((cut.rows.len(), cut.cut_by), (99, Some(crate::sql::Limit::Bytes)));
        for fine in [
            "SELECT customer FROM names ORDER BY 1; -- the end",
            "SELECT replace(replace(customer, 'a', 'b'), 'c', 'd') FROM orders WHERE customer LIKE '%a%'",
            "PRAGMA table_info(orders)",
            "SELECT name FROM pragma_table_xinfo('orders')",
            "EXPLAIN QUERY PLAN SELECT * FROM orders",
            "SELECT body FROM search WHERE search MATCH 'two'",
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n",
        ] {
            assert!(!ask(&mut guarded, fine).unwrap().rows.is_empty(), "{fine}");
        }
    }
}

#[test]
fn files_that_are_no_database_are_refused() {
    let ground = Ground::new();
    let directory = ground.directory.path();
    for (path, part) in [
        (directory.join("missing.db"), "cannot be opened"),
        (directory.to_owned(), "not a file"),
        (directory.join("secret.txt"), "not a database"),
        (PathBuf::from("file:shop.db?mode=rwc"), "cannot be opened"),
    ] {
        let error = Guarded::open(&path, Limits::default()).err().unwrap();
        assert!(error.kind == Kind::Unavailable && error.message.contains(part), "{path:?}: {error}");
    }
    assert!(!directory.join("missing.db").exists());
}
