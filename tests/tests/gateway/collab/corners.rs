//! Corners of the tools: large edits, tasks made again under the same name, hand-off of restricted tasks, callers
//! without the scopes of tasks.

use std::time::Duration;

use protocol::Code;
use sea_orm::ConnectionTrait;
use tests::{Backend, Case, Settings, TestApp, cases, json};

use super::{done, make_task, tool};

pub const CASES: &[Case] = cases![
    Every: edits_are_bounded, a_task_made_again_is_another_one, a_restricted_task_is_handed_off,
        resources_of_tasks_need_their_scope;
    Postgres: a_deletion_without_a_notice_ends_streams;
];

async fn edits_are_bounded(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let lines = "a\n".repeat(400_000);
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a", "content": lines })).await;
    let doubling = json!({ "old": "a", "new": "aa", "all": true });
    let edit = json!({ "task_id": "t", "path": "a", "edits": vec![doubling; 40] });
    tool(&ada, "file_edit", edit).await.problem(Code::BodyTooLarge);
    let every_line = json!({ "old": "a", "new": "b", "all": true });
    let edit = json!({ "task_id": "t", "path": "a", "edits": [every_line] });
    let edited = done(&ada, "file_edit", edit).await;
    assert_eq!((&edited["version"], &edited["diff"]), (&json!(2), &json!(null)));
    let compared = tool(&ada, "file_diff", json!({ "task_id": "t", "path": "a" })).await;
    compared.problem(Code::ValidationFailed);
    let other =
        json!({ "task_id": "t", "path": "a", "expected_version": 1, "edits": [{ "old": "x", "new": "y" }] });
    assert_eq!(tool(&ada, "file_edit", other).await.problem(Code::VersionConflict)["currentVersion"], 2);
}

async fn a_task_made_again_is_another_one(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    let write = |content: &str| json!({ "task_id": "t", "path": "a", "content": content });
    make_task(&ada, "t").await;
    done(&ada, "file_write", write("ada's")).await;
    app.as_operator().delete("/v1/tasks/t").await.status(204);
    make_task(&ada, "t").await;
    done(&bob, "file_write", write("bob's")).await;
    tool(&ada, "file_write", write("blind")).await.problem(Code::VersionConflict);
}

async fn a_restricted_task_is_handed_off(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob, eve) = (app.as_agent("ada").await, app.as_agent("bob").await, app.as_agent("eve").await);
    let new = json!({ "task_id": "t", "title": "T", "access": "participants", "assigned_to": "bob" });
    done(&ada, "task_create", new).await;
    let file = json!({ "task_id": "t", "path": "a" });
    done(&bob, "claim_file", file.clone()).await;
    let handed = done(&bob, "task_handoff", json!({ "task_id": "t", "to": "eve" })).await;
    assert_eq!((&handed["released"], &handed["task"]["assignedTo"]), (&json!(["a"]), &json!("eve")));
    done(&eve, "claim_file", file).await;
    for (name, arguments) in [
        ("task_handoff", json!({ "task_id": "t", "to": "" })),
        ("task_update", json!({ "task_id": "t", "participants": ["a b"] })),
        ("task_update", json!({ "task_id": "t", "participants": vec!["x"; 101] })),
        ("task_create", json!({ "title": "x", "assigned_to": "" })),
    ] {
        tool(&eve, name, arguments).await.problem(Code::ValidationFailed);
    }
}

async fn resources_of_tasks_need_their_scope(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "secret-name").await;
    let listed = async |actor: &tests::Actor| actor.rpc("resources/list", json!({})).await;
    assert!(listed(&ada).await.text().contains("secret-name"));
    let key = json!({ "name": "k", "scopes": ["tools:call"] });
    let key = app.as_operator().post("/v1/keys", key).await.json_of(201);
    let caller = app.with_key(key["secret"].as_str().unwrap());
    let answer = listed(&caller).await;
    answer.must(!answer.text().contains("secret-name"), "its name is not shown");
    let missing = answer.result()["_meta"]["trunkline/unavailable"].clone();
    assert_eq!((&missing[0]["server"], &missing[0]["code"]), (&json!("collab"), &json!("missing_scope")));
}

async fn a_deletion_without_a_notice_ends_streams(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let mut events = ada.open(reqwest::Method::GET, "/v1/tasks/t/events", &[], None).await.unwrap();
    assert_eq!(events.status(), 200);
    let outside = sea_orm::Database::connect(app.storage.database_url.clone().unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    outside.execute_unprepared("DELETE FROM tasks").await.unwrap();
    let end = async { while events.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the stream ends");
}
