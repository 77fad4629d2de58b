//! REST of tasks and leases: bodies, conditions, downloads, the forced release.

use protocol::Code;
use tests::{Backend, Case, Settings, TestApp, Value, cases, json};

use super::{done, make_task, tool};

pub const CASES: &[Case] = cases![
    Every: tasks_are_made_changed_and_deleted, workspaces_are_downloaded, a_lease_is_released_by_force;
];

async fn tasks_are_made_changed_and_deleted(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    let made = ada
        .post("/v1/tasks", json!({ "id": "task-1", "title": "One", "labels": ["a"], "complexity": 3 }))
        .await;
    assert_eq!(made.header("location"), Some("/v1/tasks/task-1"));
    let made = made.json_of(201);
    assert_eq!(
        (made["status"].as_str(), made["version"].as_i64(), made["createdBy"].as_str()),
        (Some("pending"), Some(1), Some("ada"))
    );
    ada.post("/v1/tasks", json!({ "id": "task-1", "title": "One" })).await.problem(Code::Conflict);
    let second = json!({ "title": "Two", "dependsOn": ["task-1"], "assignedTo": "bob", "parent": "task-1", "access": "participants" });
    let second = ada.post("/v1/tasks", second).await.json_of(201);
    assert_eq!((&second["dependsOn"], second["access"].as_str()), (&json!(["task-1"]), Some("participants")));
    for (body, field) in [
        (json!({ "id": "a b", "title": "x" }), "id is 1 to 128"),
        (json!({}), "title is missing"),
        (json!({ "title": "x", "status": "finished" }), "status is one of"),
        (json!({ "title": "x", "colour": 1 }), "colour is not known"),
        (json!({ "title": "x", "dependsOn": ["nothing"] }), "no such task"),
        (json!({ "title": "a\u{0}b" }), "NUL"),
    ] {
        let problem = ada.post("/v1/tasks", body).await.problem(Code::ValidationFailed);
        assert!(problem["detail"].as_str().unwrap().contains(field), "{field}: {problem}");
    }
    let found = bob.get("/v1/tasks/task-1").await.json_of(200);
    assert_eq!((found["title"].as_str(), &found["participants"]), (Some("One"), &json!([])));
    let changed = bob
        .patch("/v1/tasks/task-1", json!({ "status": "in_progress", "result": [1], "expectedVersion": 1 }))
        .await;
    let changed = changed.json_of(200);
    assert_eq!((changed["version"].as_i64(), &changed["result"]), (Some(2), &json!([1])));
    let conflict = ada.patch("/v1/tasks/task-1", json!({ "title": "x", "expectedVersion": 1 })).await;
    let problem = conflict.problem(Code::VersionConflict);
    assert_eq!((&problem["currentVersion"], &problem["status"]), (&json!(2), &json!(409)));
    assert_eq!(problem["currentStatus"], "in_progress", "the task's own");
    let stale = ada.header("If-Match", "\"1\"").patch("/v1/tasks/task-1", json!({ "title": "x" })).await;
    stale.problem(Code::PreconditionFailed);
    let plain = ada.header("If-Match", "1").patch("/v1/tasks/task-1", json!({ "title": "x" })).await;
    plain.problem(Code::BadRequest);
    let both = ada.header("If-Match", "\"2\"");
    let both = both.patch("/v1/tasks/task-1", json!({ "title": "x", "expectedVersion": 7 })).await;
    both.problem(Code::VersionConflict);
    let same = json!({ "status": "in_progress", "description": null, "result": [1], "dependsOn": [] });
    let same = ada.patch("/v1/tasks/task-1", same).await;
    assert_eq!(same.header("etag"), Some("\"2\""), "what is so already is no change");
    let long = ada.patch("/v1/tasks/task-1", json!({ "result": "x".repeat(70_000) })).await;
    long.problem(Code::ValidationFailed);
    let fresh = ada
        .header("If-Match", "\"2\"")
        .patch("/v1/tasks/task-1", json!({ "title": "New", "result": null }))
        .await
        .json_of(200);
    assert_eq!((fresh["title"].as_str(), fresh.get("result")), (Some("New"), None));
    ada.patch("/v1/tasks/task-1", json!({ "version": 9 })).await.problem(Code::ValidationFailed);
    let page = ada.get("/v1/tasks?pageSize=1&status=pending").await.json_of(200);
    assert_eq!((page["total"].as_i64(), page["items"][0]["title"].as_str()), (Some(1), Some("Two")));
    ada.get("/v1/tasks?status=finished").await.problem(Code::ValidationFailed);
    bob.delete("/v1/tasks/task-1").await.problem(Code::MissingScope);
    ada.delete("/v1/tasks/task-1").await.status(204);
    ada.get("/v1/tasks/task-1").await.problem(Code::NotFound);
    let audit = app.as_operator().get("/v1/audit?pageSize=1").await.json_of(200);
    assert_eq!(
        (audit["items"][0]["action"].as_str(), audit["items"][0]["target"].as_str()),
        (Some("task.delete"), Some("task-1"))
    );
}

