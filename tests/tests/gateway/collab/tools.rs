//! The tools: the same on each door, the short form of earlier gateways, refusals that say what to do.

use std::time::{Duration, Instant};

use protocol::Code;
use tests::mcp_client::everything;
use tests::{Actor, Backend, Case, McpClient, Settings, TestApp, Value, cases, json};

use super::{done, make_task, metric, tool, until};

pub const CASES: &[Case] = cases![
    Every: agents_share_files_and_do_not_overwrite_each_other, every_door_has_the_tools, edits_answer_with_their_diff,
        history_and_binary_files, waiting_for_a_lease, agents_that_wait_for_each_other_get_an_answer,
        the_agent_is_the_callers_own, tasks_of_participants_and_other_tenants_are_not_found,
        steps_are_followed_by_cursor, tasks_go_from_hand_to_hand;
    Once: wrong_arguments_and_paths_are_refused_with_a_reason;
];

async fn agents_share_files_and_do_not_overwrite_each_other(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "task-123").await;
    let at = |path: &str| json!({ "task_id": "task-123", "path": path });
    let with = |path: &str, content: &str| json!({ "task_id": "task-123", "path": path, "content": content });
    let lease = done(&ada, "claim_file", at("a.txt")).await;
    assert_eq!((lease["holder"].as_str(), lease["taskId"].as_str()), (Some("ada"), Some("task-123")));
    assert!((59_000..=60_000).contains(&lease["expiresInMs"].as_i64().unwrap()), "{lease}");
    let refused = tool(&bob, "file_write", with("a.txt", "bob")).await;
    let problem = refused.problem(Code::LeaseHeld);
    assert_eq!((problem["holder"].as_str(), problem["taskId"].as_str()), (Some("ada"), Some("task-123")));
    assert!(problem["expiresInMs"].as_i64().unwrap() > 50_000, "{problem}");
    let first = done(&ada, "file_write", with("a.txt", "one")).await;
    assert_eq!((first["version"].as_i64(), first["token"].as_i64()), (Some(1), lease["token"].as_i64()));
    assert_eq!(done(&ada, "file_write", with("a.txt", "two")).await["version"], 2, "its own version");
    done(&ada, "release_file", at("a.txt")).await;
    tool(&ada, "release_file", at("a.txt")).await.problem(Code::StaleToken);
    let blind = tool(&bob, "file_write", with("a.txt", "three")).await.problem(Code::VersionConflict);
    assert_eq!((blind["currentVersion"].as_i64(), blind["author"].as_str()), (Some(2), Some("ada")));
    let read = done(&bob, "file_read", at("a.txt")).await;
    assert_eq!((read["content"].as_str(), &read["etag"]), (Some("two"), &blind["etag"]));
    let mut stale = with("a.txt", "three");
    stale["token"] = lease["token"].clone();
    tool(&ada, "file_write", stale).await.problem(Code::StaleToken);
    assert_eq!(
        done(&bob, "file_write", with("a.txt", "three")).await["version"],
        3,
        "reading and then writing"
    );
    tool(&ada, "file_write", with("a.txt", "four")).await.problem(Code::VersionConflict);
    let mut expecting = with("a.txt", "four");
    expecting["expected_version"] = 3.into();
    assert_eq!(done(&ada, "file_write", expecting.clone()).await["version"], 4);
    tool(&ada, "file_write", expecting).await.problem(Code::VersionConflict);
    let mut tagged = with("a.txt", "five");
    tagged["etag"] = done(&bob, "file_read", at("a.txt")).await["etag"].clone();
    assert_eq!(done(&bob, "file_write", tagged).await["version"], 5);
    let text = metric(&app, "mcp_writes_refused_total{reason=\"version_conflict\"}").await;
    assert_eq!(text, 3.0);
}

