//! Tenants, agents and keys.

use entity::{DbError, NewAgent, NewCredential, NewTenant, Page};
use jiff::Timestamp;
use protocol::{CredentialId, Role};

use crate::ground::{Ground, stdio};

tests!(
    BOTH: the_default_tenant_is_made_once_and_stays, a_deleted_tenant_takes_everything_along,
        an_agent_is_made_at_first_use, many_first_uses_make_one_agent, a_deleted_agent_loses_its_keys,
        a_key_is_found_by_its_hash, lists_come_in_pages;
);

pub fn key(name: &str, hash: u8) -> NewCredential {
    NewCredential {
        agent: None,
        name: name.to_owned(),
        hint: "wxyz".to_owned(),
        secret_hash: [hash; 32],
        scopes: Role::Agent.scopes(),
        expires_at: Some("2030-01-02T03:04:05.678901Z".parse().unwrap()),
    }
}

fn agent(slug: &str) -> NewAgent {
    NewAgent { slug: slug.to_owned(), name: slug.to_owned() }
}

async fn the_default_tenant_is_made_once_and_stays(ground: Ground) {
    let operator = ground.db.operator();
    let again = ground.changes_nothing(ground.db.ensure_default_tenant()).await.unwrap();
    assert_eq!(again.id, ground.ours);
    assert_eq!(operator.only_tenant().await.unwrap(), None);
    operator.delete_tenant(ground.theirs, &ground.actor).await.unwrap();
    assert_eq!(operator.only_tenant().await.unwrap(), Some(again));
    let refused = ground.changes_nothing(operator.delete_tenant(ground.ours, &ground.actor)).await;
    assert!(matches!(refused, Err(DbError::Conflict(_))), "{refused:?}");
}

async fn a_deleted_tenant_takes_everything_along(ground: Ground) {
    let (operator, theirs) = (ground.db.operator(), ground.db.tenant(ground.theirs));
    theirs.create_credential(key("k", 1), &ground.actor).await.unwrap();
    theirs.create_server(stdio("time"), &ground.actor).await.unwrap();
    theirs.ensure_agent("robot").await.unwrap();
    let taken = NewTenant { slug: "other".to_owned(), name: "x".to_owned() };
    let refused = operator.create_tenant(taken.clone(), &ground.actor).await;
    assert_eq!(refused.unwrap_err(), DbError::SlugTaken { slug: "other".to_owned() });

    operator.delete_tenant(ground.theirs, &ground.actor).await.unwrap();
    assert_eq!(theirs.tenant().await.unwrap_err(), DbError::NotFound);
    assert_eq!(operator.find_credential_by_hash([1; 32]).await.unwrap(), None);
    assert!(theirs.visible_servers().await.unwrap().is_empty());
    assert_eq!(ground.blobs("SELECT env_sealed FROM mcp_servers").await, [None]);
    assert_eq!(theirs.ensure_agent("late").await.unwrap_err(), DbError::NotFound);
    let late = theirs.create_server(stdio("late"), &ground.actor).await;
    assert_eq!(late.unwrap_err(), DbError::NotFound);
    operator.create_tenant(taken, &ground.actor).await.unwrap();

    for bad in ["", "-a", "A", "a b", "ä", &"a".repeat(64)] {
        let new = NewTenant { slug: bad.to_owned(), name: String::new() };
        let refused = operator.create_tenant(new, &ground.actor).await;
        assert!(matches!(refused, Err(DbError::Invalid(_))), "{bad}");
    }
}

async fn an_agent_is_made_at_first_use(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let made = ground.only_audits("agent.create", ours.ensure_agent("claude@desk:1")).await;
    let again = ground.changes_nothing(ours.ensure_agent("claude@desk:1")).await.unwrap();
    assert_eq!(made, again);
    assert_eq!(ours.find_agent(made.id).await.unwrap(), made);
    let taken = ours.create_agent(agent("claude@desk:1"), &ground.actor).await;
    assert!(matches!(taken, Err(DbError::SlugTaken { .. })));
    for bad in ["", "a b", "ü", "a/b", &"a".repeat(65)] {
        assert!(matches!(ours.ensure_agent(bad).await, Err(DbError::Invalid(_))), "{bad}");
    }
}

