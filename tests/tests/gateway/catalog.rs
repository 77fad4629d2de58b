//! Stored catalogs: lists of servers that do not run are complete at once, keep to the policy and the tenant,
//! and follow their servers.

use std::path::PathBuf;
use std::time::Duration;

use tests::mcp_client::everything;
use tests::{Actor, Backend, Case, McpClient, Registration, Settings, TestApp, Value, cases, json, programs};

pub const CASES: &[Case] = cases![
    Every: a_restart_starts_nothing_for_a_list, one_server_is_shown_as_it_was, what_changed_meanwhile_is_told,
        the_policy_holds_for_stored_lists, a_tenant_has_its_own, another_revision_is_listed_anew;
    Once: an_old_list_is_checked, the_list_that_a_call_changed_is_read, a_client_with_other_capabilities_starts_nothing, a_kill_loses_no_list_for_long;
    Postgres: replicas_share_a_catalog;
];

/// A server whose tools are in a file, and which notes its starts. `open` adds the tool `inside` to its own
/// process.
const SERVER: &str = r#"
import json, os, sys
folder = sys.argv[1]
open(os.path.join(folder, "starts"), "a").write("x")
inside = []
def send(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()
def tools():
    return json.load(open(os.path.join(folder, "tools.json"))) + inside
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        continue
    id, method, params = message["id"], message["method"], message.get("params", {})
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}, "prompts": {}}
        send(id=id, result={"protocolVersion": params["protocolVersion"], "capabilities": capabilities,
            "serverInfo": {"name": "filed", "version": "1"}, "instructions": "use with care"})
    elif method == "tools/list":
        send(id=id, result={"tools": tools()})
    elif method == "prompts/list":
        send(id=id, result={"prompts": [{"name": "greet"}]})
    elif method == "tools/call":
        if params["name"] == "open":
            inside[:] = [{"name": "inside", "inputSchema": {"type": "object"}}]
            send(method="notifications/tools/list_changed")
        send(id=id, result={"content": [{"type": "text", "text": params["name"]}]})
    else:
        send(id=id, error={"code": -32601, "message": "no such method"})
"#;

/// A server of that program.
struct Filed {
    folder: PathBuf,
    slug: &'static str,
}

impl Filed {
    fn new(app: &TestApp, slug: &'static str, tools: &[&str]) -> Filed {
        let folder = app.path(slug);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("server.py"), SERVER).unwrap();
        let filed = Filed { folder, slug };
        filed.write(tools);
        filed
    }

    fn write(&self, tools: &[&str]) {
        let tool = |name: &&str| json!({ "x": 1.0, "name": name, "inputSchema": { "type": "object" } });
        let tools: Vec<Value> = tools.iter().map(tool).collect();
        std::fs::write(self.folder.join("tools.json"), json!(tools).to_string()).unwrap();
    }

    fn registration(&self) -> Registration {
        let python = programs::find("python3", &[]);
        let python = python.unwrap_or_else(|| tests::not_run("no python3 in PATH")).display().to_string();
        let script = self.folder.join("server.py").display().to_string();
        let server = Registration::stdio(self.slug, &python, &[&script, &self.folder.display().to_string()]);
        server.with("era", "legacy")
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.folder.join("starts")).map_or(0, |text| text.len())
    }
}

async fn listed(actor: &Actor) -> Value {
    actor.rpc("tools/list", json!({})).await.result()
}

/// The names of the tools of one server.
fn names(list: &Value, slug: &str) -> Vec<String> {
    let own = format!("{slug}__");
    let tools = list["tools"].as_array().unwrap().iter();
    tools.filter_map(|tool| Some(tool["name"].as_str()?.strip_prefix(&own)?.to_owned())).collect()
}

fn stored(list: &Value) -> Vec<&str> {
    let stored = list["_meta"]["trunkline/stored"].as_array().map(Vec::as_slice).unwrap_or_default();
    stored.iter().map(|one| one["server"].as_str().unwrap()).collect()
}

async fn restart(app: &mut TestApp) {
    app.terminate(Duration::from_secs(10)).await;
    app.boot(None).await;
}

async fn a_restart_starts_nothing_for_a_list(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "b"]);
    app.as_operator().register(filed.registration()).await;
    let first = listed(&app.as_operator()).await;
    assert_eq!((names(&first, "filed"), stored(&first)), (vec!["a".to_owned(), "b".to_owned()], vec![]));
    app.as_operator().rpc("prompts/list", json!({})).await.result();
    restart(&mut app).await;

    let operator = app.as_operator();
    let list = listed(&operator).await;
    assert_eq!((&list["tools"], stored(&list)), (&first["tools"], vec!["filed"]));
    let age = &list["_meta"]["trunkline/stored"][0];
    assert!(age["ageSeconds"].as_u64().is_some_and(|age| age < 60) && age["listedAt"].is_string(), "{age}");
    let prompts = operator.rpc("prompts/list", json!({})).await.result();
    assert_eq!((&prompts["prompts"][0]["name"], stored(&prompts)), (&json!("filed__greet"), vec!["filed"]));
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

async fn one_server_is_shown_as_it_was(backend: Backend) {
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

async fn what_changed_meanwhile_is_told(backend: Backend) {
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

async fn the_policy_holds_for_stored_lists(backend: Backend) {
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

async fn a_tenant_has_its_own(backend: Backend) {
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

async fn another_revision_is_listed_anew(backend: Backend) {
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

async fn a_client_with_other_capabilities_starts_nothing(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a"]);
    app.as_operator().register(filed.registration()).await;
    listed(&app.as_operator()).await;
    restart(&mut app).await;
    let operator = app.as_operator();
    for client in [
        McpClient::modern(&operator, "/mcp").declaring(everything()),
        McpClient::legacy(&operator, "/mcp", "2025-11-25", everything()).await,
        McpClient::legacy(&operator, "/mcp/s/filed", "2025-11-25", everything()).await,
    ] {
        let list = client.result("tools/list", json!({})).await;
        assert_eq!((list["tools"].as_array().unwrap().is_empty(), stored(&list)), (false, vec!["filed"]));
    }
    assert_eq!(filed.starts(), 1);
}

async fn a_kill_loses_no_list_for_long(backend: Backend) {
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

async fn replicas_share_a_catalog(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let other = app.start_beside(Settings::new()).await;
    let filed = Filed::new(&app, "filed", &["a", "open"]);
    app.as_operator().register(filed.registration()).await;
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
}

async fn the_list_that_a_call_changed_is_read(backend: Backend) {
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
        assert_eq!(shown().await.len(), 2);
        let mut heard = client
            .open("subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }))
            .await;
        heard.next_of("notifications/subscriptions/acknowledged").await;
        client.call(&format!("{tool}open")).await.result().await;
        heard.next_of("notifications/tools/list_changed").await;
        assert_eq!(shown().await, [format!("{tool}a"), format!("{tool}open"), format!("{tool}inside")]);
        // Calls at the same time meet the same process, one after the other.
        let inside = format!("{tool}inside");
        let calls = (0..6).map(|_| async { client.call(&inside).await.text().await });
        assert_eq!(futures_util::future::join_all(calls).await, ["inside"; 6]);
    }
    let carol = app.as_agent("carol").await;
    assert_eq!(names(&listed(&carol).await, "filed"), ["a", "open"], "nobody else has it");
}

async fn an_old_list_is_checked(backend: Backend) {
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