async fn every_door_has_the_tools(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    done(&ada, "mcp_file_write", json!({ "task_id": "t", "path": "a", "content": "text" })).await;
    let arguments = json!({ "task_id": "t", "path": "a" });
    for name in ["collab__file_read", "mcp_file_read"] {
        assert_eq!(ada.call(name, arguments.clone()).await.tool_text(), "text", "{name} at /mcp/rpc");
    }
    let names = ada.tool_names().await;
    assert!(names.contains(&"collab__file_read".to_owned()));
    assert!(!names.iter().any(|name| name.starts_with("mcp_")), "aliases are listed nowhere: {names:?}");
    for (path, name) in
        [("/mcp", "collab__file_read"), ("/mcp", "mcp_file_read"), ("/mcp/s/collab", "file_read")]
    {
        let legacy = McpClient::legacy(&ada, path, "2025-11-25", everything()).await;
        for client in [legacy, McpClient::modern(&ada, path)] {
            let params = json!({ "name": name, "arguments": arguments });
            let result = client.result("tools/call", params).await;
            assert_eq!(result["content"][0]["text"], "text", "{name} at {path}");
            assert_eq!(result["structuredContent"]["version"], 1);
        }
    }
    let executed = ada
        .post("/v1/mcp/execute", json!({ "server": "collab", "tool": "file_read", "arguments": arguments }))
        .await
        .json_of(200);
    assert_eq!(executed["result"]["structuredContent"]["content"], "text");
    let body = json!({ "service": "collab", "operation": "file-read", "task_id": "t", "path": "a" });
    assert_eq!(ada.rpc("mcp.execute", body).await.result()["data"]["content"], "text");
    let recorded = app.as_operator().executions("server=collab&tool=file_read").await;
    assert_eq!(recorded.len(), 10, "each call is on record: {recorded:?}");
}

async fn edits_answer_with_their_diff(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a.rs", "content": "one\ntwo\nthree\n" })).await;
    let edit = json!({ "task_id": "t", "path": "a.rs", "edits": [{ "old": "two", "new": "2" }] });
    let edited = done(&ada, "file_edit", edit.clone()).await;
    let diff = edited["diff"].as_str().unwrap().to_owned();
    assert!(diff.contains("-two\n+2\n") && diff.starts_with("--- a/a.rs\n+++ b/a.rs\n"), "{diff}");
    let again = tool(&ada, "file_edit", edit).await.problem(Code::ValidationFailed);
    assert!(again["detail"].as_str().unwrap().contains("does not occur"), "{again}");
    let back = done(
        &ada,
        "file_diff",
        json!({ "task_id": "t", "path": "a.rs", "from_version": 2, "to_version": 1 }),
    )
    .await;
    let patch = json!({ "task_id": "t", "path": "a.rs", "diff": back["diff"] });
    assert_eq!(done(&ada, "file_edit", patch.clone()).await["version"], 3);
    assert_eq!(
        done(&ada, "file_read", json!({ "task_id": "t", "path": "a.rs" })).await["content"],
        "one\ntwo\nthree\n"
    );
    tool(&ada, "file_edit", patch).await.problem(Code::ValidationFailed);
    let both = json!({ "task_id": "t", "path": "a.rs", "diff": "x", "edits": [{ "old": "a", "new": "b" }] });
    tool(&ada, "file_edit", both).await.problem(Code::ValidationFailed);
    // Two edits of the same version: the second one does not fit it any more, and says so.
    let from_one = json!({ "task_id": "t", "path": "a.rs", "edits": [{ "old": "one", "new": "1" }], "expected_version": 2 });
    tool(&ada, "file_edit", from_one).await.problem(Code::VersionConflict);
}

