//! Every operation of the OpenAPI document, with callers who may not use it: nobody, a revoked key, a key without the
//! scope, and another tenant. What answers otherwise is in `matrix_exceptions.txt`, which only shrinks. Each change is
//! audited.

use std::collections::BTreeMap;

use protocol::Scope;
use reqwest::Method;
use sea_orm::ConnectionTrait;
use tests::programs::workspace;
use tests::{Actor, Backend, Case, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: callers_who_may_not_are_refused_everywhere, each_change_is_audited;
];

/// Operations that answer anybody.
const PUBLIC: [&str; 2] = ["health", "ready"];

struct Operation {
    id: String,
    method: Method,
    path: String,
    /// The scope that the description names.
    scope: Option<String>,
}

fn operations() -> Vec<Operation> {
    let text = std::fs::read_to_string(workspace().join("openapi/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let Some(id) = operation["operationId"].as_str() else { continue };
            let description = operation["description"].as_str().unwrap_or_default().replace('\n', " ");
            let scope = description.split_once("eeds `").and_then(|(_, rest)| rest.split('`').next());
            let (id, scope) = (id.to_owned(), scope.map(str::to_owned));
            all.push(Operation { id, method, path: path.clone(), scope });
        }
    }
    assert!(all.len() > 50, "{}", all.len());
    all
}

/// One thing of each kind in the tenant `default`.
struct Things {
    app: TestApp,
    operator: Actor,
    ids: BTreeMap<&'static str, String>,
}

impl Things {
    async fn make(backend: Backend) -> Things {
        let app = TestApp::start(backend, Settings::new().env("LOOPBACK_ROLE", "none")).await;
        let operator = app.as_operator();
        let id = |answer: Value| answer["id"].as_str().unwrap().to_owned();
        let server = operator.register(Registration::rmcp("fix")).await.id.to_string();
        let config = json!({ "serverId": server, "timeoutMs": 60_000 });
        let config = id(operator.post("/v1/mcp/configs", config).await.json_of(201));
        let agent =
            id(operator.post("/v1/agents", json!({ "slug": "tom", "name": "Tom" })).await.json_of(201));
        let (_, key) = operator.make_key(json!({ "name": "spare", "scopes": ["tools:call"] })).await;
        operator.post("/v1/tasks", json!({ "id": "ours", "title": "Ours" })).await.status(201);
        let file = json!({ "task_id": "ours", "path": "a.txt", "content": "ours" });
        operator.post("/tools/file_write", file).await.status(200);
        let lease = operator
            .post("/tools/claim_file", json!({ "task_id": "ours", "path": "b", "ttl_seconds": 600 }))
            .await;
        let lease = lease.json_of(200)["leaseId"].as_str().unwrap().to_owned();
        let call = json!({ "server": "fix", "tool": "echo", "arguments": { "nonce": "n" } });
        let execution = operator.post("/v1/mcp/execute", call).await.json_of(200);
        let execution = execution["executionId"].as_str().unwrap().to_owned();
        let tenant = operator.get("/v1/tenants").await.json_of(200)["items"][0].clone();
        let ids = BTreeMap::from([
            ("servers", server),
            ("configs", config),
            ("agents", agent),
            ("keys", key),
            ("leases", lease),
            ("executions", execution),
            ("tenants", id(tenant)),
            ("tasks", "ours".to_owned()),
        ]);
        Things { app, operator, ids }
    }

    /// The address of an operation on these things.
    fn path(&self, operation: &Operation) -> String {
        let mut path =
            operation.path.replace("{slug}", "fix").replace("{name}", "task_get").replace("{path}", "a.txt");
        if operation.path.contains("/registry") || operation.path.starts_with("/v0.1") {
            let entry = "io.github.modelcontextprotocol%2Fserver-time";
            // A version that is deleted is named, and is not `latest`.
            let version = if operation.method == Method::DELETE { "2026.10.19" } else { "latest" };
            path = operation.path.replace("{name}", entry).replace("{version}", version);
        }
        if let Some((before, _)) = operation.path.split_once("/{id}") {
            let kind = before.rsplit('/').next().unwrap();
            path = path.replace("{id}", &self.ids[kind]);
        }
        match operation.id.as_str() {
            "effective_config" => path + "?server=fix",
            "explain" => path + "?tool=fix__echo",
            _ => path,
        }
    }

