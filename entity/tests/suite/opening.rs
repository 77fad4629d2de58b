//! Opening a database, or a sentence that says why not.

use std::time::Duration;

use entity::{DatabaseSettings, Db, DbError, Seal};
use sea_orm::{ConnectionTrait, Statement};

use crate::ground::{Ground, On, Place, settings, stdio};

tests!(
    BOTH: migrating_again_changes_nothing, many_can_migrate_at_once, writers_do_not_block_each_other;
    SQLITE: what_cannot_be_opened_says_why, a_damaged_table_is_an_error,
        the_sqlite_file_is_its_owners_and_set_up_as_promised;
    POSTGRES: postgresql_ends_a_statement_that_takes_too_long;
);

fn seal() -> Seal {
    Seal::from_key_texts(&Seal::generate(), &[]).unwrap()
}

async fn refusal(url: &str) -> DbError {
    let mut settings = settings(url.to_owned());
    settings.query_timeout = Duration::from_millis(500);
    match Db::connect(&settings, seal()).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    }
}

async fn migrating_again_changes_nothing(ground: Ground) {
    ground.db.tenant(ground.ours).create_server(stdio("time"), &ground.actor).await.unwrap();
    ground.changes_nothing(ground.db.migrate()).await.unwrap();
    ground.db.ping().await.unwrap();
    assert_eq!(ground.db.tenant(ground.ours).visible_servers().await.unwrap().len(), 1);
    ground.db.close().await;
    assert!(matches!(ground.db.ping().await, Err(DbError::Unavailable(_))));
}

/// Several replicas start at once on an empty database.
async fn many_can_migrate_at_once(ground: Ground) {
    let place = Place::make(match ground.db.backend() {
        entity::Backend::Sqlite => On::Sqlite,
        entity::Backend::Postgres => On::Postgres,
    });
    let place = place.await;
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let settings = place.settings();
            tokio::spawn(async move {
                let db = Db::connect(&settings, seal()).await.unwrap();
                db.migrate().await.unwrap();
                let tenant = db.ensure_default_tenant().await.unwrap().id;
                let actor = entity::Actor::gateway(tenant);
                let declared = vec![stdio("one"), stdio("two")];
                let operator = db.operator();
                operator
                    .declare_servers(entity::ManagedBy::Builtin, declared, &actor)
                    .await
                    .map(drop)
                    .unwrap();
                db.close().await;
                tenant
            })
        })
        .collect();
    let mut tenants = std::collections::HashSet::new();
    for start in starts {
        tenants.insert(start.await.unwrap());
    }
    assert_eq!(tenants.len(), 1);
    tokio::task::spawn_blocking(|| place.remove()).await.unwrap();
}

/// Many writers, readers between them, and some that give up halfway.
async fn writers_do_not_block_each_other(ground: Ground) {
    let before = ground.newest_change().await;
    let writers: Vec<_> = (0..40)
        .map(|at| {
            let (db, tenant, actor) = (ground.db.clone(), ground.ours, ground.actor.clone());
            tokio::spawn(async move {
                let slug = format!("s{at}");
                let ours = db.tenant(tenant);
                let write = ours.create_server(stdio(&slug), &actor);
                if at % 4 == 0 {
                    let _ = tokio::time::timeout(Duration::from_micros(at * 50), write).await;
                } else {
                    write.await.unwrap();
                }
                ours.visible_servers().await.unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let made = ground.db.tenant(ground.ours).visible_servers().await.unwrap().len() as i64;
    assert!(made >= 30, "{made}");
    assert_eq!(ground.newest_change().await - before, made);
}

async fn what_cannot_be_opened_says_why(_: Ground) {
    let folder = std::env::temp_dir().join(format!("trunkline_{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir(&folder).unwrap();
    let garbage = folder.join("garbage");
    std::fs::write(&garbage, "this is no database, whatever its name says. ".repeat(500)).unwrap();

    let error = refusal(&format!("sqlite:{}", garbage.display())).await;
    assert!(matches!(&error, DbError::Corrupt(text) if text.contains("garbage")), "{error:?}");
    let error = refusal(&format!("sqlite:{}/no/such/folder/db", folder.display())).await;
    assert!(matches!(&error, DbError::Unavailable(text) if text.contains("no/such/folder")), "{error:?}");
    let error = refusal(&format!("sqlite:{}", folder.display())).await;
    assert!(matches!(error, DbError::Unavailable(_)), "{error:?}");
    let error = refusal("postgres://someone:hunter2@127.0.0.1:1/x").await;
    assert!(matches!(&error, DbError::Unavailable(text) if text.contains("127.0.0.1:1")), "{error:?}");
    assert!(!format!("{error:?} {}", error.detail()).contains("hunter2"));
    for bad in ["", "mysql://x", "sqlite:", "sqlite::memory:", "postgres://user:hunter2@[bad/x"] {
        let error = refusal(bad).await;
        assert!(matches!(error, DbError::Invalid(_)), "{bad}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A damaged table is an error of the one who reads it, not the end of the program.
async fn a_damaged_table_is_an_error(ground: Ground) {
    ground.db.tenant(ground.ours).create_server(stdio("time"), &ground.actor).await.unwrap();
    let sql = "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master \
                   WHERE name = 'mcp_servers'";
    let statement = Statement::from_string(ground.backend(), sql);
    let row = ground.db.connection().query_one_raw(statement).await.unwrap().unwrap();
    let number = |at: usize| row.try_get_by_index::<i64>(at).unwrap() as usize;
    let (page, size) = (number(0), number(1));
    ground.db.close().await;

    let path = ground.settings.url.strip_prefix("sqlite:").unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[(page - 1) * size..page * size].fill(0xA5);
    std::fs::write(path, bytes).unwrap();
    let db = Db::connect(&ground.settings, seal()).await.unwrap();
    let error = db.tenant(ground.ours).visible_servers().await.unwrap_err();
    assert!(matches!(error, DbError::Corrupt(_)), "{error:?}");
    db.operator().find_tenant(ground.ours).await.unwrap();
}

async fn the_sqlite_file_is_its_owners_and_set_up_as_promised(ground: Ground) {
    use std::os::unix::fs::PermissionsExt;
    let path = ground.settings.url.strip_prefix("sqlite:").unwrap();
    for file in [path.to_owned(), format!("{path}-wal")] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    for (pragma, expected) in
        [("journal_mode", "wal"), ("synchronous", "1"), ("foreign_keys", "1"), ("busy_timeout", "5000")]
    {
        let sql = format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}");
        let statement =
            Statement::from_string(ground.backend(), sql.replace("CAST(busy_timeout", "CAST(timeout"));
        let row = ground.db.connection().query_one_raw(statement).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), expected, "{pragma}");
    }
}

async fn postgresql_ends_a_statement_that_takes_too_long(ground: Ground) {
    let query_timeout = Duration::from_millis(200);
    let settings = DatabaseSettings { query_timeout, ..ground.settings.clone() };
    let db = Db::connect(&settings, seal()).await.unwrap();
    let error = DbError::from(db.connection().execute_unprepared("SELECT pg_sleep(5)").await.unwrap_err());
    assert!(matches!(&error, DbError::Unavailable(text) if text.contains("statement timeout")), "{error:?}");
}