async fn history_and_binary_files(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let binary = json!({ "task_id": "t", "path": "b.bin", "content": "AP8Q", "encoding": "base64" });
    assert_eq!(done(&ada, "file_write", binary).await["size"], 3);
    let read = done(&ada, "file_read", json!({ "task_id": "t", "path": "b.bin" })).await;
    assert_eq!((read["content"].as_str(), read["encoding"].as_str()), (Some("AP8Q"), Some("base64")));
    let edit = json!({ "task_id": "t", "path": "b.bin", "edits": [{ "old": "a", "new": "b" }] });
    tool(&ada, "file_edit", edit).await.problem(Code::ValidationFailed);
    done(&ada, "file_write", json!({ "task_id": "t", "path": "b.bin", "content": "now text" })).await;
    done(&ada, "file_delete", json!({ "task_id": "t", "path": "b.bin" })).await;
    tool(&ada, "file_read", json!({ "task_id": "t", "path": "b.bin" })).await.problem(Code::NotFound);
    let history = done(&ada, "file_history", json!({ "task_id": "t", "path": "b.bin" })).await;
    let versions: Vec<_> = history["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["version"].as_i64(), row["deleted"].as_bool()))
        .collect();
    assert_eq!(versions, [(Some(3), Some(true)), (Some(2), Some(false)), (Some(1), Some(false))]);
    let old = done(&ada, "file_read", json!({ "task_id": "t", "path": "b.bin", "version": 1 })).await;
    assert_eq!(old["content"], "AP8Q");
    tool(&ada, "file_read", json!({ "task_id": "t", "path": "b.bin", "version": 3 }))
        .await
        .problem(Code::NotFound);
    let wrong = json!({ "task_id": "t", "path": "c", "content": "?", "encoding": "base64" });
    tool(&ada, "file_write", wrong).await.problem(Code::ValidationFailed);
}

async fn waiting_for_a_lease(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "t").await;
    done(&ada, "claim_file", json!({ "task_id": "t", "path": "src/**" })).await;
    let at_once = tool(&bob, "claim_file", json!({ "task_id": "t", "path": "src/a" })).await;
    assert_eq!(at_once.problem(Code::LeaseHeld)["path"], "src/**");
    let started = Instant::now();
    let in_vain =
        tool(&bob, "claim_file", json!({ "task_id": "t", "path": "src/a", "wait_seconds": 1 })).await;
    in_vain.problem(Code::LeaseHeld);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let waits = {
        let bob = bob.clone();
        tokio::spawn(async move {
            let arguments = json!({ "task_id": "t", "path": "src/a", "wait_seconds": 20 });
            (done(&bob, "claim_file", arguments).await, Instant::now())
        })
    };
    until(Duration::from_secs(10), async || metric(&app, "mcp_lease_waiters").await == 1.0).await;
    let released = Instant::now();
    done(&ada, "release_file", json!({ "task_id": "t", "path": "src/**" })).await;
    let (lease, granted) = waits.await.unwrap();
    assert_eq!(lease["holder"], "bob");
    assert!(granted < released + Duration::from_secs(5), "a release wakes who waits");
    // A short lease ends by itself, and whoever waits gets the path.
    done(&bob, "renew_file", json!({ "task_id": "t", "path": "src/a", "ttl_seconds": 1 })).await;
    let arguments = json!({ "task_id": "t", "path": "src/a", "wait_seconds": 20 });
    assert_eq!(done(&ada, "claim_file", arguments).await["holder"], "ada");
}

async fn agents_that_wait_for_each_other_get_an_answer(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "t").await;
    done(&ada, "claim_file", json!({ "task_id": "t", "path": "a" })).await;
    done(&bob, "claim_file", json!({ "task_id": "t", "path": "b" })).await;
    let wait = |path: &str| json!({ "task_id": "t", "path": path, "wait_seconds": 5 });
    let started = Instant::now();
    let (one, other) = tokio::join!(tool(&ada, "claim_file", wait("b")), tool(&bob, "claim_file", wait("a")));
    assert!(started.elapsed() < Duration::from_secs(15));
    let problems = [one.problem(Code::LeaseHeld), other.problem(Code::LeaseHeld)];
    assert!(problems.iter().any(|problem| problem["deadlock"] == true), "{problems:?}");
}

