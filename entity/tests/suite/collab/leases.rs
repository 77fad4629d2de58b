//! Leases: unique ordered tokens, nothing by a stranger, patterns, shared leases, the queue.

use std::time::Duration;

use entity::Page;
use entity::collab::{Claim, Claimed, Condition, Held, Waiting};
use protocol::{Code, TenantId};
use uuid::Uuid;

use super::{agent, claim, code, exclusive, fact, replica, with_task, write};
use crate::ground::Ground;

tests!(
    BOTH: tokens_are_unique_and_in_the_order_of_grants, no_token_comes_twice_after_a_rollback_or_a_reopening,
        a_stranger_changes_nothing, an_expired_lease_neither_writes_nor_comes_back,
        patterns_and_shared_leases_exclude_each_other, an_older_lease_of_the_same_agent_still_writes,
        whoever_waits_longest_is_next,
        those_who_wait_for_each_other_are_told, a_forced_release_is_in_the_audit_log,
        leases_are_seen_by_their_tenant_only, a_shared_and_an_exclusive_lease_end_together,
        circles_over_the_queue_are_none;
    POSTGRES: places_outlast_a_held_task;
);

async fn granted_tokens(ground: &Ground, path: &str) -> Vec<i64> {
    let ours = ground.db.tenant(ground.ours);
    let (mut after, mut tokens) = (0, Vec::new());
    loop {
        let (events, newest) = ours.events_after(&agent("ada"), "t", after, 500).await.unwrap();
        for event in &events {
            after += 1;
            assert_eq!(event.seq, after, "numbers have no gap");
            if event.kind == "lease_granted" && event.data["path"] == path {
                tokens.push(event.data["token"].as_i64().unwrap());
            }
        }
        if after == newest {
            return tokens;
        }
    }
}

async fn tokens_are_unique_and_in_the_order_of_grants(ground: Ground) {
    with_task(&ground, "t").await;
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (db, tenant) = (replica(&ground).await, ground.ours);
        workers.spawn(async move {
            let me = agent(&format!("agent-{number}"));
            let mut tokens = Vec::new();
            while tokens.len() < 20 {
                if let Some(lease) = claim(&db, tenant, &me, "a.txt").await {
                    tokens.push(lease.token);
                    let released = db.tenant(tenant).release(&me, "t", "a.txt", Some(lease.token)).await;
                    assert_eq!(released.unwrap().value.token, lease.token);
                }
            }
            db.close().await;
            tokens
        });
    }
    let mut tokens = workers.join_all().await.concat();
    tokens.sort_unstable();
    let in_order = granted_tokens(&ground, "a.txt").await;
    assert_eq!(in_order, tokens, "the order of grants is the order of tokens");
    tokens.dedup();
    assert_eq!(tokens.len(), 120, "no token twice");
}

async fn no_token_comes_twice_after_a_rollback_or_a_reopening(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let mut last = 0;
    for round in 0..5 {
        let db = replica(&ground).await;
        let lease = claim(&db, ground.ours, &ada, &format!("{round}.txt")).await.unwrap();
        assert!(lease.token > last, "{} after {last}", lease.token);
        last = lease.token;
        db.close().await;
    }
    ground.db.tenant(ground.ours).delete_task(&ada, "t", &ground.actor).await.unwrap();
    with_task(&ground, "t").await;
    let lease = claim(&ground.db, ground.ours, &ada, "0.txt").await.unwrap();
    assert!(lease.token > last, "a task of the same name does not begin again");
}

async fn a_stranger_changes_nothing(ground: Ground) {
    let (ada, bob) = (with_task(&ground, "t").await, agent("bob"));
    let ours = ground.db.tenant(ground.ours);
    let lease = claim(&ground.db, ground.ours, &ada, "a.txt").await.unwrap();
    let minute = Duration::from_secs(60);
    for token in [None, Some(lease.token), Some(lease.token + 1)] {
        let renewed = ours.renew(&bob, "t", "a.txt", token, minute).await.unwrap_err();
        assert_eq!((renewed.code, fact(&renewed, "holder")), (Code::StaleToken, "ada".into()));
        assert_eq!(code(ours.release(&bob, "t", "a.txt", token).await), Code::StaleToken);
    }
    assert_eq!(code(ours.release(&ada, "t", "a.txt", Some(lease.token + 1)).await), Code::StaleToken);
    assert_eq!(code(ours.release(&ada, "t", "b.txt", None).await), Code::StaleToken);
    assert!(ours.release_all(&bob, "t").await.unwrap().value.is_empty());
    assert_eq!(claim(&ground.db, ground.ours, &bob, "a.txt").await, None);
    let live = ours.leases(&bob, Some("t")).await.unwrap();
    assert_eq!((live.len(), live[0].token, live[0].holder.as_str()), (1, lease.token, "ada"));
    let again = claim(&ground.db, ground.ours, &ada, "a.txt").await.unwrap();
    assert_eq!((again.token, again.lease_id), (lease.token, lease.lease_id), "the own lease is renewed");
    assert_eq!(ours.release(&ada, "t", "a.txt", Some(lease.token)).await.unwrap().value.token, lease.token);
    assert_eq!(code(ours.renew(&ada, "t", "a.txt", None, minute).await), Code::StaleToken);
}

