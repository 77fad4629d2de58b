//! Changes between discoveries of a server: of what the caller may see, since the tenant's last one.

use std::time::Duration;

use tests::{Actor, Backend, Registered, Settings, TestApp, Value, json};

use super::{Filed, listed, names, restart, stored};

async fn discovered(actor: &Actor, server: &Registered) -> Value {
    actor.get(&server.path("/discover")).await.json_of(200)["changes"].clone()
}

fn nothing() -> Value {
    json!({ "added": [], "removed": [], "changed": [] })
}

pub async fn a_discovery_tells_what_changed(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "b"]);
    let operator = app.as_operator();
    let server = operator.register(filed.registration()).await;
    let first = discovered(&operator, &server).await;
    let unchanged = |since: &Value| {
        json!({ "since": since, "tools": nothing(), "resources": nothing(), "resourceTemplates": nothing(),
            "prompts": nothing() })
    };
    assert_eq!(first, unchanged(&Value::Null), "there is nothing to compare with");

    let tools = json!([
        { "inputSchema": { "type": "object" }, "name": "b", "x": 1.0 },
        { "name": "a", "description": "another", "inputSchema": { "type": "object" } },
        { "name": "c", "inputSchema": { "type": "object" } },
    ]);
    std::fs::write(filed.folder.join("tools.json"), tools.to_string()).unwrap();
    let second = discovered(&operator, &server).await;
    assert_eq!(second["tools"], json!({ "added": ["c"], "removed": [], "changed": ["a"] }), "b is the same");
    assert!(second["since"].is_string(), "{second}");
    filed.write(&["c"]);
    let third = discovered(&operator, &server).await;
    assert_eq!(third["tools"], json!({ "added": [], "removed": ["a", "b"], "changed": ["c"] }));
    assert!(third["since"].as_str() > second["since"].as_str(), "{third}");

    // The lists are stored, and so is what the next discovery is compared with.
    tokio::time::sleep(Duration::from_millis(500)).await;
    restart(&mut app).await;
    let operator = app.as_operator();
    let list = listed(&operator).await;
    assert_eq!((names(&list, "filed"), stored(&list)), (vec!["c".to_owned()], vec!["filed"]));
    assert_eq!(filed.starts(), 1, "nothing was started for the list");
    let fourth = discovered(&operator, &server).await;
    assert_eq!(fourth, unchanged(&fourth["since"]));
    assert!(fourth["since"].as_str() > third["since"].as_str(), "{fourth}");
    // A list that is not given now is not compared, and the next one is compared with the one before.
    std::fs::write(filed.folder.join("refuse"), "").unwrap();
    assert_eq!(discovered(&operator, &server).await["tools"], Value::Null);
    std::fs::remove_file(filed.folder.join("refuse")).unwrap();
    filed.write(&["c", "d"]);
    assert_eq!(discovered(&operator, &server).await["tools"]["added"], json!(["d"]));
    // The server is the same after a change of its program.
    filed.write(&["d"]);
    operator.patch(&server.path(""), json!({ "env": { "A": "1" } })).await.status(200);
    assert_eq!(discovered(&operator, &server).await["tools"]["removed"], json!(["c"]));
}

pub async fn a_hidden_change_is_not_told(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "secret-1", "secret-2"]);
    let operator = app.as_operator();
    let server = operator.register(filed.registration()).await;
    let config = json!({ "serverId": server.id, "blockedTools": ["secret*"] });
    let config = operator.post("/v1/mcp/configs", config).await.json_of(201);
    discovered(&operator, &server).await;
    let tools = json!([{ "name": "b" }, { "name": "secret-2", "title": "other" }, { "name": "secret-3" }]);
    std::fs::write(filed.folder.join("tools.json"), tools.to_string()).unwrap();
    let answer = operator.get(&server.path("/discover")).await;
    let changes = answer.json_of(200)["changes"].clone();
    assert_eq!(changes["tools"], json!({ "added": ["b"], "removed": ["a"], "changed": [] }));
    answer.must(!answer.text().contains("secret"), "no name of a hidden tool");
    let id = config["id"].as_str().unwrap();
    operator.delete(&format!("/v1/mcp/configs/{id}")).await.status(204);
    filed.write(&["b"]);
    let removed = discovered(&operator, &server).await["tools"]["removed"].clone();
    assert_eq!(removed, json!(["secret-2", "secret-3"]), "who may see them hears of them");
}

pub async fn a_discovery_is_the_tenants(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "early"]);
    let global = app.as_operator().register(filed.registration().with("scope", "global")).await;
    let (acme, beta) = (app.as_tenant_admin("acme").await, app.as_tenant_admin("beta").await);
    discovered(&acme, &global).await;
    filed.write(&["a"]);
    let theirs = discovered(&beta, &global).await;
    assert_eq!((&theirs["since"], &theirs["tools"]), (&Value::Null, &nothing()), "it is the tenant's first");
    assert_eq!(discovered(&acme, &global).await["tools"]["removed"], json!(["early"]));
    let owner = app.as_operator_for("acme").await;
    let own = owner.register(Filed { slug: "own", folder: filed.folder.clone() }.registration()).await;
    discovered(&acme, &own).await;
    beta.get(&own.path("/discover")).await.problem(tests::Code::NotFound);
}
