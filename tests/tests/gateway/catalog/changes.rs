//! Lists that change: while nothing runs, by a call, and with the client's capabilities.

use std::time::Duration;

use tests::{Backend, McpClient, Settings, TestApp, Value, json};

use super::{Filed, listed, names, restart, stored};

pub async fn the_list_that_a_call_changed_is_read(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "open"]);
    app.as_operator().register(filed.registration()).await;
    for (agent, path, tool) in [("alice", "/mcp", "filed__"), ("bob", "/mcp/s/filed", "")] {
        let agent = app.as_agent(agent).await;
        let client = McpClient::modern(&agent, path).declaring(json!({ "elicitation": {} }));
        let shown = async || {
            let list = client.result("tools/list", json!({})).await;
            let tools = list["tools"].as_array().unwrap().iter();
            tools
                .map(|tool| tool["name"].as_str().unwrap().to_owned())
                .filter(|name| name.starts_with(tool))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown().await.len(), 3);
        let mut heard = client
            .open("subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }))
            .await;
        heard.next_of("notifications/subscriptions/acknowledged").await;
        client.call(&format!("{tool}open")).await.result().await;
        heard.next_of("notifications/tools/list_changed").await;
        let with_inside = ["a", "open", "eliciting", "inside"].map(|name| format!("{tool}{name}"));
        assert_eq!(shown().await, with_inside);
        // Calls at the same time meet the same process, one after the other.
        let inside = format!("{tool}inside");
        let calls = (0..6).map(|_| async { client.call(&inside).await.text().await });
        assert_eq!(futures_util::future::join_all(calls).await, ["inside"; 6]);
    }
    let carol = app.as_agent("carol").await;
    assert_eq!(names(&listed(&carol).await, "filed"), ["a", "open"], "nobody else has it");
}

pub async fn capabilities_have_lists_of_their_own(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a"]);
    app.as_operator().register(filed.registration()).await;
    let (plain, able) = (["filed__a"].as_slice(), ["filed__a", "filed__eliciting"].as_slice());
    let lists_are = async |app: &TestApp, starts: usize| {
        let operator = app.as_operator();
        let shown = |list: &Value| {
            let tools = list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap());
            tools.filter(|name| name.starts_with("filed")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown(&listed(&operator).await), plain);
        for client in [
            McpClient::modern(&operator, "/mcp").declaring(json!({ "elicitation": {} })),
            McpClient::legacy(&operator, "/mcp", "2025-11-25", json!({ "elicitation": {} })).await,
        ] {
            assert_eq!(shown(&client.result("tools/list", json!({})).await), able);
        }
        assert_eq!(filed.starts(), starts);
    };
    lists_are(&app, 2).await;
    restart(&mut app).await;
    lists_are(&app, 2).await;
}

pub async fn lists_that_are_alike_serve_all_clients(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a"]);
    app.as_operator().register(filed.registration_with(&["--same"])).await;
    let lists = async |app: &TestApp, capabilities: Value| {
        let client = McpClient::legacy(&app.as_operator(), "/mcp", "2025-11-25", capabilities).await;
        names(&client.result("tools/list", json!({})).await, "filed")
    };
    assert_eq!(lists(&app, json!({})).await, ["a"]);
    assert_eq!(lists(&app, json!({ "elicitation": {} })).await, ["a"]);
    restart(&mut app).await;
    assert_eq!(lists(&app, json!({ "elicitation": {}, "sampling": {}, "roots": {} })).await, ["a"]);
    assert_eq!(filed.starts(), 2);
}

pub async fn a_refresh_starts_no_server_that_is_gone(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    for (slug, off) in [("deleted", false), ("disabled", true)] {
        let filed = Filed::new(&app, slug, &["a"]);
        let server = app.as_operator().register(filed.registration_with(&["--delay", "1"])).await;
        for list in ["tools/list", "prompts/list"] {
            app.as_operator().rpc(list, json!({})).await.result();
        }
        restart(&mut app).await;
        let operator = app.as_operator();
        // The call starts it, and its lists are requested again.
        operator.call(&format!("{slug}__a"), json!({})).await.tool_text();
        match off {
            true => operator.patch(&server.path(""), json!({ "enabled": false })).await.status(200),
            false => operator.delete(&server.path("")).await.status(204),
        };
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!((filed.starts(), app.children().len()), (2, 0), "{slug}");
    }
}

