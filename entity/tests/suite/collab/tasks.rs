//! Tasks: who finds them, changes from a known version, the next one, participants.

use entity::Page;
use entity::collab::{Access, NewTask, Status, TaskFilter, TaskPatch};
use protocol::Code;
use serde_json::json;

use super::{agent, code, fact, replica, with_task};
use crate::ground::Ground;

tests!(
    BOTH: a_task_reads_back_as_it_was_made, a_tasks_own_agents_find_it, a_change_is_from_a_known_version,
        each_ready_task_is_taken_once, a_task_waits_for_what_it_depends_on, participants_come_and_go,
        dependencies_close_no_circle, lists_of_names_have_a_length, a_deleted_task_is_audited;
    POSTGRES: the_next_task_is_ready;
);

async fn a_task_reads_back_as_it_was_made(ground: Ground) {
    let (ada, ours) = (agent("ada"), ground.db.tenant(ground.ours));
    with_task(&ground, "first").await;
    let new = NewTask {
        description: Some("All of it ä".to_owned()),
        assigned_to: Some("bob".to_owned()),
        complexity: Some(7),
        parent: Some("first".to_owned()),
        labels: vec!["x".to_owned(), "y".to_owned()],
        depends_on: vec!["first".to_owned(), "first".to_owned()],
        participants: vec!["eve".to_owned()],
        ..NewTask::new("task-123", "Title")
    };
    let made = ours.create_task(&ada, new.clone()).await.unwrap().value;
    let found = ours.find_task(&ada, "task-123").await.unwrap();
    assert_eq!(entity::collab::Task { depends_on: found.depends_on.clone(), ..made }, found);
    assert_eq!(found.depends_on, ["first"]);
    assert_eq!((found.version, found.last_seq, found.status.as_str()), (1, 1, "pending"));
    assert_eq!(
        (found.complexity, found.labels.len(), found.created_by.as_deref()),
        (Some(7), 2, Some("ada"))
    );
    assert_eq!(code(ours.create_task(&ada, new).await), Code::Conflict);
    let nul = NewTask { labels: vec!["\0".to_owned()], ..NewTask::new("n", "N") };
    assert_eq!(code(ours.create_task(&ada, nul).await), Code::ValidationFailed);
    assert_eq!(code(ground.db.tenant(ground.theirs).find_task(&ada, "task-123").await), Code::NotFound);
    ground.db.operator().delete_tenant(ground.theirs, &ground.actor).await.unwrap();
    let late = ground.db.tenant(ground.theirs).create_task(&ada, NewTask::new("n", "N")).await;
    assert_eq!(code(late), Code::NotFound);
}

async fn a_tasks_own_agents_find_it(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let new = NewTask {
        access: Access::Participants,
        assigned_to: Some("bob".to_owned()),
        participants: vec!["eve".to_owned()],
        ..NewTask::new("secret", "Secret")
    };
    ours.create_task(&agent("ada"), new).await.unwrap();
    with_task(&ground, "open").await;
    let admin = entity::collab::Member { agent: "root".to_owned(), sees_all: true };
    for (member, finds) in [
        (agent("ada"), true),
        (agent("bob"), true),
        (agent("eve"), true),
        (admin, true),
        (agent("mal"), false),
    ] {
        assert_eq!(ours.find_task(&member, "secret").await.is_ok(), finds, "{member:?}");
        let listed = ours.list_tasks(&member, &TaskFilter::default(), Page::default()).await.unwrap();
        assert_eq!(listed.total, 1 + u64::from(finds), "{member:?}");
        assert_eq!(ours.events_after(&member, "secret", 0, 1).await.is_ok(), finds);
        assert_eq!(ours.join_task(&member, "secret", None).await.is_ok(), finds);
        assert_eq!(ours.participants(&member, "secret").await.is_ok(), finds);
        let needs =
            NewTask { depends_on: vec!["secret".to_owned()], ..NewTask::new(member.agent.clone(), "N") };
        assert_eq!(ours.create_task(&member, needs).await.is_ok(), finds, "it is not even known to exist");
        ground.execute(&format!("DELETE FROM tasks WHERE id = '{}'", member.agent)).await;
    }
    assert_eq!(code(ours.update_task(&agent("mal"), "secret", TaskPatch::default()).await), Code::NotFound);
    assert_eq!(code(ours.delete_task(&agent("mal"), "secret", &ground.actor).await), Code::NotFound);
}