/// Lets all leases of a path expire, as if their time had passed.
async fn expire(ground: &Ground, path: &str) {
    ground.execute(&format!("UPDATE task_leases SET expires_at = 1 WHERE path = '{path}'")).await;
}

async fn an_expired_lease_neither_writes_nor_comes_back(ground: Ground) {
    let (ada, bob) = (with_task(&ground, "t").await, agent("bob"));
    let ours = ground.db.tenant(ground.ours);
    let old = claim(&ground.db, ground.ours, &ada, "a.txt").await.unwrap();
    let with_token = |text: &str, condition, token| entity::collab::FileWrite {
        token: Some(token),
        ..write("a.txt", text, condition)
    };
    let first = with_token("one", Condition::Version(0), old.token);
    assert_eq!(ours.write_file(&ada, "t", first).await.unwrap().value.version, 1);
    expire(&ground, "a.txt").await;
    assert_eq!(
        code(ours.renew(&ada, "t", "a.txt", Some(old.token), Duration::from_secs(9)).await),
        Code::StaleToken
    );
    let late = || with_token("late", Condition::Version(1), old.token);
    assert_eq!(code(ours.write_file(&ada, "t", late()).await), Code::StaleToken, "expired, and nobody else");
    let new = claim(&ground.db, ground.ours, &bob, "a.txt").await.unwrap();
    assert!(new.token > old.token);
    let refused = ours.write_file(&ada, "t", late()).await.unwrap_err();
    assert_eq!((refused.code, fact(&refused, "holder")), (Code::StaleToken, "bob".into()));
    let second = with_token("two", Condition::Version(1), new.token);
    assert_eq!(ours.write_file(&bob, "t", second).await.unwrap().value.version, 2);
    ours.release(&bob, "t", "a.txt", Some(new.token)).await.unwrap();
    assert_eq!(code(ours.write_file(&ada, "t", late()).await), Code::StaleToken, "after the release too");
    let kinds: Vec<String> =
        ours.events_after(&ada, "t", 0, 500).await.unwrap().0.into_iter().map(|e| e.kind).collect();
    let expected = [
        "task_created",
        "lease_granted",
        "file_written",
        "lease_expired",
        "lease_granted",
        "file_written",
        "lease_released",
    ];
    assert_eq!(kinds, expected);
}

async fn held(ground: &Ground, member: &str, claim: &Claim) -> Option<Held> {
    match ground.db.tenant(ground.ours).claim(&agent(member), "t", claim).await.unwrap().value {
        Claimed::Granted(_) => None,
        Claimed::Held(held) => Some(held),
    }
}

async fn patterns_and_shared_leases_exclude_each_other(ground: Ground) {
    with_task(&ground, "t").await;
    let shared = |path: &str| Claim { shared: true, ..exclusive(path) };
    assert_eq!(held(&ground, "ada", &exclusive("src/**")).await, None);
    let one = held(&ground, "bob", &exclusive("src/a/b.rs")).await.unwrap();
    assert_eq!((one.holder.as_str(), one.path.as_str(), one.deadlock), ("ada", "src/**", false));
    assert!(one.expires_in_ms > 50_000 && one.expires_in_ms <= 60_000, "{one:?}");
    assert!(held(&ground, "bob", &shared("*/a/*")).await.is_some());
    assert_eq!(held(&ground, "bob", &exclusive("docs/x.md")).await, None);
    assert_eq!(held(&ground, "ada", &exclusive("src/a/b.rs")).await, None, "the own lease excludes nothing");
    assert_eq!(held(&ground, "eve", &shared("lib/*")).await, None);
    assert_eq!(held(&ground, "bob", &shared("lib/x")).await, None);
    assert_eq!(held(&ground, "ada", &exclusive("lib/x")).await.unwrap().holder, "eve");
    let ours = ground.db.tenant(ground.ours);
    let refused = ours.write_file(&agent("bob"), "t", write("lib/x", "x", Condition::Version(0))).await;
    assert_eq!(code(refused), Code::LeaseHeld, "shared leases are for reading");
    ours.release(&agent("eve"), "t", "lib/*", None).await.unwrap();
    ours.write_file(&agent("bob"), "t", write("lib/x", "x", Condition::Version(0))).await.unwrap();
    let refused = ours.write_file(&agent("bob"), "t", write("src/new.rs", "x", Condition::Version(0))).await;
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.code, fact(&refused, "holder"), fact(&refused, "taskId")),
        (Code::LeaseHeld, "ada".into(), "t".into())
    );
    assert!(fact(&refused, "expiresInMs").as_i64().unwrap() > 50_000);
}

