//! Workspace files: one winner per version, the condition of a write, history.

use entity::collab::{Condition, FileWrite};
use protocol::Code;

use super::{agent, claim, code, fact, replica, with_task, write};
use crate::ground::Ground;

tests!(
    BOTH: of_writers_on_one_version_one_wins, tokens_of_a_file_never_fall, a_write_builds_on_what_it_says,
        deleted_files_are_gone_and_have_a_history, files_are_listed_by_path,
        a_file_is_no_directory;
);

async fn of_writers_on_one_version_one_wins(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    ours.write_file(&ada, "t", write("a", "0", Condition::Version(0))).await.unwrap();
    for version in 1..=5 {
        let etag = ours.find_file(&ada, "t", "a").await.unwrap().etag;
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..6 {
            let (db, tenant, etag) = (replica(&ground).await, ground.ours, etag.clone());
            writers.spawn(async move {
                let me = agent(&format!("agent-{number}"));
                let text = format!("{version}{number}");
                let written =
                    db.tenant(tenant).write_file(&me, "t", write("a", &text, Condition::Etag(etag))).await;
                db.close().await;
                (me.agent, written)
            });
        }
        let results = writers.join_all().await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, written)| written.is_ok());
        assert_eq!((won.len(), lost.len()), (1, 5));
        let (winner, written) = &won[0];
        let written = &written.as_ref().unwrap().value;
        assert_eq!(written.version, version + 1);
        for (_, refused) in lost {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code, Code::VersionConflict);
            assert_eq!(fact(&refused, "etag"), written.etag.as_str(), "the winner's");
            assert_eq!(fact(&refused, "author"), winner.as_str());
            assert_eq!(fact(&refused, "currentVersion"), version + 1);
        }
    }
    assert_eq!(ours.file_history(&ada, "t", "a", 100).await.unwrap().len(), 6, "a version per write");
}

async fn tokens_of_a_file_never_fall(ground: Ground) {
    with_task(&ground, "t").await;
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (db, tenant) = (replica(&ground).await, ground.ours);
        workers.spawn(async move {
            let me = agent(&format!("agent-{number}"));
            let ours = db.tenant(tenant);
            let (mut accepted, mut stale) = (0, 0);
            while accepted < 8 {
                let Some(lease) = claim(&db, tenant, &me, "a").await else { continue };
                let version = ours.find_file(&me, "t", "a").await.map_or(0, |file| file.version);
                let text = format!("{}", lease.token);
                let with = |version| FileWrite {
                    token: Some(lease.token),
                    ..write("a", &text, Condition::Version(version))
                };
                ours.write_file(&me, "t", with(version)).await.unwrap();
                accepted += 1;
                ours.release(&me, "t", "a", Some(lease.token)).await.unwrap();
                let late = ours.write_file(&me, "t", with(version + 1)).await;
                assert_eq!(code(late), Code::StaleToken, "after the release");
                stale += 1;
            }
            db.close().await;
            (accepted, stale)
        });
    }
    let counts = workers.join_all().await;
    assert_eq!(counts.iter().map(|(accepted, stale)| accepted + stale).sum::<i32>(), 64);
    let history = ground.db.tenant(ground.ours).file_history(&agent("ada"), "t", "a", 500).await.unwrap();
    assert_eq!(history.len(), 32, "the version is the number of accepted writes");
    assert!(
        history
            .windows(2)
            .all(|pair| pair[0].token > pair[1].token && pair[0].version == pair[1].version + 1)
    );
}

async fn a_write_builds_on_what_it_says(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let zeros = "0".repeat(16);
    let seen = |version: Option<i64>| Condition::Seen(version.map(|version| format!("{version}-{zeros}")));
    let etag = |text: &str| Condition::Etag(text.to_owned());
    for (condition, outcome) in [
        (Condition::Version(1), Err(Code::VersionConflict)),
        (etag(&format!("1-{zeros}")), Err(Code::VersionConflict)),
        (seen(None), Ok(1)),
        (seen(None), Err(Code::VersionConflict)),
        (Condition::Version(0), Err(Code::VersionConflict)),
        (seen(Some(2)), Err(Code::VersionConflict)),
        (seen(Some(1)), Ok(2)),
        (seen(Some(1)), Err(Code::VersionConflict)),
        (Condition::Version(2), Ok(3)),
        (etag(&format!("2-{zeros}")), Err(Code::VersionConflict)),
        (etag(&format!("3-{zeros}")), Ok(4)),
    ] {
        let written = ours.write_file(&ada, "t", write("a", "x", condition.clone())).await;
        let outcome_found = written.map(|done| done.value.version).map_err(|refusal| refusal.code);
        assert_eq!(outcome_found, outcome, "{condition:?}");
    }
    let token = Some(99);
    let refused = ours.write_file(&ada, "t", FileWrite { token, ..write("a", "x", seen(Some(4))) }).await;
    assert_eq!(code(refused), Code::StaleToken, "a token without a lease");
    let missing = ours.write_file(&ada, "u", write("a", "x", seen(None))).await;
    assert_eq!(code(missing), Code::NotFound);
}