async fn a_change_is_from_a_known_version(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let to = |status, version| TaskPatch {
        status: Some(status),
        expected_version: Some(version),
        ..TaskPatch::default()
    };
    let mut racers = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (db, tenant, patch) = (replica(&ground).await, ground.ours, to(Status::InProgress, 1));
        racers.spawn(async move {
            let changed = db.tenant(tenant).update_task(&agent(&number.to_string()), "t", patch).await;
            db.close().await;
            changed.map(drop)
        });
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!((refused.code, fact(&refused, "currentVersion")), (Code::VersionConflict, 2.into()));
        assert_eq!(fact(&refused, "currentStatus"), "in_progress");
    }
    let from = TaskPatch { expected_status: Some(Status::Pending), ..TaskPatch::default() };
    assert_eq!(code(ours.update_task(&ada, "t", from).await), Code::VersionConflict);
    let patch = TaskPatch {
        title: Some("New".to_owned()),
        description: Some(Some("text".to_owned())),
        result: Some(Some(json!({ "ok": [1, null] }))),
        assigned_to: Some(Some("bob".to_owned())),
        complexity: Some(Some(3)),
        labels: Some(vec!["l".to_owned()]),
        note: Some("for you".to_owned()),
        expected_status: Some(Status::InProgress),
        ..to(Status::Review, 2)
    };
    let changed = ours.update_task(&ada, "t", patch).await.unwrap().value;
    assert_eq!(changed, ours.find_task(&ada, "t").await.unwrap());
    assert_eq!(
        (changed.version, changed.title.as_str(), changed.result),
        (3, "New", Some(json!({ "ok": [1, null] })))
    );
    let nothing = ours.update_task(&ada, "t", TaskPatch::default()).await.unwrap();
    assert_eq!((nothing.value.version, nothing.seq), (3, 3), "nothing changes nothing");
    let none = TaskPatch { result: Some(None), assigned_to: Some(None), ..TaskPatch::default() };
    let changed = ours.update_task(&ada, "t", none).await.unwrap().value;
    assert_eq!((changed.result, changed.assigned_to, changed.complexity), (None, None, Some(3)));
    let (events, _) = ours.events_after(&ada, "t", 2, 9).await.unwrap();
    assert_eq!((events[0].kind.as_str(), &events[0].data["note"]), ("task_updated", &json!("for you")));
}

async fn each_ready_task_is_taken_once(ground: Ground) {
    for number in 0..12 {
        with_task(&ground, &format!("t{number:02}")).await;
    }
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (db, tenant) = (replica(&ground).await, ground.ours);
        workers.spawn(async move {
            let me = agent(&format!("agent-{number}"));
            let mut taken = Vec::new();
            while let Some(task) = db.tenant(tenant).next_task(&me, &TaskFilter::default()).await.unwrap() {
                assert_eq!(task.value.assigned_to.as_deref(), Some(me.agent.as_str()));
                assert_eq!(task.value.status, "in_progress");
                taken.push(task.value.id);
            }
            db.close().await;
            assert!(taken.is_sorted(), "the oldest first: {taken:?}");
            taken
        });
    }
    let mut taken = workers.join_all().await.concat();
    taken.sort_unstable();
    assert_eq!(taken, (0..12).map(|number| format!("t{number:02}")).collect::<Vec<_>>());
}

async fn a_task_waits_for_what_it_depends_on(ground: Ground) {
    let (ada, ours) = (agent("ada"), ground.db.tenant(ground.ours));
    let needing = |id: &str, needs: &[&str]| NewTask {
        depends_on: needs.iter().map(|need| (*need).to_owned()).collect(),
        ..NewTask::new(id, id)
    };
    ours.create_task(&ada, needing("a", &[])).await.unwrap();
    ours.create_task(&ada, needing("b", &["a"])).await.unwrap();
    ours.create_task(&ada, needing("c", &["a", "b"])).await.unwrap();
    ours.create_task(&ada, NewTask { assigned_to: Some("bob".to_owned()), ..needing("d", &[]) })
        .await
        .unwrap();
    assert_eq!(code(ours.create_task(&ada, needing("e", &["missing"])).await), Code::ValidationFailed);
    assert_eq!(code(ours.create_task(&ada, needing("e", &["e"])).await), Code::ValidationFailed);
    let circle = TaskPatch { depends_on: Some(vec!["c".to_owned()]), ..TaskPatch::default() };
    assert_eq!(code(ours.update_task(&ada, "a", circle).await), Code::ValidationFailed);
    let next = async |member: &str| {
        let next = ours.next_task(&agent(member), &TaskFilter::default()).await.unwrap();
        next.map(|task| task.value.id)
    };
    assert_eq!(next("ada").await.as_deref(), Some("a"));
    assert_eq!(next("ada").await, None, "b waits for a, d is bob's");
    assert_eq!(next("bob").await.as_deref(), Some("d"));
    let done = || TaskPatch { status: Some(Status::Done), ..TaskPatch::default() };
    ours.update_task(&ada, "a", done()).await.unwrap();
    assert_eq!(next("eve").await.as_deref(), Some("b"));
    assert_eq!(next("eve").await, None);
    let free = TaskPatch { depends_on: Some(Vec::new()), ..TaskPatch::default() };
    assert!(ours.update_task(&ada, "c", free).await.unwrap().value.depends_on.is_empty());
    assert_eq!(next("eve").await.as_deref(), Some("c"));
}

