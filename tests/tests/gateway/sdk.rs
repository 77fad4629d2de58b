//! Somebody else's client: the official SDK over Streamable HTTP against the plain door.

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, ClientConfig};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tests::{Backend, Case, Registration, Settings, TestApp, cases, json};

pub const CASES: &[Case] = cases![Every: an_official_client_works;];

async fn an_official_client_works(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    let secret = agent.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1.clone();
    let config = StreamableHttpClientTransportConfig::with_uri(agent.url("/mcp/rpc")).auth_header(secret);
    let transport = StreamableHttpClientTransport::from_config(config);
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

/// The recorded echo calls.
async fn agent_rows(app: &TestApp) -> Vec<tests::Value> {
    app.as_operator().executions("tool=echo&outcome=ok").await
}