async fn many_first_uses_make_one_agent(ground: Ground) {
    let uses: Vec<_> = (0..20)
        .map(|_| {
            let (db, tenant) = (ground.db.clone(), ground.ours);
            tokio::spawn(async move { db.tenant(tenant).ensure_agent("one").await.unwrap().id })
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    for one in uses {
        ids.insert(one.await.unwrap());
    }
    assert_eq!(ids.len(), 1);
}

async fn a_deleted_agent_loses_its_keys(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let robot = ours.create_agent(agent("robot"), &ground.actor).await.unwrap();
    let new = NewCredential { agent: Some(robot.id), ..key("k", 1) };
    ours.create_credential(new, &ground.actor).await.unwrap();
    ours.delete_agent(robot.id, &ground.actor).await.unwrap();
    assert_eq!(ours.find_agent(robot.id).await.unwrap_err(), DbError::NotFound);
    let known = ground.db.operator().find_credential_by_hash([1; 32]).await.unwrap().unwrap();
    assert!(known.credential.revoked_at.is_some());
    let again = ours.ensure_agent("robot").await.unwrap();
    assert_ne!(again.id, robot.id);
    let orphan = NewCredential { agent: Some(robot.id), ..key("k", 2) };
    let refused = ours.create_credential(orphan, &ground.actor).await;
    assert_eq!(refused.unwrap_err(), DbError::NotFound);
}

async fn a_key_is_found_by_its_hash(ground: Ground) {
    let (operator, ours) = (ground.db.operator(), ground.db.tenant(ground.ours));
    let robot = ours.ensure_agent("robot").await.unwrap();
    let new = NewCredential { agent: Some(robot.id), ..key("ci", 7) };
    let made = ours.create_credential(new.clone(), &ground.actor).await.unwrap();
    let known = operator.find_credential_by_hash([7; 32]).await.unwrap().unwrap();
    assert_eq!(known.credential, made);
    assert_eq!((known.tenant_slug.as_str(), known.agent_slug.as_deref()), ("default", Some("robot")));
    assert_eq!(operator.find_credential_by_hash([8; 32]).await.unwrap(), None);
    let twice = ours.create_credential(new, &ground.actor).await;
    assert!(matches!(twice, Err(DbError::Conflict(_))));

    let later: Timestamp = "2026-05-06T07:08:09Z".parse().unwrap();
    let earlier: Timestamp = "2026-05-06T07:08:08Z".parse().unwrap();
    let nobody = CredentialId::new();
    ground
        .changes_nothing(operator.touch_credentials(vec![(made.id, later), (nobody, later)]))
        .await
        .unwrap();
    operator.touch_credentials(vec![(made.id, earlier)]).await.unwrap();
    assert_eq!(ours.find_credential(made.id).await.unwrap().last_used_at, Some(later));

    let revoked = ours.revoke_credential(made.id, &ground.actor).await.unwrap();
    let again = ground.changes_nothing(ours.revoke_credential(made.id, &ground.actor)).await.unwrap();
    assert_eq!(revoked, again);
}

async fn lists_come_in_pages(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    for slug in ["c", "a", "b"] {
        ours.ensure_agent(slug).await.unwrap();
    }
    let slugs = async |page: u64, size: u64| {
        let paged = ours.agents(Page::new(page, size)).await.unwrap();
        assert_eq!(paged.total, 3);
        paged.items.into_iter().map(|agent| agent.slug).collect::<Vec<_>>().concat()
    };
    assert_eq!(slugs(1, 2).await, "ab");
    assert_eq!(slugs(2, 2).await, "c");
    assert_eq!(slugs(3, 2).await, "");
    assert_eq!(slugs(0, 0).await, "a");
    assert_eq!(slugs(u64::MAX, u64::MAX).await, "");
}
