//! The tools on SQLite through validation and the methods of MCP, their settings, and arguments that are wrong.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

const SHOP: &str = "
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL DEFAULT 'nobody', total REAL);
    CREATE TABLE lines (order_id INTEGER REFERENCES orders (id), place INTEGER, PRIMARY KEY (order_id, place));
    CREATE INDEX by_customer ON orders (customer);
    CREATE VIEW names AS SELECT customer FROM orders;
    CREATE VIRTUAL TABLE search USING fts5(body);
    INSERT INTO orders VALUES (1, 'Ada', 9.5), (2, 'Grace', NULL);";

struct Shop {
    directory: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shop = Self { directory };
        rusqlite::Connection::open(shop.file()).unwrap().execute_batch(SHOP).unwrap();
        shop
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("shop.db")
    }

    fn settings(&self) -> DatabaseSettings {
        DatabaseSettings { url: Some(format!("sqlite://{}", self.file().display())), ..Default::default() }
    }

    fn open(&self, change: impl FnOnce(&mut DatabaseSettings)) -> Arc<dyn ToolProvider> {
        let mut settings = self.settings();
        change(&mut settings);
        Arc::new(Database::new(settings).unwrap())
    }
}

/// Returns the text and the structured content of a call, as an error if it is one.
async fn call(
    server: &Arc<dyn ToolProvider>,
    tool: &str,
    arguments: Value,
) -> Result<(String, Value), (String, Value)> {
    let result = framework::testing::call(server, tool, arguments).await.unwrap();
    let text = result["content"][0]["text"].as_str().unwrap().to_owned();
    let facts = match result["isError"] == true {
        true => &result["_meta"]["trunkline/refusal"],
        false => &result["structuredContent"],
    };
    let answer = (text, facts.clone());
    if result["isError"] == true { Err(answer) } else { Ok(answer) }
}

#[tokio::test]
async fn rows_and_tables_are_read() {
    let shop = Shop::new();
    let server = shop.open(|_| {});
    let (text, rows) = call(
        &server,
        "query",
        json!({"sql": "SELECT id, customer FROM orders WHERE id = $1", "params": [2]}),
    )
    .await
    .unwrap();
    assert_eq!(text, "1 row.\n[\"id\",\"customer\"]\n[2,\"Grace\"]\n");
    assert_eq!(
        rows,
        json!({
            "columns": [{"name": "id", "type": "INTEGER"}, {"name": "customer", "type": "TEXT"}],
            "rows": [[2, "Grace"]], "rowCount": 1, "cutBy": null,
        })
    );
    let (text, rows) =
        call(&server, "query", json!({"sql": "SELECT id FROM orders ORDER BY 1", "max_rows": 1}))
            .await
            .unwrap();
    assert_eq!((rows["rows"].clone(), rows["cutBy"].clone()), (json!([[1]]), json!("rows")));
    assert!(text.starts_with("1 rows, cut by max_rows; there are more."), "{text}");
    let (text, list) = call(&server, "list_tables", json!({})).await.unwrap();
    assert_eq!(text, "4 tables.\nlines (table)\nnames (view)\norders (table)\nsearch (virtual table)\n");
    assert_eq!(list["tables"][2]["name"], "orders");
    let (text, table) = call(&server, "describe_table", json!({"table": "ORDERS"})).await.unwrap();
    assert_eq!(
        text,
        "orders (table)\n  id INTEGER NOT NULL\n  customer TEXT NOT NULL DEFAULT 'nobody'\n  total REAL\n  \
         primary key: PRIMARY KEY (id)\n  by_customer: CREATE INDEX by_customer ON orders (customer)\n"
    );
    assert!(table["statement"].as_str().unwrap().starts_with("CREATE TABLE orders"));
    let (text, schema) = call(&server, "get_schema", json!({"schema": "main"})).await.unwrap();
    assert!(text.contains("  foreign key: FOREIGN KEY (order_id) REFERENCES orders (id)\n"), "{text}");
    assert!(text.contains("PRIMARY KEY (order_id, place)"), "{text}");
    assert_eq!((schema["tables"].as_array().unwrap().len(), schema["cut"].clone()), (4, json!(false)));
    server.health().await.unwrap();
    let (text, error) = call(&server, "query", json!({"sql": "DELETE FROM orders"})).await.unwrap_err();
    assert!(text.contains("read only: send one SELECT"), "{text}");
    assert_eq!(
        (error["kind"].clone(), error["code"].clone()),
        (json!("read_only"), json!("denied_by_policy"))
    );
    let (text, error) = call(&server, "query", json!({"sql": "SELECT wrong FROM orders"})).await.unwrap_err();
    assert!(text.contains("no such column: wrong (at character 8)"), "{text}");
    assert_eq!((error["kind"].clone(), error["position"].clone()), (json!("invalid_params"), json!(8)));
    let (text, _) = call(&server, "describe_table", json!({"table": "nowhere"})).await.unwrap_err();
    assert!(text.contains("there is no table `nowhere`") && text.contains("list_tables"), "{text}");
    let (text, _) = call(&server, "list_tables", json!({"schema": "shop"})).await.unwrap_err();
    assert!(text.contains("`schema`"), "{text}");
}

