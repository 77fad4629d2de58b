//! The arrows between our crates, and the crates of others that live in one room only.

use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Our crates, what of ours each may use, and why no more.
const ARROWS: [(&str, &[&str], &str); 8] = [
    ("protocol", &[], "protocol is words, and knows nobody"),
    ("migration", &[], "migration is history, which no change of today's code may change"),
    ("entity", &["protocol", "migration"], "entity knows rows; `api` introduces it to the rest"),
    ("framework", &["protocol"], "framework is what a server outside this workspace is made with"),
    (
        "proxy",
        &["protocol", "framework"],
        "proxy knows upstreams and no rows; `api` introduces it to the rest",
    ),
    (
        "servers",
        &["protocol", "framework", "entity", "proxy"],
        "servers are used by `api`, and use no HTTP of it",
    ),
    (
        "api",
        &["protocol", "framework", "migration", "entity", "proxy", "servers"],
        "api is the composition root",
    ),
    ("tests", &["api", "protocol"], "tests ask a running gateway from outside"),
];

/// Crates of others, the rooms they may live in, and what to do instead.
const LODGERS: [(&str, &[&str], &str); 52] = [
    ("axum", &["api"], "HTTP is spoken in `api`; give it a function to call"),
    ("tower", &["api"], "HTTP is spoken in `api`; give it a function to call"),
    ("tower-http", &["api"], "HTTP is spoken in `api`; give it a function to call"),
    ("hyper", &["api", "tests"], "HTTP is spoken in `api`; outwards, ask `proxy::egress`"),
    ("hyper-util", &["api", "tests"], "HTTP is spoken in `api`; outwards, ask `proxy::egress`"),
    ("http-body-util", &["api", "tests"], "HTTP is spoken in `api`; outwards, ask `proxy::egress`"),
    ("utoipa", &["api"], "the OpenAPI document is made in `api`"),
    ("utoipa-axum", &["api"], "the OpenAPI document is made in `api`"),
    ("utoipa-swagger-ui", &["api"], "the OpenAPI document is shown by `api`"),
    ("clap", &["api"], "the command line is read in `api`; take the value as a parameter"),
    ("figment", &[], "settings are merged in `api::config`, which names every mistake at once"),
    ("metrics-exporter-prometheus", &["api"], "metrics are served by `api`"),
    ("metrics", &["api"], "metrics are named in `api`; give it the figures"),
    ("tracing-subscriber", &["api"], "the log is set up in `api`; use `tracing`"),
    ("mimalloc", &["api"], "the program's allocator is chosen in `api`"),
    ("jsonwebtoken", &["api", "tests"], "tokens are checked in `api`"),
    ("sea-orm", &["entity", "tests"], "SQL is written in `entity`; ask its tenant scope"),
    ("sqlx", &["entity"], "SQL is written in `entity`; ask its tenant scope"),
    (
        "rusqlite",
        &["entity", "servers"],
        "SQL is written in `entity`; that of callers is guarded by `servers::sql`",
    ),
    (
        "tokio-postgres",
        &["servers"],
        "SQL is written in `entity`; that of callers is guarded by `servers::sql`",
    ),
    ("deadpool", &["servers"], "connections to PostgreSQL are pooled by `servers::sql`"),
    ("tokio-postgres-rustls", &["servers"], "PostgreSQL is spoken by `servers::sql`"),
    ("sea-orm-migration", &["migration"], "tables are made in `migration`"),
    ("chacha20poly1305", &["entity"], "secrets are sealed in `entity`"),
    ("tiktoken-rs", &["entity"], "tokens are counted by `entity::Tokenizer`"),
    ("redis", &["proxy", "tests"], "Redis is spoken in `proxy::state`; use a `StateStore`"),
    ("reqwest", &["proxy", "tests"], "the way out is `proxy::egress`"),
    (
        "rustls",
        &["proxy", "servers", "tests"],
        "the way out is `proxy::egress`, to Redis `proxy::state`, to PostgreSQL `servers::sql`",
    ),
    ("tokio-rustls", &["proxy"], "the way out is `proxy::egress`, to Redis `proxy::state`"),
    (
        "rustls-platform-verifier",
        &["proxy", "servers"],
        "the way out is `proxy::egress`, to PostgreSQL `servers::sql`",
    ),
    ("tokio-tungstenite", &["proxy", "tests"], "WebSockets are spoken in `proxy::websocket`"),
    ("governor", &["proxy"], "limits are decided by `proxy::state`; ask a `StateStore`"),
    ("rmcp", &["tests"], "its typed models drop what they do not know; it is the client of the tests"),
    ("libtest-mimic", &["tests"], "it is the harness of the tests"),
    ("insta", &["tests"], "it is a tool of the tests"),
    ("cargo_metadata", &["tests"], "it is a tool of the tests"),
    ("object_store", &["servers"], "contents of workspaces are kept by `servers::collab`"),
    ("diffy", &["servers"], "texts are compared and patched by `servers::collab`"),
    ("zip", &["servers"], "archives are made by `servers::collab`"),
    ("cap-std", &["servers"], "directories are opened by `servers::filesystem` and `servers::collab`"),
    ("cap-fs-ext", &["servers"], "directories are opened by `servers::filesystem` and `servers::collab`"),
    ("unicode-normalization", &["servers"], "paths of workspaces are checked by `servers::collab`"),
    ("dom_query", &["servers"], "pages are read by `servers::web`"),
    ("dom_smoothie", &["servers"], "pages are read by `servers::web`"),
    ("html5ever", &["servers"], "pages are read by `servers::web`"),
    ("encoding_rs", &["servers"], "charsets of pages are decoded by `servers::web`"),
    ("schemars", &["framework", "servers"], "schemas of tools are derived in `servers`"),
    ("jsonschema", &["framework"], "arguments of tools are validated by `framework`"),
    ("anyhow", &[], "errors carry data: make an enum with `thiserror`"),
    ("eyre", &[], "errors carry data: make an enum with `thiserror`"),
    ("once_cell", &[], "std::sync::OnceLock and LazyLock do it"),
    ("chrono", &[], "time is `jiff`"),
];

