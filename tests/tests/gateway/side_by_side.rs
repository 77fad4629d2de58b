//! Two tenants with the same slugs, tools, agents and task ids, side by side under load: no list, search, stream,
//! statistic or record of one shows anything of the other's.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tests::{Actor, Backend, Case, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: neither_sees_anything_of_the_other;
];

const WORKERS: usize = 4;
const ROUNDS: usize = 12;

/// A tenant whose things all carry its mark.
#[derive(Clone)]
struct Side {
    admin: Actor,
    agent: Actor,
    mark: &'static str,
    other: &'static str,
}

impl Side {
    async fn furnish(app: &TestApp, mark: &'static str, other: &'static str) -> Side {
        let operator = app.as_operator_for(mark).await;
        let registration = Registration::rmcp("same")
            .with("name", format!("Name {mark}"))
            .with("description", format!("For {mark}"))
            .with("tags", json!(["shared", mark]))
            .with("env", json!({ "MARK": mark }));
        operator.register(registration).await;
        let admin = app.as_tenant_admin(mark).await;
        let agent = json!({ "slug": "alice", "name": format!("Alice {mark}") });
        let agent = admin.post("/v1/agents", agent).await.json_of(201)["id"].clone();
        let (key, _) =
            admin.make_key(json!({ "name": format!("k {mark}"), "role": "agent", "agentId": agent })).await;
        let config = json!({ "serverId": "same", "describe": { "echo": format!("Echo of {mark}") } });
        admin.post("/v1/mcp/configs", config).await.status(201);
        admin.post("/v1/tasks", json!({ "id": "t", "title": format!("Task {mark}") })).await.status(201);
        Side { admin, agent: app.with_key(&key), mark, other }
    }

    /// Checks that an answer is about this side alone.
    fn owns(&self, what: &str, text: &str) {
        assert!(!text.contains(self.other), "{what} of {} shows {}: {text}", self.mark, self.other);
    }

    async fn reads(&self, path: &str) {
        let answer = self.admin.get(path).await;
        answer.must((200..300).contains(&answer.status), "it may be read");
        self.owns(path, &answer.text());
    }

    async fn work(&self, worker: usize) {
        for round in 0..ROUNDS {
            let said = format!("{} {worker} {round}", self.mark);
            assert_eq!(self.agent.call("same__echo", json!({ "nonce": said })).await.tool_text(), said);
            let env = self.agent.call("same__env", json!({ "name": "MARK" })).await.tool_text();
            assert_eq!(env, self.mark);
            self.agent.call("calculator__add", json!({ "a": round, "b": 1 })).await.tool_text();
            let listed = self.agent.rpc("tools/list", json!({})).await.text();
            assert!(listed.contains(&format!("Echo of {}", self.mark)), "{listed}");
            self.owns("tools/list", &listed);
            for method in ["resources/list", "prompts/list", "mcp.listServices"] {
                self.owns(method, &self.agent.rpc(method, json!({})).await.text());
            }
            let path = format!("{worker}.txt");
            let file = json!({ "task_id": "t", "path": path, "content": said });
            self.agent.post("/tools/file_write", file).await.status(200);
            let file = self.agent.post("/tools/file_read", json!({ "task_id": "t", "path": path })).await;
            assert_eq!(file.json_of(200)["content"], said, "a file of the same name");
            let step = json!({ "task_id": "t", "step": said });
            self.agent.post("/tools/log_step", step).await.status(200);
            self.owns(
                "task_get",
                &self.agent.post("/tools/task_get", json!({ "task_id": "t" })).await.text(),
            );
            for path in [
                "/v1/mcp/servers?search=shared",
                "/v1/mcp/servers/same/usage",
                "/v1/mcp/executions?limit=20",
                "/v1/mcp/executions?server=same&agent=alice",
                "/v1/mcp/executions/stats?by=server,tool,agent",
                "/v1/mcp/executions/export?tool=echo",
                "/v1/mcp/configs",
                "/v1/mcp/explain?tool=same__echo&agent=alice",
                "/v1/agents",
                "/v1/keys",
                "/v1/tasks",
                "/v1/tasks/t/files",
                "/v1/leases",
                "/v1/audit?pageSize=50",
            ] {
                self.reads(path).await;
            }
        }
    }

    /// Follows the task's events until this many bytes came, or for ten seconds.
    async fn follow(&self) {
        let headers = [("accept", "text/event-stream")];
        let opened = self.admin.open(Method::GET, "/v1/tasks/t/events", &headers, None).await;
        let mut stream = opened.expect("a stream");
        let mut text = String::new();
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        while let Ok(Ok(Some(part))) = tokio::time::timeout_at(until, stream.chunk()).await {
            text += &String::from_utf8_lossy(&part);
            if text.len() > 200_000 {
                break;
            }
        }
        self.owns("the stream of events", &text);
        assert!(text.contains(self.mark), "one's own steps arrive: {text}");
    }
}

async fn neither_sees_anything_of_the_other(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("RATE_LIMIT_MAX_REQUESTS", "0")).await;
    let (left, right) = ("acme-7f3a", "globex-91c2");
    let sides = [Side::furnish(&app, left, right).await, Side::furnish(&app, right, left).await];
    let mut work = tokio::task::JoinSet::new();
    for side in sides.iter().cloned().map(Arc::new) {
        let follower = Arc::clone(&side);
        work.spawn(async move { follower.follow().await });
        for worker in 0..WORKERS {
            let side = Arc::clone(&side);
            work.spawn(async move { side.work(worker).await });
        }
    }
    while let Some(done) = work.join_next().await {
        done.expect("a worker has no objection");
    }
    // Each call is counted once, with its own tenant.
    let calls = (WORKERS * ROUNDS) as u64;
    for side in &sides {
        let groups = side.admin.get("/v1/mcp/executions/stats?by=server,tool").await.json_of(200);
        let of = |tool: &str| {
            let groups = groups["items"].as_array().expect("groups");
            groups.iter().find(|group| group["tool"] == tool).map(|group| group["calls"].clone())
        };
        for tool in ["echo", "env", "add"] {
            assert_eq!(of(tool), Some(Value::from(calls)), "{tool} of {}: {groups:#}", side.mark);
        }
        let one = sides.iter().find(|other| other.mark != side.mark).expect("the other side");
        let theirs = one.admin.executions("tool=echo").await[0]["id"].as_str().expect("an id").to_owned();
        side.admin.get(&format!("/v1/mcp/executions/{theirs}")).await.problem(tests::Code::NotFound);
    }
}