async fn an_older_lease_of_the_same_agent_still_writes(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let wide = claim(&ground.db, ground.ours, &ada, "**").await.unwrap();
    let narrow = claim(&ground.db, ground.ours, &ada, "a").await.unwrap();
    let first = ours.write_file(&ada, "t", write("a", "one", Condition::Version(0))).await.unwrap().value;
    assert_eq!(first.token, Some(narrow.token));
    ours.release(&ada, "t", "a", None).await.unwrap();
    for (version, token) in [(1, None), (2, Some(wide.token))] {
        let more = entity::collab::FileWrite { token, ..write("a", "more", Condition::Version(version)) };
        let more = ours.write_file(&ada, "t", more).await.unwrap().value;
        assert_eq!(more.token, Some(narrow.token), "tokens of a file never fall");
    }
}

fn waiting(path: &str) -> Claim {
    let queue = Some(Waiting { id: Uuid::now_v7(), keep: Duration::from_secs(30) });
    Claim { queue, ..exclusive(path) }
}

async fn whoever_waits_longest_is_next(ground: Ground) {
    with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let (bob, eve) = (waiting("a.txt"), waiting("*.txt"));
    assert_eq!(held(&ground, "ada", &exclusive("a.txt")).await, None);
    assert_eq!(held(&ground, "bob", &bob).await.unwrap().ahead, 0);
    assert_eq!(held(&ground, "eve", &eve).await.unwrap().ahead, 1);
    ours.release(&agent("ada"), "t", "a.txt", None).await.unwrap();
    let later = held(&ground, "eve", &eve).await.unwrap();
    assert_eq!((later.holder.as_str(), later.ahead), ("bob", 1), "bob asked first");
    assert!(held(&ground, "ada", &exclusive("a.txt")).await.is_some(), "the last holder is not first again");
    assert_eq!(held(&ground, "bob", &bob).await, None);
    ours.release(&agent("bob"), "t", "a.txt", None).await.unwrap();
    assert_eq!(held(&ground, "ada", &exclusive("a.txt")).await.unwrap().holder, "eve");
    ours.leave_queue("t", eve.queue.unwrap().id).await.unwrap();
    assert_eq!(held(&ground, "ada", &exclusive("a.txt")).await, None, "eve has left");
    held(&ground, "bob", &bob).await.unwrap();
    ground.execute("UPDATE task_lease_waiters SET expires_at = 1").await;
    ours.release(&agent("ada"), "t", "a.txt", None).await.unwrap();
    assert_eq!(held(&ground, "eve", &exclusive("a.txt")).await, None, "bob did not come back in time");
}

async fn those_who_wait_for_each_other_are_told(ground: Ground) {
    with_task(&ground, "t").await;
    for (member, path) in [("ada", "a"), ("bob", "b"), ("eve", "e")] {
        assert_eq!(held(&ground, member, &exclusive(path)).await, None);
    }
    let (ada, bob) = (waiting("b"), waiting("e"));
    assert!(!held(&ground, "ada", &ada).await.unwrap().deadlock);
    assert!(!held(&ground, "bob", &bob).await.unwrap().deadlock);
    let closing = held(&ground, "eve", &waiting("a")).await.unwrap();
    assert_eq!((closing.holder.as_str(), closing.deadlock), ("ada", true));
    assert!(!held(&ground, "bob", &bob).await.unwrap().deadlock, "who closes the circle does not wait in it");
    let ours = ground.db.tenant(ground.ours);
    ours.release(&agent("eve"), "t", "e", None).await.unwrap();
    assert_eq!(held(&ground, "bob", &bob).await, None, "the others go on");
}

