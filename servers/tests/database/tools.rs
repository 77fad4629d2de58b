//! The tools of the server `database` on PostgreSQL, through validation and the methods of MCP.

use std::sync::Arc;

use framework::ToolProvider;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use servers::database::{AllowedQuery, Database, DatabaseSettings};

use crate::ground::{Ground, PASSWORD};
use crate::trial;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("tools::tables_and_rows_are_read", tables_and_rows_are_read),
        trial("tools::only_allowed_queries_run", only_allowed_queries_run),
        trial("tools::a_role_that_can_write_is_refused_at_start", a_role_that_can_write_is_refused_at_start),
    ]
}

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

fn settings(ground: &Ground) -> DatabaseSettings {
    let url = Some(ground.url(&ground.role));
    DatabaseSettings { url, schemas: vec!["shop".to_owned()], ..Default::default() }
}

async fn tables_and_rows_are_read(ground: Ground) {
    ground
        .do_as_boss(
            "CREATE TABLE hidden.orders (id int); CREATE MATERIALIZED VIEW shop.sums AS SELECT sum(total) FROM shop.orders; \
             CREATE TABLE shop.log (at date) PARTITION BY RANGE (at); \
             CREATE TABLE shop.log_2026 PARTITION OF shop.log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
             COMMENT ON COLUMN shop.orders.total IS 'In euros.'; ANALYZE shop.orders",
        )
        .await;
    let server: Arc<dyn ToolProvider> = Arc::new(Database::new(settings(&ground)).unwrap());
    let asked = json!({"sql": "SELECT customer, total FROM orders WHERE id = $1", "params": [1]});
    let (text, rows) = call(&server, "query", asked).await.unwrap();
    assert_eq!(text, "1 row.\n[\"customer\",\"total\"]\n[\"Ada\",9.5]\n");
    assert_eq!(rows["columns"][1], json!({"name": "total", "type": "numeric"}));
    let (text, _) = call(&server, "list_tables", json!({})).await.unwrap();
    assert_eq!(
        text,
        "5 tables.\nshop.lines (table)\nshop.log (partitioned table)\nshop.names (view)\n\
         shop.orders (table, about 3 rows): What was bought.\nshop.sums (materialized view)\n"
    );
    ground.do_as_boss(&format!("REVOKE SELECT ON shop.names FROM {}", ground.role)).await;
    let (_, list) = call(&server, "list_tables", json!({"schema": "shop"})).await.unwrap();
    assert_eq!(list["tables"].as_array().unwrap().len(), 4, "what cannot be read is not listed");
    let (text, table) = call(&server, "describe_table", json!({"table": "orders"})).await.unwrap();
    assert_eq!(
        text,
        "shop.orders (table, about 3 rows): What was bought.\n  id integer NOT NULL\n  customer text NOT NULL\n  \
         total numeric(10,2): In euros.\n  orders_pkey: PRIMARY KEY (id)\n"
    );
    assert_eq!(table["columns"][2]["comment"], "In euros.");
    let (text, _) = call(&server, "get_schema", json!({})).await.unwrap();
    for line in [
        "lines_order_id_fkey: FOREIGN KEY (order_id) REFERENCES orders(id)",
        "what text DEFAULT 'thing'::text",
        "lines_what: CREATE INDEX lines_what ON shop.lines USING btree (what)",
    ] {
        assert!(text.contains(line), "{text}");
    }
    for schema in ["hidden", "pg_catalog", "nowhere"] {
        assert_eq!(call(&server, "list_tables", json!({"schema": schema})).await.unwrap().0, "0 tables.\n");
        let asked = json!({"table": "orders", "schema": schema});
        assert_eq!(call(&server, "describe_table", asked).await.unwrap_err().1["code"], "not_found");
    }
    let (text, error) =
        call(&server, "query", json!({"sql": "SELECT * FROM hidden.secrets"})).await.unwrap_err();
    assert!(text.contains("permission denied for"), "{text}");
    assert_eq!(
        (error["kind"].clone(), error["sqlState"].clone()),
        (json!("permission_denied"), json!("42501"))
    );
    server.health().await.unwrap();
    // Without the choice of schemas the tables of one name are told apart.
    let grant =
        format!("GRANT USAGE ON SCHEMA hidden TO {0}; GRANT SELECT ON hidden.orders TO {0}", ground.role);
    ground.do_as_boss(&grant).await;
    let all = DatabaseSettings { schemas: Vec::new(), ..settings(&ground) };
    let server: Arc<dyn ToolProvider> = Arc::new(Database::new(all).unwrap());
    let (text, _) = call(&server, "describe_table", json!({"table": "orders"})).await.unwrap_err();
    assert!(text.contains("hidden.orders and shop.orders") && text.contains("give `schema` too"), "{text}");
}