async fn deleted_files_are_gone_and_have_a_history(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let delete = |version| FileWrite { deleted: true, ..write("a", "", Condition::Version(version)) };
    assert_eq!(code(ours.write_file(&ada, "t", delete(0)).await), Code::NotFound);
    assert_eq!(code(ours.file_history(&ada, "t", "a", 9).await), Code::NotFound);
    ours.write_file(&ada, "t", write("a", "x", Condition::Version(0))).await.unwrap();
    assert_eq!(code(ours.write_file(&ada, "t", delete(7)).await), Code::VersionConflict);
    assert!(ours.write_file(&ada, "t", delete(1)).await.unwrap().value.deleted);
    assert_eq!(code(ours.find_file(&ada, "t", "a").await), Code::NotFound);
    assert!(ours.list_files(&ada, "t", "", None, 9).await.unwrap().is_empty());
    let refused = ours.write_file(&ada, "t", write("a", "y", Condition::Version(2))).await;
    assert_eq!(fact(&refused.unwrap_err(), "currentVersion"), 0);
    let again = ours.write_file(&ada, "t", write("a", "y", Condition::Version(0))).await.unwrap();
    assert_eq!(again.value.version, 3, "versions go on");
    let history = ours.file_history(&ada, "t", "a", 2).await.unwrap();
    assert_eq!(
        history.iter().map(|row| (row.version, row.deleted)).collect::<Vec<_>>(),
        [(3, false), (2, true)]
    );
    assert_eq!(ours.find_version(&ada, "t", "a", 1).await.unwrap().sha256, format!("{:0>64}", "x"));
    assert_eq!(code(ours.find_version(&ada, "t", "a", 9).await), Code::NotFound);
}

async fn files_are_listed_by_path(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    for path in ["src/b", "src/a", "docs/100%", "docs/1000", "docs_x", "Docs/é"] {
        ours.write_file(&ada, "t", write(path, "x", Condition::Version(0))).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>, limit| {
        let files = ours.list_files(&ada, "t", prefix, after, limit).await.unwrap();
        files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 9).await, ["Docs/é", "docs/100%", "docs/1000", "docs_x", "src/a", "src/b"]);
    assert_eq!(list("", Some("docs/1000"), 2).await, ["docs_x", "src/a"]);
    assert_eq!(list("docs/", None, 9).await, ["docs/100%", "docs/1000"]);
    assert_eq!(list("docs/100%", None, 9).await, ["docs/100%"], "no wildcard");
    assert_eq!(list("docs_", None, 9).await, ["docs_x"]);
    assert_eq!(list("DOCS", None, 9).await, [""; 0]);
}

async fn a_file_is_no_directory(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let ours = ground.db.tenant(ground.ours);
    let put = async |path: &str| {
        let written = ours.write_file(&ada, "t", write(path, "x", Condition::Version(0))).await;
        written.map_err(|refusal| refusal.code)
    };
    for path in ["a/b/c", "d", "a-b", "a0"] {
        put(path).await.unwrap();
    }
    for path in ["a", "a/b", "a/b/c/d", "d/e/f"] {
        assert_eq!(put(path).await.unwrap_err(), Code::Conflict, "{path}");
    }
    let delete = FileWrite { deleted: true, ..write("a/b/c", "", Condition::Version(1)) };
    ours.write_file(&ada, "t", delete).await.unwrap();
    put("a").await.unwrap();
    assert_eq!(put("a/b/c").await.unwrap_err(), Code::Conflict);
    let all = ground.db.operator();
    let mut paths = Vec::new();
    while let Some(file) = all.files_after(paths.last(), 1).await.unwrap().pop() {
        paths.push(file);
    }
    let paths: Vec<(&str, bool)> = paths.iter().map(|file| (file.path.as_str(), file.deleted)).collect();
    assert_eq!(paths, [("a", false), ("a-b", false), ("a/b/c", true), ("a0", false), ("d", false)]);
}
