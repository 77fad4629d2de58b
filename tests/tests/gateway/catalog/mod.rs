//! Stored catalogs: lists of servers that do not run are complete at once, keep to the policy and the tenant,
//! and follow their servers.

mod changes;
mod discovered;
mod stored;

use std::path::PathBuf;
use std::time::Duration;

use tests::{Actor, Case, Registration, TestApp, Value, cases, json, programs};

use self::changes::{
    a_late_answer_keeps_no_slot, a_list_that_fails_takes_nothing_away,
    a_new_list_reaches_clients_that_may_be_asked, a_refresh_starts_no_server_that_is_gone,
    a_server_at_rest_is_asked_again, an_old_list_is_checked, calls_go_on_beside_changed_lists,
    capabilities_have_lists_of_their_own, lists_that_are_alike_serve_all_clients,
    the_list_that_a_call_changed_is_read, what_changed_meanwhile_is_told,
};
use self::discovered::{
    a_discovery_is_the_tenants, a_discovery_tells_what_changed, a_hidden_change_is_not_told,
};
use self::stored::{
    a_kill_loses_no_list_for_long, a_restart_starts_nothing_for_a_list, a_tenant_has_its_own,
    another_revision_is_listed_anew, one_server_is_shown_as_it_was, replicas_share_a_catalog,
    the_policy_holds_for_stored_lists,
};

pub const CASES: &[Case] = cases![
    Every: a_discovery_tells_what_changed, a_hidden_change_is_not_told, a_discovery_is_the_tenants, a_restart_starts_nothing_for_a_list, one_server_is_shown_as_it_was, what_changed_meanwhile_is_told,
        the_policy_holds_for_stored_lists, a_tenant_has_its_own, another_revision_is_listed_anew;
    Once: a_server_at_rest_is_asked_again, a_late_answer_keeps_no_slot, an_old_list_is_checked, lists_that_are_alike_serve_all_clients, a_list_that_fails_takes_nothing_away, a_new_list_reaches_clients_that_may_be_asked, the_list_that_a_call_changed_is_read, capabilities_have_lists_of_their_own, a_refresh_starts_no_server_that_is_gone,
        calls_go_on_beside_changed_lists, a_kill_loses_no_list_for_long;
    Postgres: replicas_share_a_catalog;
];

/// A server whose tools are in a file, and which notes its starts. `open` adds the tool `inside` to its own
/// process, `ask` asks the client, and ends the process if it is to, `slow` takes a while. A client that declares elicitation has `eliciting`
/// besides. With `--delay`, lists take as many seconds; with `--noisy`, the lists are said to have changed
/// after the handshake; with `--same`, all clients get the same list.
const SERVER: &str = r#"
import json, os, sys, time
folder = sys.argv[1]
delay = float(sys.argv[sys.argv.index("--delay") + 1]) if "--delay" in sys.argv else 0
open(os.path.join(folder, "starts"), "a").write("x")
inside, asked = [], []
def send(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()
def tool(name):
    return {"name": name, "inputSchema": {"type": "object"}}
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "notifications/initialized" and "--noisy" in sys.argv:
        send(method="notifications/tools/list_changed")
    if asked and message.get("id") == "question":
        send(id=asked.pop(), result={"content": [{"type": "text", "text": message["result"]["action"]}]})
    if "id" not in message or "method" not in message:
        continue
    id, method, params = message["id"], message["method"], message.get("params", {})
    if method == "initialize":
        if "elicitation" in params["capabilities"] and "--same" not in sys.argv:
            inside.append(tool("eliciting"))
        capabilities = {"tools": {"listChanged": True}, "prompts": {}}
        send(id=id, result={"protocolVersion": params["protocolVersion"], "capabilities": capabilities,
            "serverInfo": {"name": "filed", "version": "1"}, "instructions": "use with care"})
    elif method == "tools/list":
        time.sleep(delay)
        if os.path.exists(os.path.join(folder, "refuse")):
            send(id=id, error={"code": -32603, "message": "not logged in"})
            continue
        send(id=id, result={"tools": json.load(open(os.path.join(folder, "tools.json"))) + inside})
    elif method == "prompts/list":
        time.sleep(delay)
        send(id=id, result={"prompts": [{"name": "greet"}]})
    elif method == "tools/call" and params["name"] == "ask":
        asked.append(id)
        send(id="question", method="elicitation/create",
            params={"message": "?", "requestedSchema": {"type": "object", "properties": {}}})
        if params["arguments"].get("die"):
            time.sleep(0.2)
            os._exit(1)
    elif method == "tools/call":
        if params["name"] == "open":
            inside.append(tool("inside"))
            send(method="notifications/tools/list_changed")
        if params["name"] == "slow":
            time.sleep(0.5)
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
        self.registration_with(&[])
    }

    fn registration_with(&self, further: &[&str]) -> Registration {
        let python = programs::find("python3", &[]);
        let python = python.unwrap_or_else(|| tests::not_run("no python3 in PATH")).display().to_string();
        let script = self.folder.join("server.py").display().to_string();
        let folder = self.folder.display().to_string();
        let arguments = [&[&*script, &*folder], further].concat();
        Registration::stdio(self.slug, &python, &arguments).with("era", "legacy")
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