async fn only_allowed_queries_run(ground: Ground) {
    let file = "[[query]]\nname = \"of\"\ndescription = \"Orders.\"\n\
                sql = \"SELECT id FROM orders WHERE id = ANY($1) AND ($2::text IS NULL OR customer = $2)\"\n\
                parameters = [{ name = \"ids\", type = \"array\" }, { name = \"customer\", type = \"string\", optional = true }]";
    let queries = AllowedQuery::read(file).unwrap();
    let database =
        Database::new(DatabaseSettings { allowed_queries: Some(queries), ..settings(&ground) }).unwrap();
    assert_eq!(database.check().await, Ok(vec![]));
    let server: Arc<dyn ToolProvider> = Arc::new(database);
    let asked = json!({"name": "of", "params": {"ids": [1, 3]}});
    assert_eq!(call(&server, "run_query", asked).await.unwrap().1["rows"], json!([[1], [3]]));
    let asked = json!({"name": "of", "params": {"ids": [1, 3], "customer": "x' OR true --"}});
    assert_eq!(call(&server, "run_query", asked).await.unwrap().1["rows"], json!([]));
    let broken = AllowedQuery::read(&file.replace("FROM orders", "FROM order")).unwrap();
    let database =
        Database::new(DatabaseSettings { allowed_queries: Some(broken), ..settings(&ground) }).unwrap();
    let mistake = database.check().await.unwrap_err();
    assert!(mistake.starts_with("the query `of`: syntax error"), "{mistake}");
}

async fn a_role_that_can_write_is_refused_at_start(ground: Ground) {
    let boss = DatabaseSettings { url: Some(ground.boss_url()), ..Default::default() };
    let database = Database::new(boss.clone()).unwrap();
    let sentence = database.check().await.unwrap_err();
    assert!(
        sentence.contains("it has the attribute SUPERUSER") && sentence.contains("--print-role-sql"),
        "{sentence}"
    );
    assert!(database.health().await.is_err());
    let server: Arc<dyn ToolProvider> = Arc::new(database);
    let (text, error) = call(&server, "query", json!({"sql": "SELECT 1"})).await.unwrap_err();
    assert!(text.contains("is not safe") && error["code"] == "not_configured", "{text}");
    let database = Database::new(DatabaseSettings { allow_unsafe_role: true, ..boss }).unwrap();
    let warnings = database.check().await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("SUPERUSER")), "{warnings:?}");
    let server: Arc<dyn ToolProvider> = Arc::new(database);
    let list = framework::testing::request(&server, "tools/list", json!({})).await.unwrap();
    assert!(list["tools"][0]["description"].as_str().unwrap().contains("Warning"), "{list}");
    assert_eq!(call(&server, "query", json!({"sql": "SELECT 1"})).await.unwrap().1["rowCount"], 1);
    let wrong = DatabaseSettings { url: Some(ground.url("nobody_here")), ..Default::default() };
    let sentence = Database::new(wrong).unwrap().check().await.unwrap_err();
    assert!(sentence.contains("nobody_here") && !sentence.contains(PASSWORD), "{sentence}");
}
