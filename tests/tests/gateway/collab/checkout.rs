//! Workspaces as directories: copies, imports of what another program left there, and links.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use tests::scratch::Scratch;
use tests::{Backend, Case, Code, Settings, TestApp, cases, json};

use super::{done, make_task, tool, until};

pub const CASES: &[Case] = cases![
    Every: a_workspace_is_a_directory_too, links_in_a_directory_lead_nowhere;
    Postgres: each_replica_has_its_copies;
];

/// The directory of the task `t`.
fn directory(checkouts: &Scratch) -> PathBuf {
    let mut tenants = std::fs::read_dir(checkouts.path()).unwrap();
    tenants.next().expect("a tenant has a directory").unwrap().path().join("t")
}

fn settings(checkouts: &Scratch) -> Settings {
    Settings::new().env("WORKSPACE_CHECKOUT_DIR", checkouts.path().display())
}

async fn a_workspace_is_a_directory_too(backend: Backend) {
    let checkouts = Scratch::new("checkouts");
    let mut app = TestApp::start(backend, settings(&checkouts)).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "t").await;
    for (path, content) in [("src/main.rs", "one"), ("src/deep/er/b", "two"), ("c", "three")] {
        done(&ada, "file_write", json!({ "task_id": "t", "path": path, "content": content })).await;
    }
    let dir = directory(&checkouts);
    let copy = |path: &str| std::fs::read_to_string(dir.join(path)).ok();
    assert_eq!(copy("src/main.rs").as_deref(), Some("one"));
    let edit = json!({ "task_id": "t", "path": "c", "edits": [{ "old": "three", "new": "3" }] });
    done(&ada, "file_edit", edit).await;
    assert_eq!(copy("c").as_deref(), Some("3"));
    done(&ada, "file_delete", json!({ "task_id": "t", "path": "src/deep/er/b" })).await;
    assert!(!dir.join("src/deep").exists() && dir.join("src").exists(), "empty directories go");
    let inside = json!({ "task_id": "t", "path": "c/d", "content": "x" });
    tool(&ada, "file_write", inside).await.problem(Code::Conflict);

    std::fs::write(dir.join("made"), "by a program").unwrap();
    std::fs::write(dir.join("src/main.rs"), "changed").unwrap();
    done(&ada, "file_import", json!({ "task_id": "t", "path": "made" })).await;
    assert_eq!(
        done(&bob, "file_read", json!({ "task_id": "t", "path": "made" })).await["content"],
        "by a program"
    );
    let import = json!({ "task_id": "t", "path": "src/main.rs" });
    done(&bob, "claim_file", import.clone()).await;
    tool(&ada, "file_import", import.clone()).await.problem(Code::LeaseHeld);
    tool(&bob, "file_import", import.clone()).await.problem(Code::VersionConflict);
    done(&bob, "file_read", import.clone()).await;
    let taken = done(&bob, "file_import", import.clone()).await;
    assert_eq!((&taken["version"], &taken["author"]), (&json!(2), &json!("bob")));
    done(&bob, "release_file", import.clone()).await;
    let missing = json!({ "task_id": "t", "path": "nothing" });
    tool(&ada, "file_import", missing).await.problem(Code::NotFound);
    std::fs::write(dir.join("large"), vec![b'x'; 3_000_001]).unwrap();
    tool(&ada, "file_import", json!({ "task_id": "t", "path": "large" })).await.problem(Code::BodyTooLarge);

    // What is missing after a kill is made at the next start; what a program changed stays.
    app.kill().await;
    std::fs::remove_file(dir.join("c")).unwrap();
    std::fs::write(dir.join("made"), "changed again").unwrap();
    std::fs::write(dir.with_file_name("notes.txt"), "no task").unwrap();
    app.boot(None).await;
    until(Duration::from_secs(10), async || copy("c").as_deref() == Some("3")).await;
    assert_eq!(copy("made").as_deref(), Some("changed again"));
    let ada = app.as_operator();
    ada.delete("/v1/tasks/t").await.status(204);
    assert!(!dir.exists());
}

async fn links_in_a_directory_lead_nowhere(backend: Backend) {
    let (checkouts, outside) = (Scratch::new("checkouts"), Scratch::new("outside"));
    let app = TestApp::start(backend, settings(&checkouts)).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a", "content": "x" })).await;
    let dir = directory(&checkouts);
    std::fs::write(outside.join("secret"), "secret").unwrap();
    symlink(outside.join("secret"), dir.join("link")).unwrap();
    symlink(outside.path(), dir.join("sub")).unwrap();
    std::fs::hard_link(outside.join("secret"), dir.join("hard")).unwrap();
    std::fs::create_dir(dir.join("directory")).unwrap();
    for (path, reason) in [
        ("link", "symbolic link"),
        ("sub/secret", "symbolic link"),
        ("hard", "hard link"),
        ("directory", "not a regular file"),
    ] {
        let answer = tool(&ada, "file_import", json!({ "task_id": "t", "path": path })).await;
        let problem = answer.problem(Code::ValidationFailed);
        answer.must(problem["detail"].as_str().is_some_and(|detail| detail.contains(reason)), reason);
    }
    let below = json!({ "task_id": "t", "path": "sub/new", "content": "x" });
    let written = done(&ada, "file_write", below).await;
    assert!(written["directoryError"].as_str().unwrap().contains("`sub` is a symbolic link"), "{written}");
    assert!(!outside.join("new").exists());
    let instead = json!({ "task_id": "t", "path": "link", "content": "mine" });
    assert!(done(&ada, "file_write", instead).await.get("directoryError").is_none());
    assert_eq!(std::fs::read_to_string(dir.join("link")).unwrap(), "mine");
    done(&ada, "file_delete", json!({ "task_id": "t", "path": "sub/new" })).await;
    app.as_operator().delete("/v1/tasks/t").await.status(204);
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret", "nothing outside changed");
}

async fn each_replica_has_its_copies(backend: Backend) {
    let contents = Scratch::new("contents");
    let (here, there) = (Scratch::new("here"), Scratch::new("there"));
    let settings = |checkouts: &Scratch| settings(checkouts).env("WORKSPACE_DIR", contents.path().display());
    let app = TestApp::start(backend, settings(&here)).await;
    let _other = app.start_beside(settings(&there)).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a/b", "content": "x" })).await;
    let copies = || directory(&there).join("a/b");
    until(Duration::from_secs(10), async || there.path().read_dir().unwrap().next().is_some()).await;
    until(Duration::from_secs(10), async || copies().exists()).await;
    done(&ada, "file_delete", json!({ "task_id": "t", "path": "a/b" })).await;
    until(Duration::from_secs(10), async || !copies().exists()).await;
}
