//! Sealed columns: no secret in the raw row, none opens elsewhere, and all follow a new master key.

use entity::{Db, DbError, Seal, SealError, SecretsPatch, ServerPatch};
use std::collections::BTreeMap;

use crate::ground::{Ground, stdio};

tests!(
    BOTH: the_raw_row_has_no_secret, a_column_copied_elsewhere_does_not_open,
        all_secrets_follow_a_new_master_key, a_lost_master_key_hides_no_server;
);

const COLUMNS: &str = "SELECT env_sealed FROM mcp_servers ORDER BY slug";

async fn the_raw_row_has_no_secret(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let server = ours.create_server(stdio("time"), &ground.actor).await.unwrap();
    let raw = ground.blobs(COLUMNS).await.remove(0).unwrap();
    for secret in ["hunter2", "TOKEN"] {
        assert!(!raw.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
    }
    let seal = Seal::from_key_texts(&ground.key, &[]).unwrap();
    let shown = format!("{server:?} {seal:?}");
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2") && !shown.contains(&ground.key));
    ours.delete_server(server.id, &ground.actor).await.unwrap();
    assert_eq!(ground.blobs(COLUMNS).await, [None]);
}

async fn a_column_copied_elsewhere_does_not_open(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    let victim = theirs.create_server(stdio("victim"), &ground.actor).await.unwrap();
    let thief = ours.create_server(stdio("thief").env([("A", "b")]), &ground.actor).await.unwrap();
    let copy = "UPDATE mcp_servers SET env_sealed = \
                (SELECT env_sealed FROM mcp_servers WHERE slug = 'victim') WHERE slug = 'thief'";
    ground.execute(copy).await;
    let stolen = ours.find_server(thief.id).await.unwrap();
    assert_eq!(stolen.settings.env.expose(), Err(&SealError::Damaged));
    ground.execute("UPDATE mcp_servers SET headers_sealed = env_sealed WHERE slug = 'victim'").await;
    let moved = theirs.find_server(victim.id).await.unwrap();
    assert_eq!(moved.settings.headers.expose(), Err(&SealError::Damaged));
    assert!(moved.settings.env.expose().is_ok());
}

async fn all_secrets_follow_a_new_master_key(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let own = ours.create_server(stdio("own"), &ground.actor).await.unwrap();
    let mut plain = stdio("plain");
    plain.settings.env = Default::default();
    ours.create_server(plain, &ground.actor).await.unwrap();
    let global = ground.db.operator().create_server(stdio("shared"), &ground.actor).await.unwrap();
    let before = ground.blobs(COLUMNS).await;

    let key = Seal::generate();
    let without = Seal::from_key_texts(&key, &[]).unwrap();
    let refused = ground.changes_nothing(ground.db.reseal(&without, &ground.actor)).await;
    assert!(matches!(refused, Err(DbError::Sealed(SealError::UnknownKey { .. }))), "{refused:?}");
    assert_eq!(ground.blobs(COLUMNS).await, before);

    let with = Seal::from_key_texts(&key, &[&ground.key]).unwrap();
    assert_eq!(ground.changes("master_key.rotate", ground.db.reseal(&with, &ground.actor)).await, 2);
    assert_eq!(ground.changes_nothing(ground.db.reseal(&with, &ground.actor)).await.unwrap(), 0);
    assert_eq!(ours.find_server(own.id).await.unwrap().settings.env, own.settings.env);
    assert_eq!(own.revision, ours.find_server(own.id).await.unwrap().revision);

    let later = Db::connect(&ground.settings, without).await.unwrap();
    let found = later.tenant(ground.ours).find_server(global.id).await.unwrap();
    assert_eq!(found.settings.env, global.settings.env);
}

async fn a_lost_master_key_hides_no_server(ground: Ground) {
    let id = ground.db.tenant(ground.ours).create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let other = Seal::from_key_texts(&Seal::generate(), &[]).unwrap();
    let db = Db::connect(&ground.settings, other).await.unwrap();
    let ours = db.tenant(ground.ours);
    let server = ours.visible_servers().await.unwrap().remove(0);
    assert!(matches!(server.settings.env.expose(), Err(SealError::UnknownKey { .. })));
    let off = ServerPatch { enabled: Some(false), ..Default::default() };
    ours.update_server(id, off, None, &ground.actor).await.unwrap();
    let values = BTreeMap::from([("A".to_owned(), Some("b".to_owned()))]);
    let merge = ServerPatch { env: Some(SecretsPatch::Merge(values)), ..Default::default() };
    assert!(matches!(ours.update_server(id, merge, None, &ground.actor).await, Err(DbError::Sealed(_))));
    let values = BTreeMap::from([("A".to_owned(), "b".to_owned())]);
    let replace = ServerPatch { env: Some(SecretsPatch::Replace(values)), ..Default::default() };
    assert!(
        ours.update_server(id, replace, None, &ground.actor).await.unwrap().settings.env.expose().is_ok()
    );
}