    /// A body that the operation takes.
    fn body(&self, operation: &Operation) -> Option<Value> {
        Some(match operation.id.as_str() {
            "create_agent" => json!({ "slug": "new", "name": "New" }),
            "create_key" => json!({ "name": "new", "scopes": ["tools:call"], "agentId": self.ids["agents"] }),
            "create_token" => json!({ "agentId": self.ids["agents"], "scopes": ["tools:call"] }),
            "create_config" => json!({ "serverId": self.ids["servers"], "agentId": self.ids["agents"] }),
            "update_config" => json!({ "timeoutMs": 50_000 }),
            "create_server" => {
                json!({ "slug": "new", "name": "New", "transport": "streamable-http", "url": "https://example.com/mcp" })
            }
            "update_server" => json!({ "name": "Changed" }),
            "create_task" => json!({ "id": "new", "title": "New" }),
            "update_task" => json!({ "title": "Changed" }),
            "update_record_settings" => json!({ "retentionDays": 30 }),
            "create_tenant" => json!({ "slug": "new", "name": "New" }),
            "execute_tool" => {
                json!({ "server": self.ids["servers"], "tool": "echo", "arguments": { "nonce": "n" } })
            }
            "install_entry" => json!({}),
            "publish_entry" => json!({ "server": self.document("published"), "category": "trials" }),
            "import_entries" => json!({ "servers": [self.document("imported")] }),
            "update_entry" => json!({ "featured": true }),
            "rate_entry" => json!({ "stars": 5 }),
            "call_tool" => json!({ "task_id": "ours" }),
            "call_mcp" | "call_rpc" | "call_mcp_server" => {
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} })
            }
            _ => return None,
        })
    }

    /// A document for the marketplace.
    fn document(&self, name: &str) -> Value {
        let remotes = json!([{ "type": "streamable-http", "url": "https://example.com/mcp" }]);
        let name = format!("com.example/{name}");
        json!({ "name": name, "description": "For trials", "version": "1.0.0", "remotes": remotes })
    }

    async fn ask(&self, actor: &Actor, operation: &Operation) -> (u16, String) {
        let body = self.body(operation).map(|body| body.to_string().into_bytes());
        let mut headers = vec![("accept", "application/json, text/event-stream")];
        headers.extend(body.is_some().then_some(("content-type", "application/json")));
        let path = self.path(operation);
        let answer = actor.open(operation.method.clone(), &path, &headers, body).await.unwrap();
        let status = answer.status().as_u16();
        let streams = answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
        (status, if streams { String::new() } else { answer.text().await.unwrap() })
    }

    /// Everything that an operation could have changed.
    async fn state(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for list in
            ["servers", "configs", "agents", "keys", "tasks", "leases", "audit", "tenants", "executions"]
        {
            let path = match list {
                "servers" | "configs" | "executions" => format!("/v1/mcp/{list}"),
                _ => format!("/v1/{list}"),
            };
            let mut items = self.operator.get(&path).await.json_of(200)["items"].take();
            for item in items.as_array_mut().unwrap() {
                for passing in
                    ["lastUsedAt", "state", "stateReason", "stateSince", "lastSuccessAt", "expiresInMs"]
                {
                    item.as_object_mut().unwrap().remove(passing);
                }
            }
            all.push(items);
        }
        all
    }
}

