//! Lists that a server gives in pages: where they end, and what becomes of those that are none.

use tests::raw_server::Raw;
use tests::{Backend, McpClient, TestApp, Value, json};

use super::rows::Way;
use super::{gateway, registration};

/// A page with the tool of this name, and what follows it.
fn page(tool: &str, next: &str) -> String {
    let tool = json!({ "name": tool, "inputSchema": { "type": "object" } });
    format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"tools":[{tool}]{next}}}}}"#)
}

async fn register(app: &TestApp, slug: &str, pages: &[String]) {
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let raw = Raw::default().saying("tools/list", &pages);
    let body = registration(slug, Way::Json, raw).await;
    app.as_operator().post("/v1/mcp/servers", body).await.status(201);
}

/// The names of the server's tools and the next cursor, at all endpoints for all servers.
async fn among_all(app: &TestApp, slug: &str) -> [(Vec<String>, Value); 2] {
    let operator = app.as_operator();
    let client = McpClient::modern(&operator, "/mcp");
    let of_mcp = client.result("tools/list", json!({})).await;
    let of_rpc = operator.rpc("tools/list", json!({})).await.json()["result"].clone();
    [of_mcp, of_rpc].map(|list| (names(&list, &format!("{slug}__")), list["nextCursor"].clone()))
}

fn names(list: &Value, prefix: &str) -> Vec<String> {
    let tools = list["tools"].as_array().unwrap_or_else(|| panic!("it is no list: {list}"));
    let names =
        tools.iter().filter_map(|tool| tool["name"].as_str()?.strip_prefix(prefix).map(str::to_owned));
    names.collect()
}

/// What a merged list says of a server whose items are missing.
fn unavailable<'a>(list: &'a Value, slug: &str) -> &'a Value {
    let missing = list["_meta"]["trunkline/unavailable"].as_array().expect("some are missing");
    missing.iter().find(|missing| missing["server"] == slug).expect("it is named")
}