#[tokio::test]
async fn statements_run_at_the_same_time_and_files_may_be_exchanged() {
    let shop = Shop::new();
    let server = shop.open(|settings| settings.timeout = Duration::from_secs(2));
    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let endless =
        futures_util::future::join_all((0..4).map(|_| call(&server, "query", json!({"sql": ENDLESS}))));
    let quick = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        call(&server, "query", json!({"sql": "SELECT 1"})).await
    };
    let (endless, quick) = tokio::join!(endless, quick);
    assert!(endless.iter().all(|answer| answer.as_ref().unwrap_err().1["kind"] == "timeout"), "{endless:?}");
    // It waits for a place until the others are stopped; on a busy machine its own deadline may come first.
    if let Err((_, error)) = quick {
        assert_eq!(error["kind"], "unavailable");
    }
    let other = shop.directory.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE new (id)").unwrap();
    std::fs::rename(other, shop.file()).unwrap();
    let (text, _) = call(&server, "list_tables", json!({})).await.unwrap();
    assert_eq!(text, "1 table.\nnew (table)\n");
    std::fs::remove_file(shop.file()).unwrap();
    let (text, error) = call(&server, "list_tables", json!({})).await.unwrap_err();
    assert!(text.contains("cannot be opened") && error["kind"] == "unavailable", "{text}");
    assert!(server.health().await.is_err());
}