async fn the_agent_is_the_callers_own(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, local) = (app.as_agent("ada").await, app.anonymous_from_loopback());
    make_task(&ada, "t").await;
    let claim = |path: &str, agent: &str| json!({ "task_id": "t", "path": path, "agent_id": agent });
    assert_eq!(done(&local, "claim_file", claim("a", "coder-7")).await["holder"], "coder-7");
    assert_eq!(done(&ada, "claim_file", claim("b", "ada")).await["holder"], "ada");
    tool(&ada, "claim_file", claim("c", "bob")).await.problem(Code::AgentMismatch);
    let refused = ada.call("collab__claim_file", claim("c", "bob")).await.result();
    assert_eq!(
        (refused["isError"].as_bool(), refused["structuredContent"]["code"].as_str()),
        (Some(true), Some("agent_mismatch"))
    );
    let claimed = local.call("mcp_claim_file", claim("d", "coder-8")).await.result();
    assert_eq!(claimed["structuredContent"]["holder"], "coder-8");
    let named = local.header("X-Agent-Id", "coder-9");
    assert_eq!(done(&named, "claim_file", json!({ "task_id": "t", "path": "e" })).await["holder"], "coder-9");
    let (shared, _) = app.as_operator().make_key(json!({ "name": "shared", "role": "agent" })).await;
    let shared = app.with_key(&shared);
    for (place, agent) in [("f", "eve"), ("g", "mal")] {
        assert_eq!(done(&shared, "claim_file", claim(place, agent)).await["holder"], agent);
        let claimed = shared.call("collab__claim_file", claim(place, agent)).await.result();
        assert_eq!(
            claimed["structuredContent"]["holder"], agent,
            "a key for no agent names one at each door"
        );
    }
    let (reader, _) =
        app.as_operator().make_key(json!({ "name": "reader", "scopes": ["tools:call", "tasks:read"] })).await;
    let reader = app.with_key(&reader);
    done(&reader, "task_get", json!({ "task_id": "t" })).await;
    tool(&reader, "claim_file", json!({ "task_id": "t", "path": "x" })).await.problem(Code::MissingScope);
}

async fn tasks_of_participants_and_other_tenants_are_not_found(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    let stranger = app.as_tenant_admin("other").await;
    make_task(&ada, "t").await;
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a", "content": "x" })).await;
    let secret =
        json!({ "task_id": "s", "title": "Secret", "access": "participants", "participants": ["eve"] });
    done(&ada, "task_create", secret).await;
    for (actor, task) in [(&stranger, "t"), (&stranger, "s"), (&bob, "s")] {
        for (name, arguments) in [
            ("task_get", json!({ "task_id": task })),
            ("file_read", json!({ "task_id": task, "path": "a" })),
            ("file_write", json!({ "task_id": task, "path": "a", "content": "y" })),
            ("claim_file", json!({ "task_id": task, "path": "a" })),
            ("log_step", json!({ "task_id": task, "step": "x" })),
            ("subscribe_logs", json!({ "task_id": task })),
            ("join_collab", json!({ "task_id": task })),
        ] {
            tool(actor, name, arguments).await.problem(Code::NotFound);
        }
        let read = actor.rpc("resources/read", json!({ "uri": format!("tasks://{task}/state") })).await;
        assert!(read.json()["error"].is_object(), "{}", read.exchange());
        actor.get(&format!("/v1/tasks/{task}")).await.problem(Code::NotFound);
        actor.get(&format!("/v1/tasks/{task}/events")).await.problem(Code::NotFound);
        actor.get(&format!("/v1/tasks/{task}/files/a")).await.problem(Code::NotFound);
    }
    let eve = app.as_agent("eve").await;
    assert_eq!(done(&eve, "task_get", json!({ "task_id": "s" })).await["task"]["title"], "Secret");
    let listed = ada.rpc("resources/list", json!({})).await.result();
    assert!(!listed.to_string().contains("tasks://s/"), "{listed}");
}