pub async fn calls_go_on_beside_changed_lists(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let noisy = Filed::new(&app, "noisy", &["slow"]);
    app.as_operator().register(noisy.registration_with(&["--noisy"])).await;
    let operator = app.as_operator();
    let client = McpClient::modern(&operator, "/mcp").declaring(json!({ "elicitation": {} }));
    client.result("tools/list", json!({})).await;
    client.call("noisy__slow").await.text().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let calls = (0..4).map(|_| async { client.call("noisy__slow").await.text().await });
    assert_eq!(futures_util::future::join_all(calls).await, ["slow"; 4]);
    assert_eq!(noisy.starts(), 5, "one for the lists, and one for each of four calls at a time");

    // A question that is open on the lane with lists of its own keeps no other call from going on.
    let filed = Filed::new(&app, "filed", &["a", "open", "ask"]);
    operator.register(filed.registration()).await;
    client.result("tools/list", json!({})).await;
    client.call("filed__open").await.result().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let question = client.call("filed__ask").await.result().await;
    assert_eq!(question["resultType"], "input_required", "{question}");
    assert_eq!(client.call("filed__a").await.text().await, "a");
    let key = question["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let answer = json!({ "name": "filed__ask", "arguments": {}, "requestState": question["requestState"],
        "inputResponses": { key: { "action": "decline" } } });
    assert_eq!(client.result("tools/call", answer).await["content"][0]["text"], "decline");
    assert_eq!(client.call("filed__inside").await.text().await, "inside");
}

pub async fn an_old_list_is_checked(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new().env("CHILD_LIST_CHECK_MS", 2000)).await;
    let filed = Filed::new(&app, "filed", &["old"]);
    app.as_operator().register(filed.registration()).await;
    listed(&app.as_operator()).await;
    app.terminate(Duration::from_secs(10)).await;
    filed.write(&["new"]);
    app.boot(None).await;
    let client = McpClient::legacy(&app.as_operator(), "/mcp", "2025-11-25", json!({})).await;
    let mut stream = client.listen(None).await;
    assert_eq!(names(&listed(&app.as_operator()).await, "filed"), ["old"]);
    stream.next_of("notifications/tools/list_changed").await;
    let list = listed(&app.as_operator()).await;
    assert_eq!((names(&list, "filed"), filed.starts()), (vec!["new".to_owned()], 2));
}

/// A server that was stopped because nobody used it is one that does not run.
pub async fn a_server_at_rest_is_asked_again(backend: Backend) {
    for check in [2000, 0] {
        let settings = Settings::new().env("CHILD_LIST_CHECK_MS", check).env("CHILD_IDLE_TIMEOUT_MS", 500);
        let app = TestApp::start(backend, settings).await;
        let filed = Filed::new(&app, "filed", &["old"]);
        let operator = app.as_operator();
        operator.register(filed.registration()).await;
        let client = McpClient::legacy(&operator, "/mcp", "2025-11-25", json!({})).await;
        let mut stream = client.listen(None).await;
        assert_eq!(names(&listed(&operator).await, "filed"), ["old"]);
        filed.write(&["new"]);
        if check == 0 {
            let until = std::time::Instant::now() + Duration::from_secs(10);
            while stored(&listed(&operator).await) != ["filed"] {
                assert!(std::time::Instant::now() < until, "it is stopped");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(operator.call("filed__new", json!({})).await.tool_text(), "new");
        }
        stream.next_of("notifications/tools/list_changed").await;
        assert_eq!((names(&listed(&operator).await, "filed"), filed.starts()), (vec!["new".to_owned()], 2));
    }
}

pub async fn what_changed_meanwhile_is_told(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "old"]);
    app.as_operator().register(filed.registration()).await;
    listed(&app.as_operator()).await;
    app.terminate(Duration::from_secs(10)).await;
    filed.write(&["a", "new"]);
    app.boot(None).await;

    let operator = app.as_operator();
    let client = McpClient::legacy(&operator, "/mcp", "2025-11-25", json!({})).await;
    let mut stream = client.listen(None).await;
    assert_eq!(names(&listed(&operator).await, "filed"), ["a", "old"]);
    assert_eq!(filed.starts(), 1);
    // A name that the stored list does not have may be one of the server's all the same.
    assert_eq!(operator.call("filed__new", json!({})).await.tool_text(), "new");
    stream.next_of("notifications/tools/list_changed").await;
    let list = listed(&operator).await;
    assert_eq!((names(&list, "filed"), stored(&list)), (vec!["a".to_owned(), "new".to_owned()], vec![]));
    operator.call("filed__old", json!({})).await.refused(&[tests::Code::UnknownTool]);
    assert_eq!(filed.starts(), 2);
    restart(&mut app).await;
    assert_eq!(names(&listed(&app.as_operator()).await, "filed"), ["a", "new"]);
    assert_eq!(filed.starts(), 2, "the new list was stored");
}