async fn a_forced_release_is_in_the_audit_log(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let lease = claim(&ground.db, ground.ours, &ada, "a.txt").await.unwrap();
    let theirs = ground.db.tenant(ground.theirs);
    assert_eq!(code(theirs.force_release(lease.lease_id, &ground.actor).await), Code::NotFound);
    let forced = async {
        ours.force_release(lease.lease_id, &ground.actor).await.map_err(|refusal| panic!("{refusal}"))
    };
    ground.only_audits("lease.force_release", forced).await;
    let event = ground.db.operator().audit_events(Page::new(1, 1)).await.unwrap().items.remove(0);
    assert_eq!(
        (event.details["holder"].as_str(), event.details["path"].as_str()),
        (Some("ada"), Some("a.txt"))
    );
    assert_eq!(code(ours.release(&ada, "t", "a.txt", Some(lease.token)).await), Code::StaleToken);
    assert!(claim(&ground.db, ground.ours, &agent("bob"), "a.txt").await.is_some());
    assert_eq!(code(ours.force_release(lease.lease_id, &ground.actor).await), Code::NotFound);
}

async fn leases_are_seen_by_their_tenant_only(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    claim(&ground.db, ground.ours, &ada, "a.txt").await.unwrap();
    let theirs = ground.db.tenant(ground.theirs);
    assert!(theirs.leases(&ada, None).await.unwrap().is_empty());
    assert_eq!(code(theirs.leases(&ada, Some("t")).await), Code::NotFound);
    assert_eq!(code(theirs.claim(&ada, "t", &exclusive("a.txt")).await), Code::NotFound);
    let (leases, waiters) = ground.db.operator().lease_counts().await.unwrap();
    assert_eq!((leases, waiters), (1, 0));
    let same_name = entity::collab::NewTask::new("t", "Theirs");
    theirs.create_task(&ada, same_name).await.unwrap();
    let tenant: TenantId = ground.theirs;
    assert!(claim(&ground.db, tenant, &agent("bob"), "a.txt").await.is_some(), "their task is another");
    assert_eq!(ground.db.tenant(ground.ours).leases(&ada, None).await.unwrap().len(), 1);
}

async fn a_shared_and_an_exclusive_lease_end_together(ground: Ground) {
    with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    assert_eq!(held(&ground, "ada", &Claim { shared: true, ..exclusive("a") }).await, None);
    assert_eq!(held(&ground, "ada", &exclusive("a")).await, None);
    let renewed = ours.renew(&agent("ada"), "t", "a", None, Duration::from_secs(9)).await.unwrap();
    assert!(!renewed.value.shared, "the one that keeps others out");
    ours.release(&agent("ada"), "t", "a", None).await.unwrap();
    assert_eq!(held(&ground, "bob", &exclusive("a")).await, None);
}

/// Leases of two agents, and a claim that waits for each; then each of the two claims what is behind the claim
/// that waits for the other one.
async fn circles_over_the_queue_are_none(ground: Ground) {
    with_task(&ground, "t").await;
    for (member, path) in [("ada", "a/1"), ("bob", "b/1")] {
        assert_eq!(held(&ground, member, &exclusive(path)).await, None);
    }
    assert!(!held(&ground, "xi", &waiting("b/*")).await.unwrap().deadlock);
    assert!(!held(&ground, "yu", &waiting("a/*")).await.unwrap().deadlock);
    assert_eq!(held(&ground, "ada", &waiting("b/2")).await.unwrap().holder, "xi");
    assert_eq!(held(&ground, "bob", &waiting("a/2")).await, None, "yu waits for bob, over ada and xi");
}

async fn places_outlast_a_held_task(ground: Ground) {
    use sea_orm::{ConnectionTrait, TransactionTrait};
    with_task(&ground, "t").await;
    assert_eq!(held(&ground, "ada", &exclusive("a")).await, None);
    let keep = |claim: Claim| Claim {
        queue: claim.queue.map(|waiting| Waiting { keep: Duration::from_millis(300), ..waiting }),
        ..claim
    };
    let (first, second) = (keep(waiting("a")), keep(waiting("a")));
    held(&ground, "bob", &first).await.unwrap();
    held(&ground, "eve", &second).await.unwrap();
    ground.db.tenant(ground.ours).release(&agent("ada"), "t", "a", None).await.unwrap();
    let outside = replica(&ground).await;
    let row = outside.connection().begin().await.unwrap();
    row.execute_unprepared("SELECT 1 FROM tasks WHERE id = 't' FOR UPDATE").await.unwrap();
    let (db, tenant) = (ground.db.clone(), ground.ours);
    let late = tokio::spawn(async move { db.tenant(tenant).claim(&agent("eve"), "t", &second).await });
    tokio::time::sleep(Duration::from_millis(800)).await;
    row.rollback().await.unwrap();
    let Claimed::Held(held_by) = late.await.unwrap().unwrap().value else { panic!("eve passed bob") };
    assert_eq!(held_by.holder, "bob");
    assert_eq!(held(&ground, "bob", &first).await, None);
}
