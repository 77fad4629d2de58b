//! Configs: one for each server and agent, their revisions, what they vanish with.

use entity::{ConfigFilter, ConfigPatch, ConfigSettings, DbError, NewConfig, Page};

use crate::ground::{Ground, stdio};

tests!(
    BOTH: a_config_reads_back_and_is_the_only_one, a_change_raises_the_revision,
        configs_vanish_with_their_server_and_agent;
);

async fn a_config_reads_back_and_is_the_only_one(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let server = ground.db.operator().create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let agent = ours.ensure_agent("robot").await.unwrap().id;
    let settings = ConfigSettings {
        enabled: Some(true),
        allowed_tools: Some(vec!["get_time".to_owned()]),
        blocked_tools: Some(vec![]),
        timeout_ms: Some(9),
        ..ConfigSettings::default()
    };
    let new = NewConfig { settings, ..NewConfig::new(server, None) };
    let made = ours.create_config(new, &ground.actor).await.unwrap();
    let found = ours.find_config(made.id).await.unwrap();
    assert_eq!(format!("{found:?}"), format!("{made:?}"));
    assert_eq!((found.settings.blocked_tools, found.settings.enabled), (Some(vec![]), Some(true)));

    let for_agent = ours.create_config(NewConfig::new(server, Some(agent)), &ground.actor).await.unwrap();
    assert_eq!(for_agent.settings, ConfigSettings::default());
    for agent in [None, Some(agent)] {
        let twice = ours.create_config(NewConfig::new(server, agent), &ground.actor);
        let refused = ground.changes_nothing(twice).await;
        assert!(matches!(refused, Err(DbError::Conflict(_))), "{refused:?}");
    }
    let theirs = ground.db.tenant(ground.theirs);
    theirs.create_config(NewConfig::new(server, None), &ground.actor).await.unwrap();

    let all = ours.configs(&ConfigFilter::default(), Page::default()).await.unwrap();
    assert_eq!((all.total, ours.all_configs().await.unwrap().len()), (2, 2));
    let one = ConfigFilter { server: Some(server), agent: Some(agent) };
    assert_eq!(ours.configs(&one, Page::default()).await.unwrap().items[0].id, for_agent.id);
}

async fn a_change_raises_the_revision(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let server = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let id = ours.create_config(NewConfig::new(server, None), &ground.actor).await.unwrap().id;
    let block = ConfigPatch { blocked_tools: Some(Some(vec!["x".to_owned()])), ..Default::default() };
    let changed = ours.update_config(id, block.clone(), Some(1), &ground.actor).await.unwrap();
    assert_eq!((changed.revision, changed.settings.blocked_tools), (2, Some(vec!["x".to_owned()])));
    let same = ground.changes_nothing(ours.update_config(id, block.clone(), Some(2), &ground.actor)).await;
    assert_eq!(same.unwrap().revision, 2);
    let stale = ours.update_config(id, block, Some(1), &ground.actor).await;
    assert_eq!(stale.unwrap_err(), DbError::RevisionMismatch);
    let inherit = ConfigPatch { blocked_tools: Some(None), ..Default::default() };
    let changed = ours.update_config(id, inherit, None, &ground.actor).await.unwrap();
    assert_eq!((changed.revision, changed.settings.blocked_tools), (3, None));
}

async fn configs_vanish_with_their_server_and_agent(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let server = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let agent = ours.ensure_agent("robot").await.unwrap().id;
    ours.create_config(NewConfig::new(server, None), &ground.actor).await.unwrap();
    ours.create_config(NewConfig::new(server, Some(agent)), &ground.actor).await.unwrap();
    ours.delete_agent(agent, &ground.actor).await.unwrap();
    assert_eq!(ours.all_configs().await.unwrap().len(), 1);
    ours.delete_server(server, &ground.actor).await.unwrap();
    assert!(ours.all_configs().await.unwrap().is_empty());
    let late = ours.create_config(NewConfig::new(server, None), &ground.actor).await;
    assert_eq!(late.unwrap_err(), DbError::NotFound);
}