async fn steps_are_followed_by_cursor(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "t").await;
    let follow = {
        let bob = bob.clone();
        tokio::spawn(async move {
            let (mut after, mut steps) = (0, Vec::new());
            while steps.len() < 20 {
                let arguments = json!({ "task_id": "t", "after": after, "wait_seconds": 10, "limit": 7 });
                let answer = done(&bob, "subscribe_logs", arguments).await;
                for event in answer["events"].as_array().unwrap() {
                    after += 1;
                    assert_eq!(event["seq"], after, "no gap");
                    if event["kind"] == "step" {
                        steps.push(event["data"]["step"].as_str().unwrap().to_owned());
                    }
                }
                assert_eq!(answer["after"], after);
            }
            steps
        })
    };
    for number in 0..20 {
        let step = json!({ "task_id": "t", "step": format!("step {number}"), "status": "done", "data": { "n": number } });
        done(&ada, "log_step", step).await;
    }
    let expected: Vec<String> = (0..20).map(|number| format!("step {number}")).collect();
    assert_eq!(follow.await.unwrap(), expected);
    let same = json!({ "task_id": "t", "step": "once", "step_id": "my-id" });
    let first = done(&ada, "log_step", same.clone()).await;
    let second = done(&ada, "log_step", same).await;
    assert_eq!((&first["seq"], &second["repeated"]), (&second["seq"], &Value::Bool(true)));
    let other = json!({ "task_id": "t", "step": "other", "step_id": "my-id" });
    tool(&ada, "log_step", other).await.problem(Code::Conflict);
    let nothing = done(&bob, "subscribe_logs", json!({ "task_id": "t", "after": first["seq"] })).await;
    assert_eq!((nothing["events"].as_array().unwrap().len(), &nothing["after"]), (0, &first["seq"]));
    let long = json!({ "task_id": "t", "step": "x".repeat(70_000) });
    tool(&ada, "log_step", long).await.problem(Code::ValidationFailed);
    let nul = json!({ "task_id": "t", "step": "a\0b" });
    tool(&ada, "log_step", nul).await.problem(Code::ValidationFailed);
}

async fn tasks_go_from_hand_to_hand(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "first").await;
    let second = json!({ "task_id": "second", "title": "B", "depends_on": ["first"], "labels": ["x"] });
    done(&ada, "task_create", second).await;
    let taken = done(&ada, "task_next", json!({})).await;
    assert_eq!(
        (taken["task"]["id"].as_str(), taken["task"]["assignedTo"].as_str()),
        (Some("first"), Some("ada"))
    );
    assert_eq!(done(&bob, "task_next", json!({})).await["task"], Value::Null);
    let joined = done(&ada, "join_collab", json!({ "task_id": "first", "role": "coder" })).await;
    assert_eq!(
        (joined["agentId"].as_str(), joined["participants"][0]["role"].as_str()),
        (Some("ada"), Some("coder"))
    );
    done(&ada, "claim_file", json!({ "task_id": "first", "path": "a" })).await;
    let handed =
        done(&ada, "task_handoff", json!({ "task_id": "first", "to": "bob", "note": "yours" })).await;
    assert_eq!((handed["task"]["assignedTo"].as_str(), &handed["released"]), (Some("bob"), &json!(["a"])));
    let who = done(&bob, "who", json!({ "task_id": "first" })).await;
    assert_eq!(
        (who["participants"].as_array().unwrap().len(), who["leases"].as_array().unwrap().len()),
        (2, 0)
    );
    let status = json!({ "task_id": "first", "status": "done", "result": { "ok": true }, "expected_status": "in-progress" });
    assert_eq!(done(&bob, "task_update", status.clone()).await["task"]["result"]["ok"], true);
    tool(&ada, "task_update", status).await.problem(Code::VersionConflict);
    assert_eq!(done(&bob, "task_next", json!({})).await["task"]["id"], "second");
    let listed = done(&ada, "task_list", json!({ "assigned_to": "bob", "status": "in_progress" })).await;
    assert_eq!((listed["total"].as_i64(), listed["tasks"][0]["id"].as_str()), (Some(1), Some("second")));
    done(&ada, "leave_collab", json!({ "task_id": "first" })).await;
    done(&ada, "task_update", json!({ "task_id": "second", "status": "done" })).await;
    let late = json!({ "task_id": "second", "to": "ada" });
    refused(&bob, "task_handoff", late, Code::Conflict, "`done`").await;
    let wrong = tool(&ada, "task_update", json!({ "task_id": "first", "status": "finished" })).await;
    assert!(wrong.problem(Code::ValidationFailed)["detail"].as_str().unwrap().contains("in_progress"));
    let made = done(&ada, "task_create", json!({ "title": "No id" })).await;
    assert!(made["task"]["id"].as_str().unwrap().starts_with("task-"));
}

