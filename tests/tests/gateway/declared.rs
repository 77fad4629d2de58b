//! Servers declared in the configuration file: kept in step with it, not to be changed by REST.

use std::time::Duration;

use tests::programs::programs;
use tests::{Backend, Case, Code, Registration, Settings, TestApp, cases, json};

pub const CASES: &[Case] = cases![
    Every: declared_servers_follow_the_file;
    Once: a_slug_that_rest_took_stops_the_start, mistakes_in_a_declaration;
];

fn file(servers: &[(&str, &str)]) -> String {
    let one = |(slug, further): &(&str, &str)| {
        let program = programs().fixture_rmcp;
        format!(
            "[[servers]]\nslug = \"{slug}\"\nname = \"Declared\"\ntransport = \"stdio\"\ncommand = \"{program}\"\n{further}\n"
        )
    };
    servers.iter().map(one).collect()
}

async fn declared_servers_follow_the_file(backend: Backend) {
    let settings =
        |servers: &[(&str, &str)]| Settings::new().env("DECLARED_TOKEN", "from outside").file(file(servers));
    let env = "env = { TOKEN = \"${DECLARED_TOKEN}\", PLAIN = \"as it is\" }";
    let mut app = TestApp::start(backend, settings(&[("one", env), ("two", "")])).await;
    let operator = app.as_operator();
    let listed = operator.get("/v1/mcp/servers?search=one").await;
    let found = listed.json_of(200)["items"].as_array().cloned().unwrap_or_default();
    let one = found.into_iter().find(|server| server["slug"] == "one").unwrap_or_default();
    listed
        .must(one["slug"] == "one" && one["managedBy"] == "config", "it is a row that says where it is from");
    listed.must(!listed.text().contains("from outside"), "its secrets are not shown");
    let path = format!("/v1/mcp/servers/{}", one["id"].as_str().unwrap_or_default());
    operator.patch(&path, json!({ "name": "mine" })).await.problem(Code::ManagedByConfig);
    operator.delete(&path).await.problem(Code::ManagedByConfig);
    for (name, value) in [("TOKEN", "from outside"), ("PLAIN", "as it is")] {
        let answer = operator.call("one__env", json!({ "name": name })).await;
        answer.must(answer.tool_text() == value, "its environment is the file's");
    }
    operator.call("two__echo", json!({ "nonce": "n" })).await.tool_text();
    app.terminate(Duration::from_secs(20)).await;
    app.boot(Some(settings(&[("one", "env = { TOKEN = \"changed\" }"), ("three", "")]))).await;
    let operator = app.as_operator();
    let again = operator.get(&path).await.json_of(200);
    assert_eq!(again["id"], one["id"], "the same server, changed");
    assert!(again["revision"].as_i64() > one["revision"].as_i64(), "with another revision: {again}");
    let answer = operator.call("one__env", json!({ "name": "TOKEN" })).await;
    answer.must(answer.tool_text() == "changed", "a change in the file is taken");
    operator.call("three__echo", json!({ "nonce": "n" })).await.tool_text();
    operator
        .call("two__echo", json!({ "nonce": "n" }))
        .await
        .refused(&[Code::UnknownTool, Code::UnknownServer]);
    assert_eq!(operator.executions("server=two").await.len(), 1, "the record of a removed one stays");
    app.terminate(Duration::from_secs(20)).await;
    app.boot(Some(settings(&[("one", "env = { TOKEN = \"changed\" }"), ("three", "")]))).await;
    let same = app.as_operator().get(&path).await.json_of(200);
    assert_eq!(same["revision"], again["revision"], "an unchanged file changes nothing");
}

async fn a_slug_that_rest_took_stops_the_start(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("taken")).await;
    operator.register(Registration::rmcp("taken").with("scope", "global")).await;
    app.terminate(Duration::from_secs(20)).await;
    let path = app.path("clash.toml");
    std::fs::write(&path, file(&[("taken", "")])).unwrap();
    let output = app.command(&["--config", path.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("taken") && !said.contains("panicked"), "{said}");
    app.boot(None).await;
}

async fn mistakes_in_a_declaration(backend: Backend) {
    let mistakes = [
        (file(&[("Not_A_Slug", "")]), "Not_A_Slug"),
        (file(&[("same", ""), ("same", "")]), "same"),
        (file(&[("one", "env = { TOKEN = \"${NOT_SET_ANYWHERE}\" }")]), "NOT_SET_ANYWHERE"),
        (file(&[("one", "colour = \"red\"")]), "colour"),
        ("[[servers]]\nslug = \"one\"\ntransport = \"stdio\"\n".to_owned(), "command"),
    ];
    for (text, word) in mistakes {
        match TestApp::try_start(backend, Settings::new().file(&text)).await {
            Ok(_) => panic!("this was accepted:\n{text}"),
            Err(failed) => {
                assert_eq!(failed.status.and_then(|status| status.code()), Some(64), "{}", failed.output);
                assert!(failed.output.contains(word), "{word} is not said:\n{}", failed.output);
            }
        }
    }
}
