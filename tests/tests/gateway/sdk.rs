//! Somebody else's client: the official SDK over Streamable HTTP, against the plain door and, in each of
//! its ways to begin, against servers of either era.

#![expect(deprecated, reason = "sampling and roots are served until they are gone")]

use rmcp::model::{
    CallToolRequestParams, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ListRootsResult, ProtocolVersion,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RequestContext};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ErrorData, RoleClient, ServiceExt};
use tests::{Actor, Backend, Case, Registration, Settings, TestApp, cases, json};

use crate::pair::{DOORS, Pair, replied};

pub const CASES: &[Case] = cases![Every: an_official_client_works, an_official_client_crosses_the_eras;];

async fn an_official_client_works(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    let transport = transport(&agent, "/mcp/rpc");
    let client = ClientConfig::default().serve(transport).await.expect("the client initializes");
    let tools = client.list_all_tools().await.expect("the client lists tools");
    assert!(tools.iter().any(|tool| tool.name == "fix__echo"), "{tools:?}");
    for nonce in ["one", "two", "three"] {
        let arguments = json!({ "nonce": nonce }).as_object().cloned().unwrap();
        let call = CallToolRequestParams::new("fix__echo").with_arguments(arguments);
        let answer = client.call_tool(call).await.expect("the client calls a tool");
        assert_eq!(serde_json::to_value(&answer).unwrap()["content"][0]["text"], nonce);
    }
    let refused = client.call_tool(CallToolRequestParams::new("fix__nothing")).await;
    assert!(refused.is_err(), "an unknown tool is an error for the client: {refused:?}");
    let prompts = client.list_all_prompts().await.expect("the client lists prompts");
    assert_eq!(prompts.iter().filter(|prompt| prompt.name == "fix__greet").count(), 1);
    let _ = client.cancel().await;
    let executions = agent_rows(&app).await;
    assert_eq!(executions.len(), 3, "{executions:#?}");
}

fn transport(agent: &Actor, path: &str) -> StreamableHttpClientTransport<reqwest::Client> {
    let secret = agent.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1.clone();
    let config = StreamableHttpClientTransportConfig::with_uri(agent.url(path)).auth_header(secret);
    StreamableHttpClientTransport::from_config(config)
}

/// A client that answers whatever it is asked.
struct Willing;

impl ClientHandler for Willing {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.capabilities = serde_json::from_value(tests::mcp_client::everything()).unwrap();
        config
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(serde_json::from_value(replied(&json!({ "method": "sampling/createMessage" }))).unwrap())
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(serde_json::from_value(replied(&json!({ "method": "roots/list" }))).unwrap())
    }

    async fn create_elicitation(
        &self,
        asked: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let question = json!({ "method": "elicitation/create", "params": asked });
        Ok(serde_json::from_value(replied(&question)).unwrap())
    }
}

async fn an_official_client_crosses_the_eras(backend: Backend) {
    let modern = || vec![ProtocolVersion::V_2026_07_28];
    for era in ["legacy", "modern"] {
        let pair = Pair::start(backend, &["--era", era]).await;
        for door in DOORS {
            for mode in [
                ClientLifecycleMode::Initialize,
                ClientLifecycleMode::Discover { preferred_versions: modern() },
                ClientLifecycleMode::Auto { preferred_versions: modern(), legacy_version: None },
            ] {
                let what = format!("{era} {door:?} {mode:?}");
                let transport = transport(&pair.alice, door.path());
                let client = Willing.serve_with_lifecycle(transport, mode).await;
                let client = client.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                let tools = client.list_all_tools().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert!(tools.iter().any(|tool| tool.name == door.name("test_sampling")), "{what}");
                for (tool, says) in [
                    ("test_simple_text", "This is a simple"),
                    ("test_elicitation", "the user says \"accept\""),
                    ("test_sampling", "the model says: Paris"),
                    ("test_list_roots", "the roots are file:///home/ada"),
                    ("test_input_required_result_multi_round", "Ada likes Ada"),
                ] {
                    let call = CallToolRequestParams::new(door.name(tool));
                    let result = client.call_tool(call).await;
                    let result = result.unwrap_or_else(|error| panic!("{what} {tool}: {error:?}"));
                    let text = serde_json::to_value(&result).unwrap()["content"][0]["text"].to_string();
                    assert!(text.replace("\\\"", "\"").contains(says), "{what} {tool}: {text}");
                }
                assert_eq!(client.list_all_prompts().await.unwrap().len(), 5, "{what}");
                let _ = client.cancel().await;
            }
        }
    }
}

/// The recorded echo calls.
async fn agent_rows(app: &TestApp) -> Vec<tests::Value> {
    app.as_operator().executions("tool=echo&outcome=ok").await
}
