//! What a provider of a built-in server is given with a request, through the pool and the bridge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use libtest_mimic::Trial;
use parking_lot::Mutex;
use protocol::mcp::Era;
use protocol::provider::{
    Cancellation, Progress, ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput,
    ToolProvider,
};
use protocol::{Caller, CallerKind, Code, Refusal, Scopes, TenantId};
use proxy::bridge::{Bridge, Client, Sealer, UpstreamCall};
use proxy::pool::PoolKey;
use proxy::server::{BuiltinLaunch, Launch};
use proxy::upstream::{Listener, Params, UpstreamAnswer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::{App, Server, refused};
use crate::builtin::{Echo, builtin, info, tool};
use crate::ear::Ear;
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_provider_knows_who_asks_and_its_settings", a_provider_knows),
        test("a_request_that_is_given_up_reaches_the_provider", given_up),
        test("a_deadline_reaches_the_provider", a_deadline),
        test("progress_of_a_provider_has_the_clients_token", progress),
        test("lists_resources_and_prompts_of_a_tenant", lists),
    ]
}

/// A provider that uses everything a context has.
#[derive(Default)]
struct Probe {
    /// The cancellation of the call of `hang`, and the deadline it was given.
    hanging: Mutex<Option<(Cancellation, Instant)>>,
    dropped: Arc<AtomicBool>,
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl ToolProvider for Probe {
    fn info(&self) -> ProviderInfo {
        info("probe")
    }

    async fn tools(&self, context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        let own = tool(format!("of_{}", context.tenant.0.simple()));
        Ok(vec![tool("context".to_owned()), tool("hang".to_owned()), tool("steps".to_owned()), own])
    }

    async fn call(
        &self,
        context: &RequestContext<'_>,
        tool: &str,
        _arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        let seen = match tool {
            "hang" => {
                *self.hanging.lock() = Some((context.cancellation.clone(), context.deadline));
                let _guard = SetOnDrop(Arc::clone(&self.dropped));
                std::future::pending().await
            }
            "steps" => {
                for (step, message) in [(0.5, Some("half")), (1.0, None)] {
                    (context.progress)(Progress { progress: step, total: Some(1.0), message });
                }
                Value::Null
            }
            "context" => json!({
                "tenant": context.tenant.to_string(),
                "caller": context.caller.map(|caller| caller.tenant_slug.clone()),
                "settings": context.settings,
                "secrets": context.secrets,
            }),
            other if other == format!("of_{}", context.tenant.0.simple()) => Value::Null,
            _ => return Err(ProviderError::NotFound),
        };
        Ok(ToolOutput { text: "done".to_owned(), structured: Some(seen) })
    }

    fn has_resources(&self) -> bool {
        true
    }

    async fn resources(&self, context: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        Ok(vec![json!({ "uri": format!("probe://{}", context.tenant), "name": "own" })])
    }

    async fn resource_templates(&self, _: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        Ok(vec![json!({ "uriTemplate": "probe://{tenant}", "name": "one" })])
    }

    async fn read_resource(
        &self,
        context: &RequestContext<'_>,
        uri: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        match uri.strip_prefix("probe://") {
            Some("broken") => Err(ProviderError::Failed("the disk is gone".to_owned())),
            Some("panic") => panic!("inside"),
            Some(tenant) if tenant == context.tenant.to_string() => {
                Ok(vec![json!({ "uri": uri, "text": "mine" })])
            }
            _ => Err(ProviderError::NotFound),
        }
    }

    fn has_prompts(&self) -> bool {
        true
    }

    async fn prompts(&self, _: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        Ok(vec![json!({ "name": "greet", "arguments": [{ "name": "whom" }] })])
    }

    async fn get_prompt(
        &self,
        _: &RequestContext<'_>,
        name: &str,
        arguments: &RawValue,
    ) -> Result<Value, ProviderError> {
        if name != "greet" {
            return Err(ProviderError::NotFound);
        }
        let text = format!("Greet {}.", arguments.get());
        Ok(json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": text } }] }))
    }
}

fn probe() -> (App, Arc<Probe>, Server) {
    let probe = Arc::new(Probe::default());
    let app = App::with_builtins(vec![probe.clone()]);
    let server = app.fixture_with(&[], |spec| {
        spec.launch = Launch::Builtin(BuiltinLaunch {
            provider: "probe".to_owned(),
            settings: json!({ "root": "/data" }),
            secrets: BTreeMap::from([("TOKEN".to_owned(), "s3cret".to_owned())]),
        });
    });
    (app, probe, server)
}

fn caller(tenant: TenantId) -> Caller {
    Caller {
        tenant,
        tenant_slug: "acme".to_owned(),
        agent: None,
        agent_slug: None,
        own_agent: false,
        credential: None,
        kind: CallerKind::ApiKey,
        scopes: Scopes::default(),
    }
}

/// A seal that changes nothing.
struct Plainly;

impl Sealer for Plainly {
    fn seal(&self, text: &str) -> String {
        text.to_owned()
    }

    fn open(&self, sealed: &str) -> Result<String, Refusal> {
        Ok(sealed.to_owned())
    }
}

/// Calls a tool as a client does, through the bridge, and gives the result.
async fn bridged(
    app: &App,
    server: &Server,
    era: Era,
    tool: &str,
    client_channel: Option<Arc<dyn Listener>>,
    timeout: Duration,
) -> Result<Value, Refusal> {
    let bridge = Bridge::new(app.pool.clone());
    let client = Arc::new(Client::new(era, "2025-11-25", None));
    let params = json!({ "name": tool, "arguments": { "text": "" }, "_meta": { "progressToken": "mine" } });
    let params = params.to_string();
    let caller = caller(app.tenant);
    let call = UpstreamCall {
        client: &client,
        method: "tools/call",
        params: Params::raw(params.as_bytes()),
        has_meta: true,
        timeout,
        client_channel,
        sealer: &Plainly,
        headers: &[],
        caller: Some(&caller),
        retries: None,
    };
    match bridge.deliver(&server.selected(), call).await?.answer {
        UpstreamAnswer::Result(result) => Ok(serde_json::from_slice(&result).unwrap()),
        UpstreamAnswer::Error(error) => panic!("{error:?}"),
    }
}

async fn a_provider_knows() {
    let (app, _, server) = probe();
    let result = bridged(&app, &server, Era::Legacy, "context", None, Duration::from_secs(5)).await.unwrap();
    let seen = json!({
        "tenant": app.tenant.to_string(),
        "caller": "acme",
        "settings": { "root": "/data" },
        "secrets": { "TOKEN": "s3cret" },
    });
    assert_eq!(result["structuredContent"], seen);
    assert!(!format!("{:?}", server.spec).contains("s3cret"), "a secret is not for the log");
}

async fn given_up() {
    for era in [Era::Legacy, Era::Modern] {
        let (app, probe, server) = probe();
        let ear: Arc<dyn Listener> = Ear::new();
        let call = bridged(&app, &server, era, "hang", Some(ear), Duration::from_secs(60));
        assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
        // The future of the call is dropped by now, as it is when a client cancels.
        let (cancellation, _) = probe.hanging.lock().take().expect("the call reached the provider");
        assert!(cancellation.is_cancelled() && probe.dropped.load(Ordering::SeqCst), "{era:?}");
    }
}

async fn a_deadline() {
    for era in [Era::Legacy, Era::Modern] {
        let (app, probe, server) = probe();
        let ear: Arc<dyn Listener> = Ear::new();
        let begun = Instant::now();
        let call = bridged(&app, &server, era, "hang", Some(ear), Duration::from_millis(300)).await;
        refused(call, Code::TimedOut, "did not answer");
        let (cancellation, deadline) = probe.hanging.lock().take().expect("the call reached the provider");
        let given = deadline.duration_since(begun);
        assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&given), "{given:?}");
        assert!(cancellation.is_cancelled() && probe.dropped.load(Ordering::SeqCst), "{era:?}");
    }
}