async fn refused(actor: &Actor, name: &str, arguments: Value, code: Code, part: &str) {
    let answer = tool(actor, name, arguments).await;
    let problem = answer.problem(code);
    answer.must(problem["detail"].as_str().is_some_and(|detail| detail.contains(part)), part);
}

async fn wrong_arguments_and_paths_are_refused_with_a_reason(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("WORKSPACE_FILE_MAX_BYTES", 1000)).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    for (path, part) in [
        ("../../etc/passwd", "`..`"),
        ("/etc/passwd", "begins with `/`"),
        ("a\0b", "control"),
        ("cafe\u{301}.txt", "NFC"),
        ("a//b", "empty name"),
        ("..\\a", "separated by `/`"),
        ("*.txt", "patterns"),
    ] {
        for (name, mut arguments) in [
            ("file_read", json!({})),
            ("file_write", json!({ "content": "x" })),
            ("file_delete", json!({})),
            ("file_history", json!({})),
        ] {
            arguments["task_id"] = "t".into();
            arguments["path"] = path.into();
            refused(&ada, name, arguments, Code::ValidationFailed, part).await;
        }
    }
    let uri = "workspace://t/..%2f..%2fetc%2fpasswd";
    let read = ada.rpc("resources/read", json!({ "uri": uri })).await.json();
    assert!(read["error"]["message"].as_str().unwrap().contains("`..`"), "{read}");
    let large = json!({ "task_id": "t", "path": "a", "content": "x".repeat(1001) });
    refused(&ada, "file_write", large, Code::BodyTooLarge, "1001 bytes").await;
    let missing = json!({ "task_id": "t" });
    refused(&ada, "file_read", missing, Code::ValidationFailed, "`path` is missing").await;
    let unknown = json!({ "task_id": "t", "path": "a", "file": "b" });
    refused(&ada, "file_read", unknown, Code::ValidationFailed, "`file` is not an argument").await;
    let kind = json!({ "task_id": 7, "path": "a" });
    refused(&ada, "file_read", kind, Code::ValidationFailed, "`task_id` must be string").await;
    refused(&ada, "task_get", json!({ "task_id": "a b" }), Code::ValidationFailed, "task id").await;
    let wait = json!({ "task_id": "t", "wait_seconds": 61 });
    refused(&ada, "subscribe_logs", wait, Code::ValidationFailed, "at most 60").await;
    let ttl = json!({ "task_id": "t", "path": "a", "ttl_seconds": 601 });
    refused(&ada, "claim_file", ttl, Code::ValidationFailed, "at most 600").await;
    tool(&ada, "no_such_tool", json!({})).await.problem(Code::UnknownTool);
    assert_eq!(
        done(&ada, "file_list", json!({ "task_id": "t" })).await["files"],
        json!([]),
        "nothing was written"
    );
}
