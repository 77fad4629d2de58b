//! Roles of PostgreSQL that are refused: each can do more than read.

use libtest_mimic::Trial;
use servers::sql::Kind;
use servers::sql::postgres::{Postgres, PostgresSettings};

use crate::ground::{Ground, PASSWORD, ask, bounds};
use crate::trial;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("roles::a_role_that_can_do_more_is_refused", a_role_that_can_do_more_is_refused),
        trial("roles::schemas_bound_a_role", schemas_bound_a_role),
        trial("roles::errors_of_a_connection_tell_no_password", errors_of_a_connection_tell_no_password),
    ]
}

async fn refusal(ground: &Ground, role: &str, schemas: &[&str]) -> String {
    let schemas = schemas.iter().map(|name| (*name).to_owned()).collect();
    let settings = PostgresSettings { schemas, ..PostgresSettings::new(ground.url(role)) };
    let postgres = Postgres::new(settings).unwrap();
    let error = postgres.check(&bounds(5_000)).await.expect_err(role);
    assert_eq!(error.kind, Kind::NotConfigured, "{error}");
    assert!(error.hint.as_ref().unwrap().contains("--print-role-sql"));
    let asked =
        ask(&postgres, "SELECT 1", &[]).await.expect_err("no statement runs as a role that is refused");
    assert_eq!(asked.message, error.message);
    error.message
}

async fn a_role_that_can_do_more_is_refused(ground: Ground) {
    let other = ground.make_role("").await;
    for (attributes, grant, part) in [
        ("SUPERUSER", "", "it has the attribute SUPERUSER"),
        ("CREATEROLE CREATEDB REPLICATION BYPASSRLS", "", "CREATEDB"),
        ("", "GRANT pg_read_server_files TO ROLE", "it is a member of pg_read_server_files"),
        ("NOINHERIT", "GRANT OTHER TO ROLE", "it is a member of"),
        ("", "GRANT INSERT ON shop.orders TO ROLE", "it can write shop.orders"),
        ("", "GRANT UPDATE (total) ON shop.orders TO ROLE", "it can write shop.orders"),
        ("", "GRANT TRUNCATE ON shop.lines TO ROLE", "it can write shop.lines"),
        ("", "GRANT DELETE ON shop.names TO ROLE", "it can write shop.names"),
        ("", "GRANT USAGE ON SEQUENCE shop.numbers TO ROLE", "it can change the sequence shop.numbers"),
        ("", "GRANT CREATE ON SCHEMA shop TO ROLE", "it can create objects in the schema shop"),
        ("", "GRANT TEMPORARY ON DATABASE HERE TO ROLE", "temporary tables"),
        ("", "GRANT CREATE ON DATABASE HERE TO ROLE", "it can make schemas"),
        ("", "CREATE SCHEMA mine AUTHORIZATION ROLE", "it owns objects"),
        ("", "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO ROLE", "it can call pg_read_file(text)"),
        (
            "",
            "CREATE FUNCTION shop.boss() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; \
             GRANT USAGE ON SCHEMA shop TO ROLE",
            "it can call shop.boss(), which runs with the rights of a superuser",
        ),
    ] {
        let role = ground.make_role(attributes).await;
        let grant = grant.replace("ROLE", &role).replace("OTHER", &other).replace("HERE", &ground.database);
        ground.do_as_boss(&grant).await;
        let message = refusal(&ground, &role, &[]).await;
        assert!(message.contains(part) && message.contains(&role), "{attributes} {grant}: {message}");
        assert!(!message.contains(PASSWORD));
    }
}

async fn schemas_bound_a_role(ground: Ground) {
    ground.do_as_boss(&format!("GRANT USAGE ON SCHEMA hidden TO {}", ground.role)).await;
    ground.postgres().check(&bounds(5_000)).await.unwrap();
    ground.do_as_boss(&format!("GRANT SELECT (word) ON hidden.secrets TO {}", ground.role)).await;
    let message = refusal(&ground, &ground.role, &["shop"]).await;
    assert!(message.contains("it can read hidden.secrets, which is outside the schemas"), "{message}");
    let message = refusal(&ground, &ground.role, &["shop", "hidden", "nowhere"]).await;
    assert!(message.contains("there is no schema nowhere that it may use"), "{message}");
    let message = refusal(&ground, &ground.role, &["sh'op"]).await;
    assert!(message.contains("there is no schema \"sh'op\""), "{message}");
    // A role that was fine is refused from the next check on.
    let postgres = ground.postgres();
    ground.do_as_boss(&format!("REVOKE SELECT (word) ON hidden.secrets FROM {}", ground.role)).await;
    ask(&postgres, "SELECT 1", &[]).await.unwrap();
    ground.do_as_boss(&format!("GRANT INSERT ON shop.orders TO {}", ground.role)).await;
    postgres.check(&bounds(5_000)).await.unwrap_err();
    assert_eq!(ask(&postgres, "SELECT 1", &[]).await.unwrap_err().kind, Kind::NotConfigured);
}

async fn errors_of_a_connection_tell_no_password(ground: Ground) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, kind, part) in [
        (format!("postgres://nobody_here:{PASSWORD}@{}", host(&ground)), Kind::NotConfigured, "nobody_here"),
        (format!("postgres://a:{PASSWORD}@127.0.0.1:{port}/x"), Kind::Unavailable, "cannot be reached"),
        (ground.url(&ground.role) + "x", Kind::NotConfigured, "does not exist"),
        (ground.url(&ground.role) + "?sslmode=require", Kind::Unavailable, "TLS"),
    ] {
        let postgres = Postgres::new(PostgresSettings::new(&url)).unwrap();
        let error = ask(&postgres, "SELECT 1", &[]).await.unwrap_err();
        assert!(error.kind == kind && error.message.contains(part), "{url}: {:?} {error}", error.kind);
        assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
    }
}

/// Returns host, port and database.
fn host(ground: &Ground) -> String {
    ground.url("x").rsplit('@').next().unwrap().to_owned()
}
