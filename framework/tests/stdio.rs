//! A provider on two streams: messages of both eras as a client writes them.

use std::sync::Arc;
use std::time::Duration;

use framework::{
    Answer, Code, Effect, Output, Progress, ProviderError, ProviderInfo, Refusal, RequestContext,
    ToolDefinition, ToolOutput, ToolProvider, Tools, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};

struct Probe {
    tools: Tools<Probe>,
}

#[derive(Deserialize, JsonSchema)]
struct Say {
    #[schemars(length(max = 20))]
    text: String,
    count: Option<u8>,
}

#[derive(Serialize, JsonSchema)]
struct Said {
    text: String,
}

impl Probe {
    fn new() -> Self {
        let tools = Tools::new()
            .add("say", "Say", "Repeats a text.", Effect::Read, |_: &Probe, context, Say { text, count }| {
                Box::pin(async move {
                    (context.progress)(Progress { progress: 1.0, total: None, message: Some("halfway") });
                    let text = text.repeat(count.unwrap_or(1).into());
                    let output: Output<Said> = Ok(Answer::with_text(Said { text: text.clone() }, text));
                    output
                })
            })
            .add("hang", "Hang", "Never answers.", Effect::Read, |_, _, Say { .. }| {
                Box::pin(std::future::pending::<Output<Said>>())
            })
            .add("panic", "Panic", "Fails inside.", Effect::Read, |_, _, Say { text, .. }| {
                Box::pin(
                    async move { if text.len() < 99 { panic!("{text}") } else { Ok(Said { text }.into()) } },
                )
            })
            .add("refuse", "Refuse", "Refuses.", Effect::Read, |_, _, Say { text, .. }| {
                Box::pin(async move {
                    let refusal = Refusal::new(Code::VersionConflict, text).fact("etag", "e");
                    let refused: Output<Said> = Err(refusal.into());
                    refused
                })
            });
        Self { tools }
    }
}

#[async_trait]
impl ToolProvider for Probe {
    fn info(&self) -> ProviderInfo {
        ProviderInfo { name: "probe", title: "Probe", version: "1", description: "Repeats." }
    }

    async fn tools(&self, _context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        Ok(self.tools.definitions())
    }

    async fn call(
        &self,
        context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        self.tools.call(self, context, tool, arguments).await
    }
}

struct Client {
    input: Option<WriteHalf<DuplexStream>>,
    output: Lines<BufReader<ReadHalf<DuplexStream>>>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
    fn start() -> Self {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(there);
        let server = tokio::spawn(framework::stdio::serve(Arc::new(Probe::new()), read, write));
        let (read, write) = tokio::io::split(here);
        Self { input: Some(write), output: BufReader::new(read).lines(), server }
    }

    async fn write(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(format!("{line}\n").as_bytes()).await.expect("the server reads");
    }

    async fn read(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(10), self.output.next_line()).await;
        let line = line.expect("an answer in time").expect("the stream is whole").expect("an answer");
        serde_json::from_str(&line).expect("a line is JSON")
    }

    async fn ask(&mut self, id: u32, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write(&request.to_string()).await;
        let answer = self.read().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Ends the input; the server ends by itself.
    async fn end(mut self) {
        let mut input = self.input.take().expect("the input is open");
        input.shutdown().await.expect("the input closes");
        let ended = tokio::time::timeout(Duration::from_secs(20), self.server).await;
        ended.expect("the server ends").expect("it does not panic").expect("the streams are whole");
    }
}

