//! The wall between tenants: what another tenant has is not found, whatever is tried with its id.

use entity::{ConfigFilter, ConfigPatch, DbError, NewConfig, NewCredential, Page, ServerFilter, ServerPatch};

use crate::ground::{Ground, stdio};
use crate::people::key;

tests!(
    BOTH: agents_and_keys_of_another_tenant_are_not_found,
        servers_and_configs_of_another_tenant_are_not_found, audit_events_of_another_tenant_are_not_shown,
        the_operators_door_changes_no_tenants_server;
);

/// Not found, and nothing happened.
macro_rules! not_found {
    ($ground:ident, $($attempt:expr),* $(,)?) => {$(
        let refused = $ground.changes_nothing($attempt).await;
        assert_eq!(refused.map(drop).unwrap_err(), DbError::NotFound, "{}", stringify!($attempt));
    )*};
}

async fn agents_and_keys_of_another_tenant_are_not_found(ground: Ground) {
    let (ours, theirs, actor) =
        (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs), &ground.actor);
    let agent = theirs.ensure_agent("robot").await.unwrap();
    let credential = theirs.create_credential(key("k", 1), actor).await.unwrap();
    let borrowed = NewCredential { agent: Some(agent.id), ..key("k", 2) };
    not_found!(
        ground,
        ours.find_agent(agent.id),
        ours.find_agent_by_slug("robot"),
        ours.delete_agent(agent.id, actor),
        ours.find_credential(credential.id),
        ours.revoke_credential(credential.id, actor),
        ours.create_credential(borrowed.clone(), actor),
    );
    assert_eq!(ours.agents(Page::default()).await.unwrap().total, 0);
    assert_eq!(ours.credentials(Page::default()).await.unwrap().total, 0);
    assert_eq!(theirs.find_credential(credential.id).await.unwrap().revoked_at, None);
}

async fn servers_and_configs_of_another_tenant_are_not_found(ground: Ground) {
    let (ours, theirs, actor) =
        (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs), &ground.actor);
    let server = theirs.create_server(stdio("time"), actor).await.unwrap().id;
    let agent = theirs.ensure_agent("robot").await.unwrap().id;
    let config = theirs.create_config(NewConfig::new(server, Some(agent)), actor).await.unwrap().id;
    let global = ground.db.operator().create_server(stdio("shared"), actor).await.unwrap().id;
    not_found!(
        ground,
        ours.find_server(server),
        ours.find_server_by_slug("time"),
        ours.update_server(server, ServerPatch { enabled: Some(false), ..Default::default() }, None, actor),
        ours.delete_server(server, actor),
        ours.record_discovery(server, 1, serde_json::json!({})),
        ours.store_discovered(server, &[]),
        ours.create_config(NewConfig::new(server, None), actor),
        ours.create_config(NewConfig::new(global, Some(agent)), actor),
        ours.find_config(config),
        ours.update_config(
            config,
            ConfigPatch { enabled: Some(Some(false)), ..Default::default() },
            None,
            actor
        ),
        ours.delete_config(config, actor),
    );
    let shown = ours.servers(&ServerFilter::default(), Page::default()).await.unwrap();
    assert_eq!((shown.total, shown.items[0].id), (1, global));
    assert_eq!(ours.visible_servers().await.unwrap().len(), 1);
    assert_eq!(ours.configs(&ConfigFilter::default(), Page::default()).await.unwrap().total, 0);
    let by_their_ids = ConfigFilter { server: Some(server), agent: Some(agent) };
    assert_eq!(ours.configs(&by_their_ids, Page::default()).await.unwrap().total, 0);
    assert!(ours.all_configs().await.unwrap().is_empty());
    theirs.find_config(config).await.unwrap();
}

async fn audit_events_of_another_tenant_are_not_shown(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    theirs.create_server(stdio("time"), &ground.actor).await.unwrap();
    ground.db.operator().create_server(stdio("global"), &ground.actor).await.unwrap();
    let actions =
        |events: Vec<entity::AuditEvent>| events.into_iter().map(|event| event.action).collect::<Vec<_>>();
    let mine = ours.audit_events(Page::default()).await.unwrap();
    assert_eq!(actions(mine.items), ["tenant.create"]);
    let others = theirs.audit_events(Page::default()).await.unwrap();
    assert_eq!(actions(others.items), ["server.create", "tenant.create"]);
    assert_eq!(ground.db.operator().audit_events(Page::default()).await.unwrap().total, 4);
}

async fn the_operators_door_changes_no_tenants_server(ground: Ground) {
    let operator = ground.db.operator();
    let server = ground.db.tenant(ground.ours).create_server(stdio("time"), &ground.actor).await.unwrap().id;
    not_found!(
        ground,
        operator.update_server(server, ServerPatch::default(), None, &ground.actor),
        operator.delete_server(server, &ground.actor),
    );
}
