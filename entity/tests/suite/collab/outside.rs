//! Rows that other programs write: each becomes one event, whatever the order of commits.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, TransactionTrait};

use super::{agent, replica, with_task};
use crate::ground::Ground;

tests!(
    BOTH: rows_of_another_program_become_events, the_gateways_own_rows_do_not, a_deleted_task_leaves_nothing,
        wrong_rows_of_a_task_cost_no_other;
    SQLITE: what_is_no_json_is_refused;
    POSTGRES: a_held_task_costs_no_other, many_rows_of_a_held_task_keep_their_order, every_outside_row_is_seen_once_whatever_the_order_of_commits;
);

const EVENT: &str = "INSERT INTO task_events (tenant_id, task_id, agent, data) \
                     SELECT id, 't', 'script', '{\"step\": \"outside\"}' FROM tenants WHERE slug = 'default'";

async fn rows_of_another_program_become_events(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let new = "INSERT INTO tasks (tenant_id, id, title) SELECT id, 't', 'Outside' FROM tenants WHERE slug = 'default'";
    ground.execute(new).await;
    ground.execute(EVENT).await;
    let task = ours.find_task(&agent("ada"), "t").await.unwrap();
    assert_eq!((task.status.as_str(), task.version, task.last_seq), ("pending", 1, 0));
    let ingested = ground.db.operator().ingest_outbox().await.unwrap();
    assert_eq!((ingested.len(), ingested[0].seq, ingested[0].rows), (1, 2, 2));
    ground.execute("UPDATE tasks SET status = 'done' WHERE id = 't'").await;
    assert_eq!(ground.db.operator().outbox_depth().await.unwrap(), 1);
    assert_eq!(ground.db.operator().ingest_outbox().await.unwrap()[0].seq, 3);
    assert_eq!(ground.db.operator().ingest_outbox().await.unwrap(), []);
    let (events, newest) = ours.events_after(&agent("ada"), "t", 0, 9).await.unwrap();
    let found: Vec<_> =
        events.iter().map(|event| (event.seq, event.kind.as_str(), event.agent.as_deref())).collect();
    let outside = "task_changed_outside";
    assert_eq!(found, [(1, "step", Some("script")), (2, outside, None), (3, outside, None)]);
    assert_eq!(
        (newest, events[0].data["step"].as_str(), events[2].data["status"].as_str()),
        (3, Some("outside"), Some("done"))
    );
    let age = jiff::Timestamp::now().duration_since(events[0].at).abs();
    assert!(age < jiff::SignedDuration::from_secs(30), "{age:?}");
    let task = ours.find_task(&agent("ada"), "t").await.unwrap();
    assert_eq!((task.status.as_str(), task.version, task.last_seq), ("done", 3, 3));
}

async fn the_gateways_own_rows_do_not(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    ours.join_task(&ada, "t", Some("coder")).await.unwrap();
    super::claim(&ground.db, ground.ours, &ada, "a").await.unwrap();
    ours.next_task(&ada, &Default::default()).await.unwrap().unwrap();
    assert_eq!(ground.db.operator().outbox_depth().await.unwrap(), 0);
}

async fn a_deleted_task_leaves_nothing(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    ground.execute(EVENT).await;
    ground.db.tenant(ground.ours).delete_task(&ada, "t", &ground.actor).await.unwrap();
    assert_eq!(ground.db.operator().ingest_outbox().await.unwrap(), []);
    assert_eq!(ground.db.operator().outbox_depth().await.unwrap(), 0);
    let events = ground.blobs("SELECT 'x' FROM task_events").await;
    assert_eq!(events.len(), 0);
}

async fn wrong_rows_of_a_task_cost_no_other(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    with_task(&ground, "u").await;
    let ours = ground.db.tenant(ground.ours);
    // A number that is the gateway's to give, far ahead and as the next one.
    for seq in [9, 2] {
        let taken = format!(
            "INSERT INTO task_events (tenant_id, task_id, seq) SELECT id, 't', {seq} FROM tenants WHERE slug = 'default'"
        );
        ground.execute(&taken).await;
    }
    let (events, newest) = ours.events_after(&ada, "t", 0, 9).await.unwrap();
    assert_eq!((events.len(), newest), (1, 1), "no follower jumps over what comes");
    let step = |task: &str| entity::collab::NewStep {
        tenant: ground.ours,
        task: task.to_owned(),
        agent: "ada".to_owned(),
        sees_all: false,
        step_id: "1".to_owned(),
        data: serde_json::json!({}),
    };
    let answers = ground.db.operator().append_steps(&[step("t"), step("u")]).await.unwrap();
    let codes: Vec<_> =
        answers.into_iter().map(|answer| answer.unwrap().map_err(|refusal| refusal.code)).collect();
    assert_eq!(codes[0], Err(protocol::Code::Conflict));
    assert!(codes[1].is_ok_and(|numbered| numbered.seq == 2), "{codes:?}");
    ground.execute(EVENT).await;
    ground.execute(&EVENT.replace("'t'", "'u'")).await;
    let ingested = ground.db.operator().ingest_outbox().await.unwrap();
    assert_eq!(ingested.iter().map(|task| (task.task.as_str(), task.seq)).collect::<Vec<_>>(), [("u", 3)]);
    assert_eq!(ground.db.operator().outbox_depth().await.unwrap(), 1, "the other waits for the operator");
    ground
        .execute("UPDATE tasks SET labels = '\"x\"', access = 'nobody', status = 'odd' WHERE id = 'u'")
        .await;
    assert_eq!(super::code(ours.find_task(&super::agent("bob"), "u").await), protocol::Code::NotFound);
    let task = ours.find_task(&ada, "u").await.unwrap();
    assert_eq!((task.labels, task.status.as_str()), (vec!["x".to_owned()], "odd"), "its maker finds it");
}

