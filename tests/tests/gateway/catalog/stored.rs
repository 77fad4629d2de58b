//! Lists from the store: complete at once after a restart, with nothing started, as the policy and the tenant
//! allow.

use std::time::Duration;

use tests::{Backend, McpClient, Settings, TestApp, Value, json};

use super::{Filed, listed, names, restart, stored};

pub async fn a_restart_starts_nothing_for_a_list(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "b"]);
    app.as_operator().register(filed.registration()).await;
    let first = listed(&app.as_operator()).await;
    assert_eq!((names(&first, "filed"), stored(&first)), (vec!["a".to_owned(), "b".to_owned()], vec![]));
    // The other lists are requested behind the first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    restart(&mut app).await;

    let operator = app.as_operator();
    let list = listed(&operator).await;
    assert_eq!((&list["tools"], stored(&list)), (&first["tools"], vec!["filed"]));
    let age = &list["_meta"]["trunkline/stored"][0];
    assert!(age["ageSeconds"].as_u64().is_some_and(|age| age < 60) && age["listedAt"].is_string(), "{age}");
    let prompts = operator.rpc("prompts/list", json!({})).await.result();
    assert_eq!((&prompts["prompts"][0]["name"], stored(&prompts)), (&json!("filed__greet"), vec!["filed"]));
    // The stored handshake says that there are none.
    let resources = operator.rpc("resources/list", json!({})).await.result();
    assert_eq!(resources["resources"], json!([]));
    for modern in [true, false] {
        let client = match modern {
            true => McpClient::modern(&operator, "/mcp"),
            false => McpClient::legacy(&operator, "/mcp", "2025-11-25", json!({})).await,
        };
        let list = client.result("tools/list", json!({})).await;
        assert_eq!((names(&list, "filed").len(), stored(&list)), (2, vec!["filed"]), "{list}");
    }
    assert_eq!((filed.starts(), app.children().len()), (1, 0), "nothing was started for the lists");

    assert_eq!(operator.call("filed__b", json!({})).await.tool_text(), "b");
    assert_eq!(filed.starts(), 2, "the call starts it");
    let list = listed(&operator).await;
    assert_eq!((&list["tools"], stored(&list)), (&first["tools"], vec![]));
}

pub async fn one_server_is_shown_as_it_was(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "b"]);
    let operator = app.as_operator();
    operator.register(filed.registration()).await;
    for list in ["tools/list", "prompts/list"] {
        operator.rpc(list, json!({})).await.result();
    }
    restart(&mut app).await;

    let operator = app.as_operator();
    let mut client = McpClient::legacy(&operator, "/mcp/s/filed", "2025-06-18", json!({})).await;
    let greeting = client.initialize().await;
    assert_eq!(
        (&greeting["instructions"], &greeting["protocolVersion"]),
        (&json!("use with care"), &json!("2025-06-18"))
    );
    let list = client.result("tools/list", json!({})).await;
    let tool = json!({ "x": 1.0, "name": "b", "inputSchema": { "type": "object" } });
    assert_eq!((&list["tools"][1], stored(&list)), (&tool, vec!["filed"]));
    let modern = McpClient::modern(&operator, "/mcp/s/filed");
    let discovered = modern.result("server/discover", json!({})).await;
    assert_eq!(discovered["instructions"], "use with care");
    let list = modern.result("prompts/list", json!({})).await;
    assert_eq!((&list["prompts"][0]["name"], &list["resultType"]), (&json!("greet"), &json!("complete")));
    assert_eq!(filed.starts(), 1, "nothing was started for the lists");
    client.call("b").await.result().await;
    let list = client.result("tools/list", json!({})).await;
    assert_eq!(
        (list["tools"].as_array().unwrap().len(), list["_meta"].clone(), filed.starts()),
        (2, Value::Null, 2)
    );
}

