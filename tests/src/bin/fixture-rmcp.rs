//! A well-behaved MCP server on standard input and output, built on the official SDK: what a gateway
//! meets every day. Knows nothing of the gateway.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams, Prompt,
    PromptArgument, PromptMessage, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    Resource, ResourceContents, ResourceTemplate, Role, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router,
};

/// What the prompt's argument completes to.
const STYLES: [&str; 3] = ["formal", "friendly", "funny"];

struct Fixture {
    tool_router: ToolRouter<Self>,
    /// Whether the tool `late_comer` is there; `grow` puts it there and says so.
    grown: AtomicBool,
    calls: Mutex<u64>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct EchoArguments {
    nonce: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct AddArguments {
    a: f64,
    b: f64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct SleepArguments {
    ms: u64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct EnvArguments {
    name: String,
}

#[tool_router]
impl Fixture {
    #[tool(description = "Answers with the nonce it was given")]
    fn echo(&self, Parameters(EchoArguments { nonce }): Parameters<EchoArguments>) -> String {
        *self.calls.lock().expect("counting does not panic") += 1;
        nonce
    }

    #[tool(description = "Adds two numbers")]
    fn add(&self, Parameters(AddArguments { a, b }): Parameters<AddArguments>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "Sleeps so many milliseconds")]
    async fn sleep(&self, Parameters(SleepArguments { ms }): Parameters<SleepArguments>) -> String {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        format!("slept {ms} ms")
    }

    #[tool(description = "Fails, as a tool does")]
    fn fail(&self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text("this tool fails on purpose")])
    }

    #[tool(description = "Needs no arguments and counts the calls of echo")]
    fn count(&self) -> String {
        self.calls.lock().expect("counting does not panic").to_string()
    }

    #[tool(description = "The value of an environment variable, or `(unset)`")]
    fn env(&self, Parameters(EnvArguments { name }): Parameters<EnvArguments>) -> String {
        std::env::var(name).unwrap_or_else(|_| "(unset)".to_owned())
    }

    #[tool(description = "The number of this process")]
    fn pid(&self) -> String {
        std::process::id().to_string()
    }

    #[tool(description = "Adds the tool late_comer and says that the list has changed")]
    async fn grow(&self, peer: Peer<RoleServer>) -> String {
        self.grown.store(true, Ordering::Relaxed);
        match peer.notify_tool_list_changed().await {
            Ok(()) => "grown".to_owned(),
            Err(error) => format!("grown, but nobody was told: {error}"),
        }
    }

    #[tool(description = "There only after grow")]
    fn late_comer(&self) -> String {
        "here now".to_owned()
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_prompts()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities).with_instructions("A fixture for trials")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let grown = self.grown.load(Ordering::Relaxed);
        let visible = |tool: &Tool| grown || tool.name != "late_comer";
        let tools = self.tool_router.list_all().into_iter().filter(visible).collect();
        Ok(ListToolsResult { tools, ..Default::default() })
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resources = vec![Resource::new("fixture://greeting", "greeting").with_mime_type("text/plain")];
        Ok(ListResourcesResult { resources, ..Default::default() })
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let resource_templates = vec![ResourceTemplate::new("fixture://number/{n}", "number")];
        Ok(ListResourceTemplatesResult { resource_templates, ..Default::default() })
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let text = match request.uri.as_str() {
            "fixture://greeting" => "hello".to_owned(),
            uri => match uri.strip_prefix("fixture://number/") {
                Some(number) => format!("the number {number}"),
                None => return Err(ErrorData::resource_not_found("no such resource", None)),
            },
        };
        Ok(ReadResourceResult::new(vec![ResourceContents::text(text, request.uri)]).into())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let argument = PromptArgument::new("style").with_description("how to greet").with_required(false);
        let prompts = vec![Prompt::new("greet", Some("Asks for a greeting"), Some(vec![argument]))];
        Ok(ListPromptsResult { prompts, ..Default::default() })
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name != "greet" {
            return Err(ErrorData::invalid_params("no such prompt", None));
        }
        let arguments = request.arguments.unwrap_or_default();
        let style = arguments.get("style").and_then(|style| style.as_str()).unwrap_or("plain");
        let message = PromptMessage::new_text(Role::User, format!("Greet me in a {style} way."));
        Ok(GetPromptResult::new(vec![message]).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = request.argument.value;
        let fitting = STYLES.iter().filter(|style| style.starts_with(&begun)).map(|s| (*s).to_owned());
        let completion =
            CompletionInfo::new(fitting.collect()).map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(CompleteResult::new(completion))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    eprintln!("fixture-rmcp is ready");
    let fixture =
        Fixture { tool_router: Fixture::tool_router(), grown: AtomicBool::new(false), calls: Mutex::new(0) };
    fixture.serve(rmcp::transport::stdio()).await?.waiting().await?;
    Ok(())
}