async fn every_outside_row_is_seen_once_whatever_the_order_of_commits(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let held = ground.db.connection().begin().await.unwrap();
    held.execute_unprepared(EVENT).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let db = replica(&ground).await;
        writers.spawn(async move {
            for at in 0..30 {
                let tx = db.connection().begin().await.unwrap();
                for _ in 0..3 {
                    tx.execute_unprepared(EVENT).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis((number * 7 + at * 3) % 20)).await;
                if at % 10 == 9 { tx.rollback().await.unwrap() } else { tx.commit().await.unwrap() }
            }
            db.close().await;
        });
    }
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let db = replica(&ground).await;
        readers.spawn(async move {
            let (started, mut rows) = (Instant::now(), 0);
            while started.elapsed() < Duration::from_secs(6) {
                rows +=
                    db.operator().ingest_outbox().await.unwrap().iter().map(|task| task.rows).sum::<usize>();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            db.close().await;
            rows
        });
    }
    writers.join_all().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ours = ground.db.tenant(ground.ours);
    let (_, newest) = ours.events_after(&ada, "t", 0, 1).await.unwrap();
    assert_eq!(newest, 325, "an open transaction delays nobody's rows but its own");
    tokio::time::sleep(Duration::from_secs(3)).await;
    held.commit().await.unwrap();
    let taken: usize = readers.join_all().await.iter().sum();
    assert_eq!(taken, 325, "each row by one replica");
    let (events, newest) = ours.events_after(&ada, "t", 0, 500).await.unwrap();
    assert_eq!((newest, events.len()), (326, 326));
    assert!(events.iter().zip(1..).all(|(event, number)| event.seq == number));
    assert_eq!(ground.db.operator().outbox_depth().await.unwrap(), 0);
}

async fn what_is_no_json_is_refused(ground: Ground) {
    with_task(&ground, "t").await;
    let tables = ground.db.connection();
    for wrong in [
        "UPDATE tasks SET labels = 'urgent'",
        "UPDATE tasks SET result = '{'",
        "INSERT INTO tasks (tenant_id, id, labels) SELECT tenant_id, 'u', 'x' FROM tasks",
        "INSERT INTO task_events (tenant_id, task_id, data) SELECT tenant_id, id, 'x' FROM tasks",
    ] {
        let error = tables.execute_unprepared(wrong).await.unwrap_err();
        assert!(error.to_string().contains("JSON"), "{error}");
    }
    tables.execute_unprepared("UPDATE tasks SET labels = '[\"x\"]', result = NULL").await.unwrap();
}

/// Another program holds the task's row: changes of it are refused within seconds, and hold no connection that
/// others need.
async fn a_held_task_costs_no_other(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    with_task(&ground, "u").await;
    // A number that serde_json cannot read, in a column that numbering does not need.
    ground.execute("UPDATE tasks SET labels = '[1e400]' WHERE id = 't'").await;
    ground.execute(&EVENT.replace("'t'", "'u'")).await;
    let ingested = ground.db.operator().ingest_outbox().await.unwrap();
    assert_eq!(ingested.len(), 2, "{ingested:?}");
    let outside = replica(&ground).await;
    let held = outside.connection().begin().await.unwrap();
    held.execute_unprepared("UPDATE tasks SET title = 'held' WHERE id = 't'").await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (db, tenant, ada) = (ground.db.clone(), ground.ours, ada.clone());
        waiting.spawn(async move { db.tenant(tenant).join_task(&ada, "t", None).await });
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let ours = ground.db.tenant(ground.ours);
    for _ in 0..50 {
        ours.join_task(&ada, "u", None).await.unwrap();
    }
    for joined in waiting.join_all().await {
        let refusal = joined.unwrap_err();
        assert_eq!(refusal.code, protocol::Code::Conflict);
        assert!(refusal.reason.contains("try again"), "{}", refusal.reason);
    }
    held.rollback().await.unwrap();
    ours.leave_task(&ada, "u").await.unwrap();
}

async fn many_rows_of_a_held_task_keep_their_order(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    with_task(&ground, "u").await;
    let many = "INSERT INTO task_events (tenant_id, task_id, data) SELECT tenant_id, id, to_jsonb(n) FROM tasks, \
                generate_series(1, 1200) n WHERE id = 't' ORDER BY n";
    ground.execute(many).await;
    ground.execute(&EVENT.replace("'t'", "'u'")).await;
    let other = replica(&ground).await;
    let held = other.connection().begin().await.unwrap();
    held.execute_unprepared("SELECT 1 FROM tasks WHERE id = 't' FOR UPDATE").await.unwrap();
    let operator = ground.db.operator();
    let ingested = operator.ingest_outbox().await.unwrap();
    assert_eq!(ingested.iter().map(|task| task.task.as_str()).collect::<Vec<_>>(), ["u"]);
    assert_eq!(operator.ingest_outbox().await.unwrap(), [], "what is left is no progress");
    held.rollback().await.unwrap();
    let there = other.operator();
    loop {
        let both = tokio::join!(operator.ingest_outbox(), there.ingest_outbox());
        if both.0.unwrap().is_empty() && both.1.unwrap().is_empty() {
            break;
        }
    }
    let (mut after, ours) = (1, ground.db.tenant(ground.ours));
    while let events @ [_, ..] = &*ours.events_after(&ada, "t", after, 500).await.unwrap().0 {
        for event in events {
            assert_eq!((event.seq, event.data.as_i64()), (after + 1, Some(after)));
            after += 1;
        }
    }
    assert_eq!(after, 1201);
}