/// Every arrow that is not in the table, as a sentence.
pub fn check(root: &Path) -> Vec<String> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata reads the workspace");
    let mut complaints = Vec::new();
    for package in &metadata.packages {
        let room = package.name.as_str();
        for dependency in &package.dependencies {
            let for_tests = dependency.kind == DependencyKind::Development;
            complaints.extend(judge(room, &dependency.name, for_tests));
        }
        if !ARROWS.iter().any(|(name, _, _)| *name == room) {
            complaints.push(format!("{room}/Cargo.toml: this room is not in the plan of tests/tests/rooms"));
        }
    }
    complaints
}

/// What is wrong with one dependency. Tests of a room may use what the crate `tests` may.
fn judge(room: &str, dependency: &str, for_tests: bool) -> Option<String> {
    if let Some((_, _, _)) = ARROWS.iter().find(|(name, _, _)| *name == dependency) {
        let (_, allowed, why) = ARROWS.iter().find(|(name, _, _)| *name == room)?;
        let fine = allowed.contains(&dependency);
        return (!fine).then(|| format!("{room}/Cargo.toml: `{room}` must not use `{dependency}`: {why}."));
    }
    let (_, allowed, instead) = LODGERS.iter().find(|(name, _, _)| *name == dependency)?;
    let fine = allowed.contains(&room) || (for_tests && allowed.contains(&"tests"));
    (!fine).then(|| {
        let home =
            if allowed.is_empty() { "no room".to_owned() } else { format!("`{}`", allowed.join("`, `")) };
        format!("{room}/Cargo.toml: `{dependency}` may be used in {home} and not in `{room}`: {instead}.")
    })
}

#[test]
fn a_wrong_arrow_is_told_where_it_belongs() {
    let wrong = judge("proxy", "entity", false).unwrap();
    assert!(wrong.contains("`proxy` must not use `entity`") && wrong.contains("`api` introduces"), "{wrong}");
    let wrong = judge("entity", "axum", false).unwrap();
    assert!(wrong.contains("may be used in `api` and not in `entity`"), "{wrong}");
    assert!(judge("api", "figment", false).unwrap().contains("no room"));
    assert!(judge("api", "rmcp", true).is_none() && judge("api", "rmcp", false).is_some());
    assert!(judge("api", "entity", false).is_none() && judge("entity", "sea-orm", false).is_none());
}