async fn participants_come_and_go(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    ours.join_task(&ada, "t", Some("coder")).await.unwrap();
    ours.join_task(&agent("bob"), "t", None).await.unwrap();
    let all = ours.join_task(&ada, "t", Some("reviewer")).await.unwrap().value;
    let found: Vec<_> = all.iter().map(|one| (one.agent.as_str(), one.role.as_deref())).collect();
    assert_eq!(found, [("ada", Some("reviewer")), ("bob", None)]);
    let left = ours.leave_task(&agent("bob"), "t").await.unwrap();
    assert!(left.value[1].left_at.is_some() && left.value[0].left_at.is_none());
    assert_eq!(ours.leave_task(&agent("bob"), "t").await.unwrap().seq, left.seq, "nothing new");
    let before = ours.participants(&ada, "t").await.unwrap()[0].seen_at;
    let seen =
        [(ground.ours, "t".to_owned(), "ada".to_owned()), (ground.theirs, "t".to_owned(), "x".to_owned())];
    ground.db.operator().touch_participants(seen).await.unwrap();
    assert!(ours.participants(&ada, "t").await.unwrap()[0].seen_at > before);
}

async fn a_deleted_task_is_audited(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let deleted =
        async { ours.delete_task(&ada, "t", &ground.actor).await.map_err(|refusal| panic!("{refusal}")) };
    ground.only_audits("task.delete", deleted).await;
    assert_eq!(code(ours.find_task(&ada, "t").await), Code::NotFound);
    assert_eq!(code(ours.delete_task(&ada, "t", &ground.actor).await), Code::NotFound);
}

async fn dependencies_close_no_circle(ground: Ground) {
    let ada = with_task(&ground, "a").await;
    with_task(&ground, "b").await;
    let other = replica(&ground).await;
    for _ in 0..20 {
        let depends = async |db: &entity::Db, id: &str, on: &str| {
            let patch = TaskPatch { depends_on: Some(vec![on.to_owned()]), ..TaskPatch::default() };
            db.tenant(ground.ours).update_task(&ada, id, patch).await.map_err(|refusal| refusal.code)
        };
        let (one, two) = tokio::join!(depends(&ground.db, "a", "b"), depends(&other, "b", "a"));
        let refused = [one.err(), two.err()];
        assert!(refused.contains(&None) && refused.contains(&Some(Code::ValidationFailed)), "{refused:?}");
        for id in ["a", "b"] {
            let patch = TaskPatch { depends_on: Some(Vec::new()), ..TaskPatch::default() };
            ground.db.tenant(ground.ours).update_task(&ada, id, patch).await.unwrap();
        }
    }
}

async fn lists_of_names_have_a_length(ground: Ground) {
    let (ada, ours) = (with_task(&ground, "t").await, ground.db.tenant(ground.ours));
    let many = vec!["x".to_owned(); 101];
    let new = NewTask { participants: many.clone(), ..NewTask::new("u", "U") };
    assert_eq!(code(ours.create_task(&ada, new).await), Code::ValidationFailed);
    let patch = TaskPatch { depends_on: Some(many), ..TaskPatch::default() };
    assert_eq!(code(ours.update_task(&ada, "t", patch).await), Code::ValidationFailed);
}

/// A dependency that is added while the next task is looked for.
async fn the_next_task_is_ready(ground: Ground) {
    use sea_orm::{ConnectionTrait, TransactionTrait};
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    ours.create_task(&ada, NewTask { status: Status::InProgress, ..NewTask::new("u", "U") }).await.unwrap();
    let other = replica(&ground).await;
    let held = other.connection().begin().await.unwrap();
    let depends = "INSERT INTO task_dependencies (tenant_id, task_id, needs) SELECT tenant_id, 't', 'u' FROM tasks WHERE id = 't'";
    held.execute_unprepared("UPDATE tasks SET last_seq = last_seq + 1 WHERE id = 't'").await.unwrap();
    held.execute_unprepared(depends).await.unwrap();
    let (db, tenant) = (ground.db.clone(), ground.ours);
    let next = tokio::spawn(async move { db.tenant(tenant).next_task(&ada, &TaskFilter::default()).await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    held.commit().await.unwrap();
    assert_eq!(next.await.unwrap().unwrap(), None);
}