#[tokio::test]
async fn only_allowed_queries_run() {
    let shop = Shop::new();
    let file = "
        [[query]]
        name = \"orders_of\"
        description = \"Orders of a customer.\"
        sql = \"SELECT id FROM orders WHERE customer = $1 AND id > coalesce($2, 0)\"
        parameters = [
            { name = \"customer\", type = \"string\", description = \"full name\" },
            { name = \"after\", type = \"integer\", optional = true },
        ]";
    let queries = AllowedQuery::read(file).unwrap();
    let database =
        Database::new(DatabaseSettings { allowed_queries: Some(queries), ..shop.settings() }).unwrap();
    assert_eq!(database.check().await, Ok(vec![]));
    let server: Arc<dyn ToolProvider> = Arc::new(database);
    let list = framework::testing::request(&server, "tools/list", json!({})).await.unwrap();
    let names: Vec<_> =
        list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["run_query", "list_tables", "describe_table", "get_schema"]);
    let description = list["tools"][0]["description"].as_str().unwrap();
    assert!(description.ends_with("\n- orders_of: Orders of a customer. Params: customer (string): full name; after (integer, optional)."), "{description}");
    let (_, rows) = call(&server, "run_query", json!({"name": "orders_of", "params": {"customer": "Ada"}}))
        .await
        .unwrap();
    assert_eq!(rows["rows"], json!([[1]]));
    let params = json!({"customer": "Ada", "after": 1});
    assert_eq!(
        call(&server, "run_query", json!({"name": "orders_of", "params": params})).await.unwrap().1["rowCount"],
        0
    );
    for (arguments, part) in [
        (json!({"name": "orders_of"}), "`params.customer` is missing"),
        (json!({"name": "orders_of", "params": {"customer": 1}}), "`params.customer` must be string"),
        (
            json!({"name": "orders_of", "params": {"customer": "a", "after": 1.5}}),
            "`params.after` must be integer",
        ),
        (json!({"name": "orders_of", "params": {"customer": "a", "x": 1}}), "`params.x` is not a parameter"),
        (json!({"name": "other"}), "`name` must be one of \"orders_of\""),
    ] {
        let (text, _) = call(&server, "run_query", arguments.clone()).await.unwrap_err();
        assert!(text.contains(part), "{arguments}: {text}");
    }
    let unknown = framework::testing::call(&server, "query", json!({"sql": "SELECT 1"})).await.unwrap_err();
    assert!(unknown.contains("unknown tool `query`"), "{unknown}");
    for (file, part) in [
        ("", "missing field `query`"),
        ("[[query]]\nname = \"a\"", "missing field `description`"),
        ("[[query]]\nname = \"a\"\ndescription = \"\"\nsql = \"x\"\nsqll = \"\"", "unknown field `sqll`"),
    ] {
        let mistake = AllowedQuery::read(file).unwrap_err();
        assert!(mistake.contains(part), "{file}: {mistake}");
    }
    for (change, part) in [
        (("orders_of", "Orders Of"), "must have a name of small letters"),
        (("SELECT id FROM", "\\u0000"), "control character"),
        (("{ name = \"after\"", "{ name = \"customer\""), "two parameters `customer`"),
    ] {
        let queries = AllowedQuery::read(&file.replace(change.0, change.1)).unwrap();
        let mistake = Database::new(DatabaseSettings { allowed_queries: Some(queries), ..shop.settings() })
            .err()
            .unwrap();
        assert!(mistake.contains(part), "{mistake}");
    }
    for (change, part) in [
        (
            ("AND id > coalesce($2, 0)", ""),
            "the query `orders_of` has 1 places for parameters, and 2 `parameters`",
        ),
        (("SELECT id FROM", "DELETE FROM"), "the query `orders_of`: the statement is refused"),
    ] {
        let queries = AllowedQuery::read(&file.replace(change.0, change.1)).unwrap();
        let database =
            Database::new(DatabaseSettings { allowed_queries: Some(queries), ..shop.settings() }).unwrap();
        let mistake = database.check().await.unwrap_err();
        assert!(mistake.contains(part), "{mistake}");
    }
}

/// Every parameter of every tool, from the schemas as they are listed.
#[tokio::test]
async fn wrong_arguments_are_named() {
    let shop = Shop::new();
    let queries = "[[query]]\nname = \"a\"\ndescription = \"A.\"\nsql = \"SELECT 1\"";
    let limited = shop.open(|settings| settings.allowed_queries = Some(AllowedQuery::read(queries).unwrap()));
    let mut tried = 0;
    for server in [shop.open(|_| {}), limited] {
        let list = framework::testing::request(&server, "tools/list", json!({})).await.unwrap();
        for tool in list["tools"].as_array().unwrap() {
            let name = tool["name"].as_str().unwrap();
            let schema = &tool["inputSchema"];
            assert_eq!(schema["additionalProperties"], false, "{name}");
            let required: Vec<_> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let good: Value = required
                .iter()
                .map(|name| ((*name).to_owned(), json!("a")))
                .collect::<serde_json::Map<_, _>>()
                .into();
            for parameter in schema["properties"].as_object().unwrap().keys() {
                let property = &schema["properties"][parameter];
                let takes = |kind: &str| {
                    property["type"] == kind
                        || property["type"].as_array().is_some_and(|kinds| kinds.contains(&json!(kind)))
                };
                let mut wrong = vec![json!(true), json!(1.5), json!(-1), json!(1e300)];
                wrong.extend((!takes("string")).then(|| json!("text")));
                wrong.extend((!takes("array")).then(|| json!([1])));
                wrong.extend((!takes("object")).then(|| json!({"a": 1})));
                wrong.extend(takes("string").then(|| json!("x".repeat(200_000))));
                wrong.extend(takes("string").then(|| json!("SELECT 1\u{0}\u{1}")));
                wrong.extend(takes("string").then(|| json!("")));
                wrong.extend(takes("integer").then(|| json!(0)));
                wrong.extend(takes("integer").then(|| json!(1_000_000)));
                wrong.extend(takes("array").then(|| json!(vec![1; 101])));
                if required.contains(&parameter.as_str()) {
                    wrong.push(Value::Null);
                    let mut without = good.clone();
                    without.as_object_mut().unwrap().remove(parameter);
                    let (text, _) = call(&server, name, without).await.unwrap_err();
                    assert!(text.contains(&format!("`{parameter}` is missing")), "{name}: {text}");
                }
                for value in wrong {
                    let mut arguments = good.clone();
                    arguments[parameter] = value;
                    let (text, _) = call(&server, name, arguments.clone())
                        .await
                        .expect_err(&format!("{name} {parameter}"));
                    assert!(
                        text.contains(&format!("`{parameter}`")) && text.len() < 1_000,
                        "{name} {parameter}: {text}"
                    );
                    tried += 1;
                }
            }
            let mut arguments = good.clone();
            arguments["no_such"] = json!(1);
            let (text, _) = call(&server, name, arguments).await.unwrap_err();
            assert!(text.contains("`no_such` is not an argument"), "{name}: {text}");
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn arguments_are_read_and_mistakes_named() {
    let read = |arguments: &[&str], url: Option<&str>| {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        arguments::read(&arguments, &|name| {
            (name == "DATABASE_URL").then(|| url.map(str::to_owned)).flatten()
        })
        .and_then(|read| Database::new(read.settings.clone()).map(|_| read.settings))
    };
    let settings = read(
        &["--schemas", "a, b", "--max-rows=50", "--timeout-seconds", "5", "--allow-unsafe-role"],
        Some("postgres://ro:hunter2@h/shop"),
    )
    .unwrap();
    assert_eq!(settings.schemas, ["a", "b"]);
    assert_eq!((settings.default_rows, settings.most_rows, settings.timeout.as_secs()), (50, 50, 5));
    assert!(settings.allow_unsafe_role);
    assert!(read(&[], None).unwrap().url.is_none());
    for (arguments, url, part) in [
        (&["--schema", "a"][..], None, "`--schema` is not an argument of this server"),
        (&["--schemas"], None, "--schemas needs the names"),
        (&["--schemas", "a,,b"], None, "empty name"),
        (&["--max-rows", "-1"], None, "--max-rows must be a whole number from 1 to 10000, not `-1`"),
        (&["--timeout-seconds=x"], None, "--timeout-seconds must be"),
        (&["--allowed-queries", "/nowhere.toml"], None, "/nowhere.toml of --allowed-queries cannot be read"),
        (&["--allow-unsafe-role=yes"], None, "is not an argument"),
        (&[], Some("mysql://ro:hunter2@h/shop"), "must begin with postgres:// or sqlite://"),
        (&[], Some("sqlite://"), "sqlite://FILE"),
        (&[], Some("sqlite://a.db?mode=rwc"), "without options"),
        (&["--schemas", "a"], Some("sqlite://a.db"), "schemas can be chosen for PostgreSQL only"),
        (&[], Some("postgres://ro:hunter2@h/shop?sslmode=never"), "`sslmode` must be"),
    ] {
        let mistake = read(arguments, url).expect_err(part);
        assert!(mistake.contains(part) && !mistake.contains("hunter2"), "{arguments:?}: {mistake}");
    }
}

#[test]
fn the_sql_of_a_role_is_printed() {
    let print = |arguments: &[&str], url: Option<&str>| {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        role_sql(&arguments, &|_| url.map(str::to_owned))
    };
    let url = Some("postgres://boss:hunter2@h/shop");
    assert_eq!(print(&["--schemas", "a"], url), Ok(None));
    let sql = print(&["--print-role-sql=ro\"x", "--schemas", "a"], url).unwrap().unwrap();
    assert!(
        sql.contains("CREATE ROLE \"ro\"\"x\" LOGIN NOSUPERUSER")
            && sql.contains("GRANT USAGE ON SCHEMA \"a\""),
        "{sql}"
    );
    assert!(sql.contains("ON DATABASE \"shop\" FROM PUBLIC") && !sql.contains("hunter2"), "{sql}");
    assert!(print(&["--print-role-sql"], None).unwrap_err().contains("DATABASE_URL"));
    assert!(print(&["--print-role-sql"], Some("sqlite://a.db")).unwrap_err().contains("no roles"));
}

#[tokio::test]
async fn without_an_address_the_server_says_what_to_set() {
    let server = Database::new(DatabaseSettings::default()).unwrap();
    let refusal = server.not_configured().unwrap();
    assert!(refusal.code == Code::NotConfigured && refusal.reason.contains("set DATABASE_URL"), "{refusal}");
    assert!(server.check().await.unwrap_err().contains("DATABASE_URL"));
}