async fn progress() {
    for era in [Era::Legacy, Era::Modern] {
        let (app, _, server) = probe();
        let ear = Ear::new();
        let client_channel: Arc<dyn Listener> = ear.clone();
        bridged(&app, &server, era, "steps", Some(client_channel), Duration::from_secs(5)).await.unwrap();
        let told: Vec<(String, Value)> = ear
            .told()
            .iter()
            .map(|told| told.split_once(' ').unwrap())
            .map(|(method, params)| (method.to_owned(), serde_json::from_str(params).unwrap()))
            .collect();
        let expected = [
            json!({ "progress": 0.5, "total": 1.0, "message": "half", "progressToken": "mine" }),
            json!({ "progress": 1.0, "total": 1.0, "progressToken": "mine" }),
        ];
        assert_eq!(told, expected.map(|params| ("notifications/progress".to_owned(), params)), "{era:?}");
    }
}

async fn lists() {
    let (_app, _, server) = probe();
    let other = Server { key: PoolKey { tenant: TenantId::new(), ..server.key }, ..server.clone() };
    let ask = async |server: &Server, method: &str, params: Value| {
        let answer =
            server.request(method, &params.to_string(), Duration::from_secs(5)).await.unwrap().answer;
        let (UpstreamAnswer::Result(json) | UpstreamAnswer::Error(json)) = answer;
        serde_json::from_slice::<Value>(&json).unwrap()
    };
    for server in [&server, &other] {
        let tenant = server.key.tenant;
        let own = format!("of_{}", tenant.0.simple());
        // Called before it is listed, too.
        let called = ask(server, "tools/call", json!({ "name": own, "arguments": { "text": "" } })).await;
        assert_eq!(called["isError"], false, "{called}");
        let tools = ask(server, "tools/list", json!({})).await;
        assert_eq!(tools["tools"][3]["name"], own);
        assert!(tools["tools"][0].get("outputSchema").is_none());
        let uri = format!("probe://{tenant}");
        let resources = ask(server, "resources/list", json!({})).await;
        assert_eq!(resources, json!({ "resources": [{ "uri": uri, "name": "own" }] }));
        let read = ask(server, "resources/read", json!({ "uri": uri })).await;
        assert_eq!(read, json!({ "contents": [{ "uri": uri, "text": "mine" }] }));
    }
    let foreign = json!({ "uri": format!("probe://{}", other.key.tenant) });
    assert_eq!(ask(&server, "resources/read", foreign).await["code"], -32002);
    let templates = ask(&server, "resources/templates/list", json!({})).await;
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "probe://{tenant}");
    for (uri, part) in [("probe://broken", "the disk is gone"), ("probe://panic", "failed inside")] {
        let error = ask(&server, "resources/read", json!({ "uri": uri })).await;
        assert!(error["code"] == -32603 && error["message"].as_str().unwrap().contains(part), "{error}");
    }
    assert_eq!(ask(&server, "prompts/list", json!({})).await["prompts"][0]["name"], "greet");
    let greeting =
        ask(&server, "prompts/get", json!({ "name": "greet", "arguments": { "whom": "all" } })).await;
    assert_eq!(greeting["messages"][0]["content"]["text"], r#"Greet {"whom":"all"}."#);
    assert_eq!(ask(&server, "prompts/get", json!({ "name": "x" })).await["code"], -32602);
    assert_eq!(ask(&server, "prompts/get", json!({})).await["code"], -32602);
    let initialized = ask(&server, "initialize", json!({})).await;
    let capability = json!({ "listChanged": false });
    for name in ["tools", "resources", "prompts"] {
        assert_eq!(initialized["capabilities"][name], capability, "{name}");
    }
    let plain = App::with_builtins(vec![Arc::new(Echo)]);
    let plain = builtin(&plain, "echo");
    for method in ["resources/list", "resources/read", "prompts/list", "prompts/get"] {
        assert_eq!(ask(&plain, method, json!({})).await["code"], -32601, "{method}");
    }
}
