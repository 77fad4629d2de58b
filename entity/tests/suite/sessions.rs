//! Sessions: bound to their tenant, gone when they expire, no part of the registry.

use entity::{DbError, NewSession};
use jiff::{SignedDuration, Timestamp};

use crate::ground::Ground;

tests!(
    BOTH: a_session_reads_back_as_it_was_made, a_session_is_seen_and_changed_until_it_expires,
        a_session_of_another_tenant_is_not_found, sessions_of_a_deleted_tenant_are_gone,
        expired_sessions_are_swept;
);

const ID: [u8; 32] = [7; 32];

fn soon() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(60)
}

fn past() -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(1)
}

fn session(id_hash: [u8; 32], expires_at: Timestamp) -> NewSession {
    let facts = r#"{"b":1.0,"a":"\u0000ä"}"#.to_owned();
    NewSession { id_hash, principal: "agt_1".to_owned(), endpoint: "time".to_owned(), facts, expires_at }
}

async fn a_session_reads_back_as_it_was_made(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let made = ground.changes_nothing(ours.create_session(session(ID, soon()))).await.unwrap();
    let found = ours.find_session(&ID).await.unwrap().unwrap();
    assert_eq!(found, made);
    assert_eq!((found.principal.as_str(), found.endpoint.as_str()), ("agt_1", "time"));
    assert_eq!(found.facts, session(ID, soon()).facts);
    assert_eq!(found.created_at, found.seen_at);
    assert_eq!(ours.find_session(&[8; 32]).await.unwrap(), None);
    let again = ours.create_session(session(ID, soon())).await;
    assert!(matches!(again, Err(DbError::Conflict(_))), "{again:?}");
    let nul = ours.create_session(NewSession { facts: "\0".to_owned(), ..session([9; 32], soon()) }).await;
    assert!(matches!(nul, Err(DbError::Invalid(_))), "{nul:?}");
}

async fn a_session_is_seen_and_changed_until_it_expires(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let made = ours.create_session(session(ID, soon())).await.unwrap();
    let later = made.expires_at + SignedDuration::from_secs(60);
    ground.changes_nothing(ours.touch_session(&ID, later)).await.unwrap();
    let touched = ours.find_session(&ID).await.unwrap().unwrap();
    assert_eq!((touched.expires_at, &touched.facts), (later, &made.facts));
    assert!(touched.seen_at > made.seen_at && touched.created_at == made.created_at);
    ground.changes_nothing(ours.update_session(&ID, "{}", later)).await.unwrap();
    assert_eq!(ours.find_session(&ID).await.unwrap().unwrap().facts, "{}");
    ours.touch_session(&ID, past()).await.unwrap();
    assert_eq!(ours.find_session(&ID).await.unwrap(), None);
    assert_eq!(ours.touch_session(&ID, soon()).await.unwrap_err(), DbError::NotFound);
    assert_eq!(ours.update_session(&ID, "{}", soon()).await.unwrap_err(), DbError::NotFound);
    assert!(!ours.delete_session(&ID).await.unwrap());
}

async fn a_session_of_another_tenant_is_not_found(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    theirs.create_session(session(ID, soon())).await.unwrap();
    assert_eq!(ours.find_session(&ID).await.unwrap(), None);
    assert_eq!(ours.update_session(&ID, "{}", soon()).await.unwrap_err(), DbError::NotFound);
    assert_eq!(ours.touch_session(&ID, past()).await.unwrap_err(), DbError::NotFound);
    assert!(!ours.delete_session(&ID).await.unwrap());
    assert!(theirs.find_session(&ID).await.unwrap().is_some());
    assert!(ground.changes_nothing(theirs.delete_session(&ID)).await.unwrap());
    assert_eq!(theirs.find_session(&ID).await.unwrap(), None);
}

async fn sessions_of_a_deleted_tenant_are_gone(ground: Ground) {
    let theirs = ground.db.tenant(ground.theirs);
    theirs.create_session(session(ID, soon())).await.unwrap();
    ground.db.operator().delete_tenant(ground.theirs, &ground.actor).await.unwrap();
    assert_eq!(theirs.find_session(&ID).await.unwrap(), None);
    assert_eq!(theirs.create_session(session([8; 32], soon())).await.unwrap_err(), DbError::NotFound);
}

async fn expired_sessions_are_swept(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    ours.create_session(session([1; 32], past())).await.unwrap();
    theirs.create_session(session([2; 32], past())).await.unwrap();
    ours.create_session(session([3; 32], soon())).await.unwrap();
    let operator = ground.db.operator();
    let sweep = || operator.purge_sessions(Timestamp::now());
    assert_eq!(ground.changes_nothing(sweep()).await.unwrap(), 2);
    assert_eq!(sweep().await.unwrap(), 0);
    assert!(ours.find_session(&[3; 32]).await.unwrap().is_some());
}