async fn callers_who_may_not_are_refused_everywhere(backend: Backend) {
    let things = Things::make(backend).await;
    let (app, operator) = (&things.app, &things.operator);
    let nobody = app.anonymous_from_loopback();
    let names = || Scope::ALL.iter().map(|scope| scope.as_str());
    let all = json!({ "name": "all", "scopes": names().collect::<Vec<_>>() });
    let (revoked, revoked_id) = operator.make_key(all).await;
    operator.delete(&format!("/v1/keys/{revoked_id}")).await.status(204);
    let revoked = app.with_key(&revoked);
    let stranger = app.as_tenant_admin("other").await;
    let mut lacking = BTreeMap::new();
    for scope in names() {
        // An operator may do what administrators of a tenant may.
        let wide = |one: &&str| *one != scope && (scope == "tenants:admin" || *one != "tenants:admin");
        let scopes: Vec<&str> = names().filter(wide).collect();
        let (secret, _) =
            operator.make_key(json!({ "name": format!("without {scope}"), "scopes": scopes })).await;
        lacking.insert(scope, app.with_key(&secret));
    }
    let before = things.state().await;
    let mut found = Vec::new();
    for operation in operations() {
        if PUBLIC.contains(&operation.id.as_str()) {
            continue;
        }
        let mut check = |case: &str, status: u16, expected: u16| {
            if status != expected {
                found.push(format!("{} {case} {status}", operation.id));
            }
        };
        check("anonymous", things.ask(&nobody, &operation).await.0, 401);
        check("revoked", things.ask(&revoked, &operation).await.0, 401);
        match operation.scope.as_deref().and_then(|scope| lacking.get(scope)) {
            Some(without) => check("scope", things.ask(without, &operation).await.0, 403),
            None => check("scope", 0, 403),
        }
        let (status, text) = things.ask(&stranger, &operation).await;
        // The marketplace is the same for all.
        let common = operation.path.contains("/registry") || operation.path.starts_with("/v0.1");
        let named = !common && things.path(&operation) != operation.path
            || things
                .body(&operation)
                .is_some_and(|body| things.ids.values().any(|id| body.to_string().contains(id)));
        if named {
            check("tenant", status, 404);
        }
        // The log of changes names the operator who made the other tenant.
        let shown =
            things.ids.iter().filter(|(kind, _)| operation.id != "list_audit_events" || **kind != "tenants");
        for id in shown.map(|(_, id)| id).filter(|id| id.len() > 8) {
            assert!(
                status == 404 || !text.contains(id),
                "{} shows another tenant's {id}: {text}",
                operation.id
            );
        }
    }
    let exceptions =
        std::fs::read_to_string(workspace().join("tests/tests/gateway/matrix_exceptions.txt")).unwrap();
    let listed: Vec<&str> = exceptions
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(found, listed, "what answers otherwise, and what the exceptions list");
    assert_eq!(things.state().await, before, "nothing was changed");
}

/// Operations that change something and have no audit event, with the reason.
const UNAUDITED: [(&str, &str); 9] = [
    ("execute_tool", "a call is in the record"),
    ("call_tool", "a call is in the record"),
    ("call_rpc", "calls are in the record"),
    ("call_mcp", "calls are in the record"),
    ("call_mcp_server", "calls are in the record"),
    ("check_server", "it changes nothing"),
    ("install_entry", "a plan changes nothing; what is approved is a `server.create`"),
    ("create_task", "it is in the log of the task"),
    ("update_task", "it is in the log of the task"),
];

async fn each_change_is_audited(backend: Backend) {
    let things = Things::make(backend).await;
    let mut changes: Vec<Operation> = operations();
    changes.retain(|operation| operation.method != Method::GET && !operation.path.starts_with("/mcp"));
    // What is deleted is not needed after it: leases before their task, configs before their server.
    let order = |operation: &Operation| match operation.id.as_str() {
        "delete_tenant" => None,
        "delete_server" | "delete_task" | "delete_agent" | "delete_entry_version" => Some(3),
        "force_release" | "delete_config" | "delete_key" | "delete_rating" => Some(2),
        "stop_server" => Some(1),
        _ => Some(0),
    };
    changes.retain(|operation| order(operation).is_some());
    changes.sort_by_key(order);
    let database = things.app.storage.connect(&things.app.data_dir()).await;
    let count = "SELECT count(*) FROM audit_events";
    let events = async || {
        let statement = sea_orm::Statement::from_string(database.get_database_backend(), count);
        let row = database.query_one_raw(statement).await.unwrap().unwrap();
        u64::try_from(row.try_get_by_index::<i64>(0).unwrap()).unwrap()
    };
    for operation in changes {
        let before = events().await;
        let (status, text) = things.ask(&things.operator, &operation).await;
        assert!((200..300).contains(&status), "{}: {status} {text}", operation.id);
        let written = events().await - before;
        let unaudited = UNAUDITED.iter().any(|(id, _)| *id == operation.id);
        assert_eq!(written, u64::from(!unaudited), "{} wrote {written} audit events", operation.id);
    }
    let tenant = things.operator.get("/v1/tenants").await.json_of(200)["items"].as_array().unwrap().clone();
    let new =
        tenant.iter().find(|tenant| tenant["slug"] == "new").unwrap()["id"].as_str().unwrap().to_owned();
    let before = events().await;
    things.operator.delete(&format!("/v1/tenants/{new}")).await.status(204);
    assert_eq!(events().await, before + 1);
}