pub async fn an_empty_cursor_ends_a_list(backend: Backend) {
    let app = gateway(backend).await;
    for (slug, next) in [
        ("empty", r#","nextCursor":"""#),
        ("null", r#","nextCursor":null"#),
        ("number", r#","nextCursor":7"#),
        ("object", r#","nextCursor":{}"#),
    ] {
        register(&app, slug, &[page("one", next)]).await;
        for (names, next) in among_all(&app, slug).await {
            assert_eq!((names, next), (vec!["one".to_owned()], Value::Null), "{slug}");
        }
        let own = McpClient::modern(&app.as_operator(), &format!("/mcp/s/{slug}"));
        let list = own.result("tools/list", json!({})).await;
        assert_eq!(names(&list, ""), ["one"], "{slug}");
        assert!(list.get("nextCursor").is_none(), "{slug}: {list}");
    }
}

pub async fn a_cursor_that_does_not_move_ends_a_list(backend: Backend) {
    let app = gateway(backend).await;
    let same = [page("one", r#","nextCursor":"1""#), page("two", r#","nextCursor":"1""#)];
    let round = [
        page("one", r#","nextCursor":"1""#),
        page("two", r#","nextCursor":"2""#),
        page("three", r#","nextCursor":"1""#),
    ];
    register(&app, "same", &same).await;
    register(&app, "round", &round).await;
    for (slug, expected) in [("same", &["one", "two"][..]), ("round", &["one", "two", "three"])] {
        for (names, next) in among_all(&app, slug).await {
            assert_eq!(names, expected, "{slug}");
            assert_eq!(next, Value::Null, "{slug}");
        }
    }
    let own = McpClient::modern(&app.as_operator(), "/mcp/s/same");
    let first = own.result("tools/list", json!({})).await;
    let second = own.result("tools/list", json!({ "cursor": first["nextCursor"] })).await;
    assert_eq!((names(&first, ""), names(&second, "")), (vec!["one".to_owned()], vec!["two".to_owned()]));
    assert!(second.get("nextCursor").is_none(), "{second}");
}

pub async fn lists_that_are_none(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    register(&app, "fine", &[page("one", "")]).await;
    for (number, result) in
        [r#""tools""#, "null", "[]", "{}", r#"{"tools":null}"#, r#"{"tools":{}}"#, r#"{"tools":"a"}"#, "NaN"]
            .into_iter()
            .enumerate()
    {
        let slug = format!("odd{number}");
        register(&app, &slug, &[format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#)]).await;
        let error =
            McpClient::modern(&operator, &format!("/mcp/s/{slug}")).error("tools/list", json!({})).await;
        assert_eq!(super::fault_of_unreadable(&error), None, "{result}: {error}");
        let all = McpClient::modern(&operator, "/mcp").result("tools/list", json!({})).await;
        assert_eq!(names(&all, "fine__"), ["one"], "{result}: the others are listed");
        let reason = unavailable(&all, &slug);
        assert_eq!(reason["code"], "unreadable_answer", "{result}: {reason}");
    }
    let one = r#"{"tools":[null,7,{"name":5},{"name":"one","inputSchema":{"type":"object"}}],"resources":5}"#;
    register(&app, "some", &[format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{one}}}"#)]).await;
    for (names, _) in among_all(&app, "some").await {
        assert_eq!(names, ["one"], "what can be read is listed");
    }
    let many: Vec<Value> = (0..60).map(|n| json!({ "name": format!("t{n}"), "inputSchema": 5 })).collect();
    let result = json!({ "tools": many });
    register(&app, "many", &[format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#)]).await;
    let all = McpClient::modern(&operator, "/mcp").result("tools/list", json!({})).await;
    let left_out = all["_meta"]["trunkline/leftOut"].as_array().expect("some are left out");
    let of_many: Vec<&Value> = left_out.iter().filter(|one| one["server"] == "many").collect();
    assert_eq!((of_many.len(), &of_many[50]["reason"]), (51, &json!("10 more tools are left out")));
}

pub async fn a_list_that_cannot_be_filtered_is_refused(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let tools = r#"[{"name":"open","inputSchema":{"type":"object"}},{"name":"secret-tool","inputSchema":{"type":"object"}}]"#;
    let result = |members: &str| format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{{{members}}}}}"#);
    let odd = [
        ("twice", format!(r#""tools":{tools},"x":1,"x":2"#)),
        ("again", format!(r#""tools":{tools},"tools":{tools}"#)),
        ("object", format!(r#""resultType":"odd","tools":{{"all":{tools}}}"#)),
    ];
    for (slug, members) in odd {
        register(&app, slug, &[result(&members)]).await;
        let servers = operator.get(&format!("/v1/mcp/servers/{slug}")).await.json();
        let config = json!({ "serverId": servers["id"], "blockedTools": ["secret-tool"] });
        operator.post("/v1/mcp/configs", config).await.status(201);
        for path in [format!("/mcp/s/{slug}"), "/mcp".to_owned()] {
            let modern = McpClient::modern(&operator, &path);
            let legacy = McpClient::legacy(&operator, &path, "2025-11-25", json!({})).await;
            for client in [modern, legacy] {
                let answer = client.open("tools/list", json!({})).await.answer().await;
                assert!(!answer.to_string().contains("secret-tool"), "{slug} at {path}: {answer}");
                match (&*path, slug) {
                    ("/mcp", "object") => {
                        assert_eq!(unavailable(&answer["result"], slug)["code"], "upstream_failed");
                    }
                    // Each item is read for itself.
                    ("/mcp", _) => assert_eq!(names(&answer["result"], &format!("{slug}__")), ["open"]),
                    _ => assert_eq!(answer["error"]["data"]["code"], "unreadable_answer", "{answer}"),
                }
            }
        }
    }
}

pub async fn a_handshake_that_cannot_be_translated_is_refused(backend: Backend) {
    let app = gateway(backend).await;
    let handshake = r#"{"jsonrpc":"2.0","id":$ID,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"},"x":1,"x":2}}"#;
    let raw = Raw::default().saying("initialize", &[handshake]);
    let body = registration("raw", Way::Json, raw).await;
    let operator = app.as_operator();
    operator.post("/v1/mcp/servers", body).await.status(201);
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let legacy = operator.post("/mcp/s/raw", request).await.json();
    let modern = McpClient::modern(&operator, "/mcp/s/raw").error("server/discover", json!({})).await;
    for error in [&legacy["error"], &modern] {
        assert_eq!(error["data"]["code"], "unreadable_answer", "{error}");
    }
}

/// A server whose capabilities cannot be read is asked for its lists; nothing is silently empty.
pub async fn odd_capabilities_empty_no_list(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    for (number, capabilities) in
        [r#"[]"#, r#""tools""#, "7", r#"{"tools":{}},"capabilities":{}"#].into_iter().enumerate()
    {
        let handshake = format!(
            r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"protocolVersion":"2025-11-25","serverInfo":{{"name":"raw","version":"1"}},"capabilities":{capabilities}}}}}"#
        );
        let slug = format!("odd{number}");
        let raw =
            Raw::default().saying("initialize", &[&handshake]).saying("tools/list", &[&page("one", "")]);
        let body = registration(&slug, Way::Json, raw).await;
        operator.post("/v1/mcp/servers", body).await.status(201);
        for (names, _) in among_all(&app, &slug).await {
            assert_eq!(names, ["one"], "{capabilities}");
        }
    }
}