async fn workspaces_are_downloaded(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    for (path, content) in [("a.html", "<script>"), ("src/deep/b ä.txt", "b"), ("c", "c")] {
        done(&ada, "file_write", json!({ "task_id": "t", "path": path, "content": content })).await;
    }
    done(&ada, "file_delete", json!({ "task_id": "t", "path": "c" })).await;
    let listed = ada.get("/v1/tasks/t/files").await.json_of(200);
    let paths: Vec<&str> =
        listed["items"].as_array().unwrap().iter().filter_map(|file| file["path"].as_str()).collect();
    assert_eq!((paths, &listed["nextCursor"]), (vec!["a.html", "src/deep/b ä.txt"], &Value::Null));
    let file = ada.get("/v1/tasks/t/files/src/deep/b%20%C3%A4.txt").await;
    assert_eq!((file.status, file.text().as_str()), (200, "b"));
    let html = ada.get("/v1/tasks/t/files/a.html").await;
    assert_eq!(html.header("content-type"), Some("application/octet-stream"), "no page of ours");
    assert_eq!(html.header("content-disposition"), Some("attachment; filename=\"a.html\""));
    assert!(html.header("etag").is_some_and(|etag| etag.starts_with("\"1-")));
    ada.get("/v1/tasks/t/files/c").await.problem(Code::NotFound);
    ada.get("/v1/tasks/t/files/..%2f..%2fa").await.problem(Code::ValidationFailed);
    ada.get("/v1/tasks/t/files/%ff").await.problem(Code::NotFound);
    let archive = ada.get("/v1/tasks/t/archive").await;
    assert_eq!((archive.status, archive.header("content-type")), (200, Some("application/zip")));
    let place = app.path("t.zip");
    std::fs::write(&place, &archive.body).unwrap();
    let list = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(z.testzip(), {n: z.read(n).decode() for n in z.namelist()})";
    let output = std::process::Command::new("python3").args(["-c", list]).arg(&place).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), "None {'a.html': '<script>', 'src/deep/b ä.txt': 'b'}", "{output:?}");
}

async fn a_lease_is_released_by_force(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "t").await;
    let lease = done(&ada, "claim_file", json!({ "task_id": "t", "path": "a" })).await;
    let listed = bob.get("/v1/leases").await.json_of(200);
    assert_eq!(
        (listed["items"].as_array().unwrap().len(), &listed["items"][0]["leaseId"]),
        (1, &lease["leaseId"])
    );
    assert_eq!(bob.get("/v1/leases?taskId=t").await.json_of(200)["items"][0]["holder"], "ada");
    bob.get("/v1/leases?taskId=u").await.problem(Code::NotFound);
    let path = format!("/v1/leases/{}", lease["leaseId"].as_str().unwrap());
    bob.delete(&path).await.problem(Code::MissingScope);
    app.as_tenant_admin("other").await.delete(&path).await.problem(Code::NotFound);
    let operator = app.as_operator();
    assert_eq!(operator.delete(&path).await.json_of(200)["path"], "a");
    operator.delete(&path).await.problem(Code::NotFound);
    operator.delete("/v1/leases/nonsense").await.problem(Code::NotFound);
    let event = operator.get("/v1/audit?pageSize=1").await.json_of(200)["items"][0].clone();
    assert_eq!(
        (event["action"].as_str(), event["details"]["holder"].as_str()),
        (Some("lease.force_release"), Some("ada"))
    );
    let late = json!({ "task_id": "t", "path": "a", "content": "x", "token": lease["token"] });
    tool(&ada, "file_write", late).await.problem(Code::StaleToken);
    done(&bob, "claim_file", json!({ "task_id": "t", "path": "a" })).await;
}
