//! A database of a test's own with a shop in it, a superuser's connection, and a role that can only read.

use std::time::{Duration, Instant};

use serde_json::Value;
use servers::sql::postgres::{Postgres, PostgresSettings, role_sql};
use servers::sql::{Bounds, ResultSet, SqlError};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::server;

const SHOP: &str = "
    CREATE SCHEMA shop;
    CREATE SCHEMA hidden;
    CREATE TABLE shop.orders (id int PRIMARY KEY, customer text NOT NULL, total numeric(10, 2));
    INSERT INTO shop.orders VALUES (1, 'Ada', 9.50), (2, 'Grace', NULL), (3, 'Mary', 12345678.90);
    COMMENT ON TABLE shop.orders IS 'What was bought.';
    CREATE TABLE shop.lines (order_id int REFERENCES shop.orders, place int, what text DEFAULT 'thing', PRIMARY KEY (order_id, place));
    CREATE INDEX lines_what ON shop.lines (what);
    CREATE VIEW shop.names AS SELECT customer FROM shop.orders;
    CREATE SEQUENCE shop.numbers;
    CREATE FUNCTION shop.add_order() RETURNS int LANGUAGE sql AS $$ INSERT INTO shop.orders VALUES (9, 'x', 1) RETURNING id $$;
    CREATE FUNCTION shop.run(sql text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE sql; RETURN 'done'; END $$;
    CREATE PROCEDURE shop.do_it() LANGUAGE sql AS $$ DELETE FROM shop.orders $$;
    CREATE TABLE hidden.secrets (word text);
    INSERT INTO hidden.secrets VALUES ('sesame');";

pub const PASSWORD: &str = "hunter2-is-secret";

pub struct Ground {
    /// Connection of a superuser to the database.
    pub boss: Client,
    pub database: String,
    pub role: String,
    host: String,
}

impl Ground {
    pub async fn new() -> Self {
        let name = format!("t{}", &Uuid::now_v7().simple().to_string()[8..]);
        let server = connect(&format!("{}/postgres", server::address())).await;
        server.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let boss = connect(&format!("{}/{name}", server::address())).await;
        boss.batch_execute(SHOP).await.unwrap();
        let role = format!("{name}_reader");
        boss.batch_execute(&role_sql(&role, &name, &["shop".to_owned()])).await.unwrap();
        boss.batch_execute(&format!("ALTER ROLE {role} PASSWORD '{PASSWORD}'")).await.unwrap();
        let address = server::address();
        let host = address.rsplit('@').next().unwrap().to_owned();
        Self { boss, database: name, role, host }
    }

    /// Returns the address of the database for a role.
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}:{PASSWORD}@{}/{}", self.host, self.database)
    }

    /// Returns the address of the database for the superuser.
    pub fn boss_url(&self) -> String {
        format!("{}/{}", server::address(), self.database)
    }

    /// Returns the settings of the role that can only read.
    pub fn settings(&self) -> PostgresSettings {
        PostgresSettings { schemas: vec!["shop".to_owned()], ..PostgresSettings::new(self.url(&self.role)) }
    }

    pub fn postgres(&self) -> Postgres {
        Postgres::new(self.settings()).unwrap()
    }

    pub fn unsafe_postgres(&self) -> Postgres {
        let settings = PostgresSettings { allow_unsafe_role: true, ..PostgresSettings::new(self.boss_url()) };
        Postgres::new(settings).unwrap()
    }

    /// Makes a further role that can log in.
    pub async fn make_role(&self, attributes: &str) -> String {
        let role = format!("{}_{}", self.database, &Uuid::now_v7().simple().to_string()[24..]);
        self.do_as_boss(&format!("CREATE ROLE {role} LOGIN {attributes} PASSWORD '{PASSWORD}'")).await;
        role
    }

    pub async fn do_as_boss(&self, sql: &str) {
        self.boss.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Returns the first column of the first row as a superuser reads it.
    pub async fn see(&self, sql: &str) -> i64 {
        self.boss.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Fails if something of the shop is not as it was.
    pub async fn is_unchanged(&self) {
        let count = "SELECT count(*) FROM shop.orders WHERE (id, customer) IN ((1, 'Ada'), (2, 'Grace'), (3, 'Mary'))";
        assert_eq!(self.see(count).await, 3);
        assert_eq!(self.see("SELECT count(*) FROM shop.orders").await, 3);
        let objects = "SELECT count(*) FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'v', 'S')";
        assert_eq!(self.see(objects).await, 4);
        assert_eq!(self.see("SELECT last_value FROM shop.numbers").await, 1);
        assert_eq!(self.see("SELECT count(*) FROM pg_largeobject_metadata").await, 0);
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                     (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(self.see(locks).await, 0);
    }
}

/// Removes the database of a test that has passed, and its roles.
pub async fn remove(database: &str) {
    let server = connect(&format!("{}/postgres", server::address())).await;
    server.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await.unwrap();
    let roles =
        server.query("SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)", &[&database]).await;
    for row in roles.unwrap() {
        server.batch_execute(&format!("DROP ROLE {}", row.get::<_, &str>(0))).await.unwrap();
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn bounds(milliseconds: u64) -> Bounds {
    Bounds {
        rows: 1000,
        bytes: 1_000_000,
        deadline: Instant::now() + Duration::from_millis(milliseconds),
        cancellation: Default::default(),
    }
}

pub async fn ask(postgres: &Postgres, sql: &str, params: &[Value]) -> Result<ResultSet, SqlError> {
    postgres.query(sql, params, &bounds(10_000)).await
}
