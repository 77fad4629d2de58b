//! Every mutation leaves one audit event, and those that concern caches one bump of the change counter.

use entity::{ConfigPatch, ManagedBy, NewAgent, NewConfig, NewTenant, Page, SecretsPatch, ServerPatch};
use serde_json::json;
use std::collections::BTreeMap;

use crate::ground::{Ground, stdio};
use crate::people::key;

tests!(
    BOTH: every_mutation_leaves_its_event, an_event_says_who_and_what_and_no_secret,
        nothing_changes_halfway;
);

async fn every_mutation_leaves_its_event(ground: Ground) {
    let (operator, ours, actor) = (ground.db.operator(), ground.db.tenant(ground.ours), &ground.actor);
    let off = || ServerPatch { enabled: Some(false), ..Default::default() };

    let new = NewTenant { slug: "third".to_owned(), name: "Third".to_owned() };
    let third = ground.changes("tenant.create", operator.create_tenant(new, actor)).await;
    ground.changes("tenant.delete", operator.delete_tenant(third.id, actor)).await;

    let new = NewAgent { slug: "robot".to_owned(), name: "Robot".to_owned() };
    let agent = ground.only_audits("agent.create", ours.create_agent(new, actor)).await;
    let credential = ground.only_audits("key.create", ours.create_credential(key("k", 1), actor)).await;
    ground.changes("key.revoke", ours.revoke_credential(credential.id, actor)).await;

    let global = ground.changes("server.create", operator.create_server(stdio("shared"), actor)).await;
    ground.changes("server.update", operator.update_server(global.id, off(), None, actor)).await;
    ground.changes("server.delete", operator.delete_server(global.id, actor)).await;
    let declared = operator.declare_servers(ManagedBy::Config, vec![stdio("declared")], actor);
    ground.changes("server.create", declared).await;

    let own = ground.changes("server.create", ours.create_server(stdio("own"), actor)).await;
    ground.changes("server.update", ours.update_server(own.id, off(), None, actor)).await;
    let new = NewConfig::new(own.id, Some(agent.id));
    let config = ground.changes("config.create", ours.create_config(new, actor)).await;
    let patch = ConfigPatch { timeout_ms: Some(Some(1)), ..Default::default() };
    ground.changes("config.update", ours.update_config(config.id, patch, None, actor)).await;
    ground.changes("config.delete", ours.delete_config(config.id, actor)).await;
    ground.changes("agent.delete", ours.delete_agent(agent.id, actor)).await;
    ground.changes("server.delete", ours.delete_server(own.id, actor)).await;
}

async fn an_event_says_who_and_what_and_no_secret(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let mut new = stdio("time");
    new.settings.url = Some("https://user:hunter2@example.com/mcp?key=hunter2".to_owned());
    let server = ours.create_server(new, &ground.actor).await.unwrap();
    let patch = SecretsPatch::Merge(BTreeMap::from([("NEW".to_owned(), Some("hunter2".to_owned()))]));
    let patch = ServerPatch { env: Some(patch), ..Default::default() };
    ours.update_server(server.id, patch, None, &ground.actor).await.unwrap();

    let events = ours.audit_events(Page::default()).await.unwrap().items;
    assert!(!format!("{events:?}").contains("hunter2"));
    let (update, create) = (&events[0], &events[1]);
    assert_eq!(create.details["args"], json!(["mcp-server-time", "--local-timezone=UTC"]));
    assert_eq!((&create.details["command"], &create.details["env"]), (&json!("uvx"), &json!(["TOKEN"])));
    assert_eq!(create.details["url"], json!("https://example.com/mcp"));
    assert_eq!((create.target.clone(), create.tenant), (server.id.to_string(), Some(ground.ours)));
    assert_eq!((create.request, create.ip.as_deref()), (ground.actor.request, Some("192.0.2.7")));
    assert_eq!((create.actor_tenant, create.actor_kind.as_str()), (ground.ours, "gateway"));
    assert_eq!(update.details["changed"], json!(["env"]));
    assert_eq!(update.details["env"], json!(["NEW", "TOKEN"]));
}

/// Without a place for the event there is no change.
async fn nothing_changes_halfway(ground: Ground) {
    ground.execute("ALTER TABLE audit_events RENAME TO away").await;
    let ours = ground.db.tenant(ground.ours);
    ours.create_server(stdio("time"), &ground.actor).await.unwrap_err();
    ground.execute("ALTER TABLE away RENAME TO audit_events").await;
    assert!(ours.visible_servers().await.unwrap().is_empty());
    ours.create_server(stdio("time"), &ground.actor).await.unwrap();
}
