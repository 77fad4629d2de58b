//! TLS to PostgreSQL: verified, and measured like plain connections.

use libtest_mimic::Trial;
use serde_json::json;
use servers::sql::Kind;
use servers::sql::postgres::{Postgres, PostgresSettings};

use crate::ground::{Ground, ask};
use crate::{server, trial};

pub fn tests() -> Vec<Trial> {
    let test = trial("tls::certificates_are_verified", certificates_are_verified);
    vec![if server::is_own() { test } else { test.with_ignored_flag(true) }]
}

async fn certificates_are_verified(ground: Ground) {
    let authority = server::authority().expect("it is our own");
    let database = |options: &str| {
        let url = format!("{}?{options}", ground.url(&ground.role));
        Postgres::new(PostgresSettings::new(url)).unwrap()
    };
    const IS_SEALED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (options, is_sealed) in [
        (format!("sslmode=require&sslrootcert={}", authority.display()), true),
        (format!("sslmode=prefer&sslrootcert={}", authority.display()), true),
        ("sslmode=disable".to_owned(), false),
        // On this machine nothing is asked for.
        (String::new(), false),
    ] {
        let postgres = database(&options);
        let rows =
            ask(&postgres, IS_SEALED, &[]).await.unwrap_or_else(|error| panic!("{options}: {error}")).rows;
        assert_eq!(rows, [[json!(is_sealed)]], "{options}");
        let error = ask(&postgres, "SELECT repeat('x', 10000000)", &[]).await.unwrap_err();
        assert!(
            error.kind == Kind::TooLarge && error.message.contains("a row has more than"),
            "{options}: {error}"
        );
        assert_eq!(ask(&postgres, "SELECT 1", &[]).await.unwrap().rows, [[json!(1)]]);
    }
    let unknown = ask(&database("sslmode=require"), "SELECT 1", &[]).await.unwrap_err();
    assert!(unknown.kind == Kind::Unavailable && unknown.message.contains("certificate"), "{unknown}");
    let other = tempfile::NamedTempFile::new().unwrap();
    let url = format!("{}?sslmode=require&sslrootcert={}", ground.url(&ground.role), other.path().display());
    let mistake = Postgres::new(PostgresSettings::new(url)).err().unwrap();
    assert!(mistake.contains("has no certificate"), "{mistake}");
}
