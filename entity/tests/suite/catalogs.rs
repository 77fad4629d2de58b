//! Stored catalogs: kept as the server wrote them, replaced by later ones only, bound to their tenant.

use entity::{CatalogPart, DbError};
use jiff::{SignedDuration, Timestamp};
use protocol::ServerId;
use protocol::mcp::Era;

use crate::ground::{Ground, stdio};

tests!(
    BOTH: a_part_reads_back_as_it_was_stored, a_later_part_stays, a_catalog_goes_with_its_server,
        a_catalog_goes_with_its_tenant;
);

fn part(server: ServerId, body: &str, at: Timestamp) -> CatalogPart {
    CatalogPart {
        server,
        revision: 1,
        era: Era::Modern,
        declared: u64::MAX,
        part: "tools".to_owned(),
        body: body.into(),
        listed_at: at,
    }
}

fn at() -> Timestamp {
    "2026-05-06T07:08:09.123456Z".parse().unwrap()
}

async fn a_part_reads_back_as_it_was_stored(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    let server = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let stored = part(server, r#"[{"b":1.0, "a":"\u0000ä"}]"#, at());
    let legacy = CatalogPart { era: Era::Legacy, declared: 0, ..stored.clone() };
    let mut many: Vec<CatalogPart> =
        (1..=250).map(|bits| CatalogPart { declared: bits, ..legacy.clone() }).collect();
    many.extend([legacy, stored.clone()]);
    ground.changes_nothing(ours.store_catalogs(&many)).await.unwrap();
    let found = ours.catalogs(Some(server)).await.unwrap();
    assert_eq!((found.len(), found.contains(&stored)), (252, true));
    assert_eq!(ours.catalogs(Some(ServerId::new())).await.unwrap(), []);
    assert_eq!(theirs.catalogs(None).await.unwrap(), []);

    // A tenant has catalogs of its own servers and of global ones, and nobody of a server that is not there.
    theirs.store_catalogs(&many).await.unwrap();
    ours.store_catalogs(&[part(ServerId::new(), "[]", at())]).await.unwrap();
    assert_eq!(theirs.catalogs(None).await.unwrap(), []);
    let global = ground.db.operator().create_server(stdio("git"), &ground.actor).await.unwrap().id;
    theirs.store_catalogs(&[part(global, "[]", at())]).await.unwrap();
    assert_eq!(theirs.catalogs(None).await.unwrap(), [part(global, "[]", at())]);
    assert_eq!(ours.catalogs(Some(global)).await.unwrap(), []);
    let nul = ours.store_catalogs(&[part(server, "\0", at())]).await;
    assert!(matches!(nul, Err(DbError::Invalid(_))), "{nul:?}");
}

async fn a_later_part_stays(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let server = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let store = async |body: &str, at| ours.store_catalogs(&[part(server, body, at)]).await.unwrap();
    store("[1]", at()).await;
    store("[2]", at() - SignedDuration::from_secs(1)).await;
    assert_eq!(ours.catalogs(None).await.unwrap(), [part(server, "[1]", at())]);
    let later = at() + SignedDuration::from_secs(1);
    let changed = CatalogPart { revision: 2, ..part(server, "[3]", later) };
    ours.store_catalogs(std::slice::from_ref(&changed)).await.unwrap();
    // A replica that does not know the new revision yet.
    store("[4]", later + SignedDuration::from_secs(1)).await;
    assert_eq!(ours.catalogs(None).await.unwrap(), [changed]);
}

async fn a_catalog_goes_with_its_server(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let server = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let other = ours.create_server(stdio("git"), &ground.actor).await.unwrap().id;
    ours.store_catalogs(&[part(server, "[]", at()), part(other, "[]", at())]).await.unwrap();
    ours.delete_server(server, &ground.actor).await.unwrap();
    assert_eq!(ours.catalogs(None).await.unwrap(), [part(other, "[]", at())]);
    ours.store_catalogs(&[part(server, "[]", at())]).await.unwrap();
    assert_eq!(ours.catalogs(Some(server)).await.unwrap(), []);
}

async fn a_catalog_goes_with_its_tenant(ground: Ground) {
    let theirs = ground.db.tenant(ground.theirs);
    let server = theirs.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    ground.db.operator().create_server(stdio("git"), &ground.actor).await.unwrap();
    assert_eq!(theirs.visible_servers().await.unwrap().len(), 2);
    theirs.store_catalogs(&[part(server, "[]", at())]).await.unwrap();
    ground.db.operator().delete_tenant(ground.theirs, &ground.actor).await.unwrap();
    assert_eq!(theirs.catalogs(None).await.unwrap(), []);
    assert_eq!(theirs.visible_servers().await.unwrap().len(), 0, "global servers are not its any more");
    let gone = theirs.store_catalogs(&[part(server, "[]", at())]).await;
    assert_eq!(gone.unwrap_err(), DbError::NotFound);
}
