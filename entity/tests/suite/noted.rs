//! What is noted about servers beside the registry: discoveries, uses, eras.

use entity::{DbError, DiscoveredList, ErasFound, NewServer, ServerPatch, Transport};
use jiff::{SignedDuration, Timestamp};
use protocol::ServerId;
use protocol::mcp::Eras;
use serde_json::json;

use crate::ground::{Ground, stdio};

tests!(
    BOTH: discovered_lists_read_back, discovered_lists_go_with_their_server, remote_servers_are_found, discoveries_and_uses_are_noted_without_a_change, eras_are_noted_for_one_revision;
);

async fn discoveries_and_uses_are_noted_without_a_change(ground: Ground) {
    let (ours, operator) = (ground.db.tenant(ground.ours), ground.db.operator());
    let id = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let found = json!({ "tools": { "listChanged": true } });
    ground.changes_nothing(ours.record_discovery(id, 2, found.clone())).await.unwrap();
    let used: Timestamp = "2026-05-06T07:08:09.123456Z".parse().unwrap();
    ground.changes_nothing(operator.touch_servers(vec![(ground.ours, id, used)])).await.unwrap();
    let earlier = used - SignedDuration::from_secs(1);
    operator.touch_servers(vec![(ground.ours, id, earlier)]).await.unwrap();
    ground.changes_nothing(operator.note_successes(vec![(ground.ours, id, used)])).await.unwrap();
    operator.note_successes(vec![(ground.ours, id, earlier)]).await.unwrap();
    let usage = ours.server_usage().await.unwrap().remove(&id).unwrap();
    assert_eq!(usage.last_success_at, Some(used));
    assert_eq!((usage.tools_count, usage.capabilities), (Some(2), Some(found)));
    assert!(usage.discovered_at.is_some());
    assert_eq!(usage.last_used_at, Some(used), "an earlier use is no news");
    let global = operator.create_server(stdio("global"), &ground.actor).await.unwrap().id;
    operator.touch_servers(vec![(ground.ours, global, used)]).await.unwrap();
    ours.record_discovery(global, 3, json!({})).await.unwrap();
    let theirs = ground.db.tenant(ground.theirs);
    assert!(theirs.server_usage().await.unwrap().is_empty(), "of a global server, each tenant sees its own");
    theirs.record_discovery(global, 4, json!({})).await.unwrap();
    assert_eq!(ours.server_usage().await.unwrap()[&global].tools_count, Some(3));
    let nobody = ours.record_discovery(ServerId::new(), 0, json!({})).await;
    assert_eq!(nobody.unwrap_err(), DbError::NotFound);
}

fn list(of: &str, items: &[(&str, &str)], at: Timestamp) -> DiscoveredList {
    let items = items.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect();
    DiscoveredList { list: of.to_owned(), items, listed_at: at }
}

async fn discovered_lists_read_back(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    let global = ground.db.operator().create_server(stdio("shared"), &ground.actor).await.unwrap().id;
    let at: Timestamp = "2026-05-06T07:08:09.123456Z".parse().unwrap();
    let (tools, prompts) = (list("tools", &[("a\0b", "1"), ("ü", "2")], at), list("prompts", &[], at));
    ground.changes_nothing(ours.store_discovered(global, &[tools.clone(), prompts.clone()])).await.unwrap();
    let sorted = async || {
        let mut lists = ours.discovered_lists(global).await.unwrap();
        lists.sort_by(|a, b| a.list.cmp(&b.list));
        lists
    };
    assert_eq!(sorted().await, [prompts.clone(), tools]);
    let later = list("tools", &[("c", "1")], at + SignedDuration::from_secs(1));
    ours.store_discovered(global, std::slice::from_ref(&later)).await.unwrap();
    assert_eq!(sorted().await, [prompts, later], "a list that is not given stays");
    assert_eq!(theirs.discovered_lists(global).await.unwrap(), [], "each tenant has its own");
}

async fn discovered_lists_go_with_their_server(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let id = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    ours.store_discovered(id, &[list("tools", &[("a", "1")], Timestamp::now())]).await.unwrap();
    ours.delete_server(id, &ground.actor).await.unwrap();
    assert_eq!(ours.discovered_lists(id).await.unwrap(), []);
    let again = ours.store_discovered(id, &[list("tools", &[], Timestamp::now())]).await;
    assert_eq!(again.unwrap_err(), DbError::NotFound);
}

async fn remote_servers_are_found(ground: Ground) {
    let (ours, operator) = (ground.db.tenant(ground.ours), ground.db.operator());
    let remote = |slug: &str, transport| NewServer::new(slug.parse().unwrap(), slug, transport);
    ours.create_server(stdio("time"), &ground.actor).await.unwrap();
    let far = ours.create_server(remote("far", Transport::StreamableHttp), &ground.actor).await.unwrap();
    let shared = operator.create_server(remote("shared", Transport::Websocket), &ground.actor).await.unwrap();
    let theirs = ground.db.tenant(ground.theirs);
    let off = theirs.create_server(remote("off", Transport::Websocket), &ground.actor).await.unwrap();
    let disabled = ServerPatch { enabled: Some(false), ..Default::default() };
    theirs.update_server(off.id, disabled, None, &ground.actor).await.unwrap();
    let gone = ours.create_server(remote("gone", Transport::Websocket), &ground.actor).await.unwrap();
    ours.delete_server(gone.id, &ground.actor).await.unwrap();
    let mut found: Vec<ServerId> =
        operator.remote_servers().await.unwrap().into_iter().map(|server| server.id).collect();
    let mut expected = vec![far.id, shared.id];
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

async fn eras_are_noted_for_one_revision(ground: Ground) {
    let (ours, operator) = (ground.db.tenant(ground.ours), ground.db.operator());
    let made = ours.create_server(stdio("time"), &ground.actor).await.unwrap();
    assert_eq!(made.eras_found, None);
    let at: Timestamp = "2026-05-06T07:08:09.123456Z".parse().unwrap();
    let record = |revision, eras, at| operator.record_eras(made.id, revision, eras, at);
    ground.changes_nothing(record(1, Eras::DUAL, at)).await.unwrap();
    let found = ours.find_server(made.id).await.unwrap();
    assert_eq!(found.eras_found, Some(ErasFound { eras: Eras::DUAL, at }));
    assert_eq!((found.revision, found.updated_at), (1, made.updated_at));
    record(1, Eras::LEGACY, at - SignedDuration::from_secs(1)).await.unwrap();
    record(2, Eras::LEGACY, at + SignedDuration::from_secs(1)).await.unwrap();
    assert_eq!(ours.find_server(made.id).await.unwrap().eras_found, found.eras_found);

    let renamed = ServerPatch { name: Some("Clock".to_owned()), ..Default::default() };
    let kept = ours.update_server(made.id, renamed, None, &ground.actor).await.unwrap();
    assert_eq!(kept.eras_found, found.eras_found);
    let other = ServerPatch { args: Some(vec![]), ..Default::default() };
    let cleared = ours.update_server(made.id, other, None, &ground.actor).await.unwrap();
    assert_eq!((cleared.revision, cleared.eras_found), (2, None));
    record(1, Eras::DUAL, at).await.unwrap();
    assert_eq!(ours.find_server(made.id).await.unwrap().eras_found, None);
    record(2, Eras::MODERN, at).await.unwrap();
    let found = ours.find_server(made.id).await.unwrap().eras_found;
    assert_eq!(found.map(|found| found.eras), Some(Eras::MODERN));
    operator.record_eras(ServerId::new(), 1, Eras::DUAL, at).await.unwrap();
}