fn modern(mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

#[tokio::test]
async fn a_legacy_client_shakes_hands_lists_and_calls() {
    let mut client = Client::start();
    for (wanted, given) in
        [("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999", "2025-11-25")]
    {
        let params = json!({ "protocolVersion": wanted, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
        let answer = client.ask(1, "initialize", params).await;
        assert_eq!(answer["result"]["protocolVersion"], given);
        assert_eq!(answer["result"]["serverInfo"]["name"], "probe");
    }
    client.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!(client.ask(2, "ping", json!({})).await["result"], json!({}));
    let tools = client.ask(3, "tools/list", json!({})).await["result"]["tools"].clone();
    let schema = &tools[0]["inputSchema"];
    assert_eq!((&tools[0]["name"], &schema["required"]), (&json!("say"), &json!(["text"])));
    assert_eq!(
        (&schema["additionalProperties"], &schema["properties"]["text"]["maxLength"]),
        (&json!(false), &json!(20))
    );
    assert_eq!(tools[0]["outputSchema"]["required"], json!(["text"]));
    assert_eq!(schema["properties"]["count"], json!({ "type": "integer", "minimum": 0, "maximum": 255 }));
    let answer =
        client.ask(4, "tools/call", json!({ "name": "say", "arguments": { "text": "a", "count": 2 } })).await;
    assert_eq!(answer["result"]["structuredContent"], json!({ "text": "aa" }));
    assert!(answer["result"].get("resultType").is_none(), "{answer}");
    client.end().await;
}

#[tokio::test]
async fn a_modern_client_says_everything_itself() {
    let mut client = Client::start();
    let found = client.ask(1, "server/discover", modern(json!({}))).await["result"].clone();
    assert_eq!(found["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(
        (&found["resultType"], &found["ttlMs"], &found["cacheScope"]),
        (&json!("complete"), &json!(0), &json!("private"))
    );
    let tools = client.ask(2, "tools/list", modern(json!({}))).await["result"].clone();
    assert_eq!((tools["tools"].as_array().map(Vec::len), &tools["ttlMs"]), (Some(4), &json!(0)));
    let call = modern(json!({ "name": "say", "arguments": { "text": "b" } }));
    let said = client.ask(3, "tools/call", call).await["result"].clone();
    assert_eq!((&said["resultType"], &said["structuredContent"]["text"]), (&json!("complete"), &json!("b")));
    assert_eq!(said["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "probe");
    for method in ["ping", "initialize", "logging/setLevel", "nonsense"] {
        assert_eq!(client.ask(4, method, modern(json!({}))).await["error"]["code"], -32601, "{method}");
    }
    assert_eq!(client.ask(5, "server/discover", json!({})).await["error"]["code"], -32602);
    let mut old = modern(json!({}));
    old["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2030-01-01");
    let refused = client.ask(6, "tools/list", old).await["error"].clone();
    assert_eq!((&refused["code"], &refused["data"]["supported"]), (&json!(-32022), &json!(["2026-07-28"])));
    client.end().await;
}

#[tokio::test]
async fn a_refusal_does_not_break_the_output_schema() {
    let mut client = Client::start();
    let call = json!({ "name": "refuse", "arguments": { "text": "It changed." } });
    let result = client.ask(1, "tools/call", call).await["result"].clone();
    assert_eq!(result["isError"], true);
    assert!(result.get("structuredContent").is_none(), "clients validate it: {result}");
    let facts = &result["_meta"]["trunkline/refusal"];
    assert_eq!((&facts["code"], &facts["etag"]), (&json!("version_conflict"), &json!("e")));
    assert_eq!(facts["reason"], "It changed.");
    client.end().await;
}

#[tokio::test]
async fn progress_comes_before_the_answer_and_a_cancelled_request_has_none() {
    let mut client = Client::start();
    let hang = r#"{"jsonrpc":"2.0","id":"h","method":"tools/call","params":{"name":"hang","arguments":{"text":""}}}"#;
    client.write(hang).await;
    client.write(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"h"}}"#).await;
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"say","arguments":{"text":"c"},"_meta":{"progressToken":"p"}}}"#;
    client.write(call).await;
    let progress = client.read().await;
    assert_eq!(progress["params"], json!({ "progress": 1.0, "message": "halfway", "progressToken": "p" }));
    assert_eq!(client.read().await["id"], 7);
    client.end().await;
}

#[tokio::test]
async fn bad_input_is_answered_and_the_server_goes_on() {
    let mut client = Client::start();
    for (line, code) in [
        ("{", -32700),
        ("1", -32600),
        (r#"{"id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"nonsense"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"other"}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#, -32601),
    ] {
        client.write(line).await;
        assert_eq!(client.read().await["error"]["code"], code, "{line}");
    }
    let long = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(17 << 20));
    client.write(&long).await;
    assert_eq!(client.read().await["error"]["code"], -32600);
    for (arguments, mistake) in [
        (json!({}), "wrong arguments: `text` is missing"),
        (json!({ "text": "x".repeat(21) }), "wrong arguments: `text` must have at most 20 characters"),
        (json!({ "text": "a", "count": 300 }), "wrong arguments: `count` must be at most 255"),
        (json!({ "text": "a", "other": 1 }), "wrong arguments: `other` is not an argument of this tool"),
    ] {
        let answer = client.ask(2, "tools/call", json!({ "name": "say", "arguments": arguments })).await;
        assert_eq!(answer["result"]["isError"], true);
        assert_eq!(answer["result"]["content"][0]["text"], mistake);
    }
    let panicked =
        client.ask(3, "tools/call", json!({ "name": "panic", "arguments": { "text": "secret" } })).await;
    assert_eq!(panicked["result"]["isError"], true);
    assert!(!panicked.to_string().contains("secret"), "{panicked}");
    client
        .write(r#"[{"jsonrpc":"2.0","id":8,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"}]"#)
        .await;
    assert_eq!(client.read().await, json!([{ "jsonrpc": "2.0", "id": 8, "result": {} }]));
    client.end().await;
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_of_the_input_is_given_up_after_a_while() {
    let mut client = Client::start();
    let hang =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hang","arguments":{"text":""}}}"#;
    client.write(hang).await;
    client.end().await;
}