pub async fn the_policy_holds_for_stored_lists(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "b"]);
    let operator = app.as_operator();
    let server = operator.register(filed.registration()).await;
    listed(&operator).await;
    let config = json!({ "serverId": server.id, "blockedTools": ["b"] });
    operator.post("/v1/mcp/configs", config).await.status(201);
    restart(&mut app).await;

    let alice = app.as_agent("alice").await;
    assert_eq!(names(&listed(&alice).await, "filed"), ["a"]);
    alice.call("filed__b", json!({})).await.refused(&[tests::Code::DeniedByPolicy]);
    let client = McpClient::modern(&alice, "/mcp/s/filed");
    let list = client.result("tools/list", json!({})).await;
    assert_eq!(list["tools"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(filed.starts(), 1, "a blocked tool starts nothing");
    let off = json!({ "enabled": false });
    app.as_operator().patch(&server.path(""), off).await.status(200);
    let list = listed(&alice).await;
    assert_eq!(names(&list, "filed"), [] as [&str; 0]);
    assert_eq!(list["_meta"]["trunkline/unavailable"][0]["server"], "filed");
    app.as_operator().delete(&server.path("")).await.status(204);
    assert_eq!(listed(&alice).await["_meta"], Value::Null);
}

pub async fn a_tenant_has_its_own(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let (ours, theirs) = (Filed::new(&app, "filed", &["ours"]), Filed::new(&app, "theirs", &["theirs"]));
    app.as_operator().register(ours.registration()).await;
    let other = app.as_operator_for("beta").await;
    other.register(Filed { slug: "filed", folder: theirs.folder.clone() }.registration()).await;
    assert_eq!(names(&listed(&app.as_operator()).await, "filed"), ["ours"]);
    restart(&mut app).await;
    let other = app.as_operator_for("beta").await;
    assert_eq!((names(&listed(&other).await, "filed"), theirs.starts()), (vec!["theirs".to_owned()], 1));
    assert_eq!(names(&listed(&app.as_operator()).await, "filed"), ["ours"]);
    restart(&mut app).await;
    let other = app.as_operator_for("beta").await;
    assert_eq!(names(&listed(&other).await, "filed"), ["theirs"]);
    assert_eq!(names(&listed(&app.as_operator()).await, "filed"), ["ours"]);
    assert_eq!((ours.starts(), theirs.starts()), (1, 1));
}

pub async fn another_revision_is_listed_anew(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["old"]);
    let server = app.as_operator().register(filed.registration()).await;
    listed(&app.as_operator()).await;
    filed.write(&["new"]);
    app.as_operator().patch(&server.path(""), json!({ "env": { "A": "1" } })).await.status(200);
    restart(&mut app).await;
    let list = listed(&app.as_operator()).await;
    assert_eq!((names(&list, "filed"), stored(&list)), (vec!["new".to_owned()], vec![]));
    assert_eq!(filed.starts(), 2);
}

pub async fn a_kill_loses_no_list_for_long(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a"]);
    app.as_operator().register(filed.registration()).await;
    listed(&app.as_operator()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    app.kill().await;
    app.boot(None).await;
    let list = listed(&app.as_operator()).await;
    assert_eq!((names(&list, "filed"), filed.starts()), (vec!["a".to_owned()], 1));
}

pub async fn replicas_share_a_catalog(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let other = app.start_beside(Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "open"]);
    let server = app.as_operator().register(filed.registration()).await;
    let (here, there) = (app.as_operator(), other.as_operator());
    let client = McpClient::legacy(&there, "/mcp", "2025-11-25", json!({})).await;
    let mut stream = client.listen(None).await;
    assert_eq!(names(&listed(&here).await, "filed"), ["a", "open"]);
    let until_shared = async |wanted: &[&str]| {
        for _ in 0..50 {
            let list = listed(&there).await;
            if names(&list, "filed") == wanted {
                return stored(&list).len();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the other replica does not list {wanted:?}: {}", listed(&there).await);
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((until_shared(&["a", "open"]).await, filed.starts()), (1, 1), "it is read from the store");
    here.call("filed__open", json!({})).await.tool_text();
    stream.next_of("notifications/tools/list_changed").await;
    assert_eq!((until_shared(&["a", "open", "inside"]).await, filed.starts()), (1, 1));

    filed.write(&["b"]);
    here.patch(&server.path(""), json!({ "env": { "A": "1" } })).await.status(200);
    assert_eq!(names(&listed(&here).await, "filed"), ["b"]);
    // The other replica knows the new revision after about a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        (until_shared(&["b"]).await, filed.starts()),
        (1, 2),
        "the new revision is read from the store"
    );
}