pub async fn a_list_that_fails_takes_nothing_away(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "b"]);
    app.as_operator().register(filed.registration()).await;
    listed(&app.as_operator()).await;
    restart(&mut app).await;
    std::fs::write(filed.folder.join("refuse"), "").unwrap();
    let operator = app.as_operator();
    for _ in 0..2 {
        assert_eq!(operator.call("filed__b", json!({})).await.tool_text(), "b");
        let list = listed(&operator).await;
        assert_eq!(
            (names(&list, "filed"), stored(&list)),
            (vec!["a".to_owned(), "b".to_owned()], vec!["filed"])
        );
        let since = &list["_meta"]["trunkline/stored"][0];
        assert!(since["reason"].as_str().unwrap().contains("not logged in"), "{since}");
    }
    std::fs::remove_file(filed.folder.join("refuse")).unwrap();
    assert_eq!(stored(&listed(&operator).await), [] as [&str; 0]);
}

/// No call starts the upstream that clients with capabilities share; their own ones renew its lists.
pub async fn a_new_list_reaches_clients_that_may_be_asked(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "old"]);
    app.as_operator().register(filed.registration()).await;
    let able = async |app: &TestApp| {
        let asked = json!({ "elicitation": {} });
        McpClient::legacy(&app.as_operator(), "/mcp", "2025-11-25", asked).await
    };
    able(&app).await.result("tools/list", json!({})).await;
    app.terminate(Duration::from_secs(10)).await;
    filed.write(&["a", "new"]);
    app.boot(None).await;

    let client = able(&app).await;
    let mut stream = client.listen(None).await;
    let list = client.result("tools/list", json!({})).await;
    assert_eq!(names(&list, "filed"), ["a", "old", "eliciting"]);
    client.call("filed__a").await.result().await;
    stream.next_of("notifications/tools/list_changed").await;
    for client in [&client, &able(&app).await] {
        let list = client.result("tools/list", json!({})).await;
        assert_eq!(names(&list, "filed"), ["a", "new", "eliciting"]);
    }
    restart(&mut app).await;
    let list = able(&app).await.result("tools/list", json!({})).await;
    assert_eq!(
        (names(&list, "filed"), stored(&list)),
        (["a", "new", "eliciting"].map(str::to_owned).to_vec(), vec!["filed"])
    );
    assert_eq!(filed.starts(), 2);
}

/// An answer that comes when the server of its call has ended keeps no upstream of the caller in use.
pub async fn a_late_answer_keeps_no_slot(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "ask"]);
    app.as_operator().register(filed.registration()).await;
    let client = McpClient::modern(&app.as_operator(), "/mcp").declaring(json!({ "elicitation": {} }));
    let ask = async |die: bool| {
        let call = json!({ "name": "filed__ask", "arguments": { "die": die } });
        let question = client.result("tools/call", call.clone()).await;
        assert_eq!(question["resultType"], "input_required", "{question}");
        (call, question)
    };
    let _open = ask(false).await;
    for _ in 0..3 {
        let (mut call, question) = ask(true).await;
        // The pause before a start after a crash is over by then.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let key = question["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
        call["requestState"] = question["requestState"].clone();
        call["inputResponses"] = json!({ key: { "action": "decline" } });
        let error = client.error("tools/call", call).await;
        assert_eq!(error["data"]["code"], "upstream_failed", "{error}");
    }
    assert_eq!(client.call("filed__a").await.text().await, "a");
}
