//! Definitions that strict clients refuse: each row of the table of `proxy` is repaired or left out of lists
//! of all servers, whatever the transport, and the others are listed.

use std::collections::HashSet;

use serde_json::value::RawValue;
use tests::raw_server::Raw;
use tests::{Backend, McpClient, Value, json};

use super::rows::Way;
use super::{gateway, registration};

const CASES: &str = include_str!("../../../../proxy/src/catalog/definition/cases.json");

const WAYS: [Way; 3] = [Way::Stdio, Way::Json, Way::WebSocket];

/// Most rows of one server, as many as the gateway names.
const TOGETHER: usize = 50;

/// A definition, and what becomes of it.
#[derive(serde::Deserialize)]
struct Row<'a> {
    kind: &'a str,
    era: Option<&'a str>,
    #[serde(borrow)]
    item: &'a RawValue,
    #[serde(borrow)]
    repaired: Option<&'a RawValue>,
    left_out: Option<String>,
}

/// A kind of list: its member, its method, a definition that is fine, and the member that names it.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("tools", "tools/list", r#"{"name":"fine","inputSchema":{"type":"object"}}"#, "name"),
    ("resources", "resources/list", r#"{"name":"f","uri":"test://fine"}"#, "uri"),
    (
        "resourceTemplates",
        "resources/templates/list",
        r#"{"name":"f","uriTemplate":"test://fine/{x}"}"#,
        "uriTemplate",
    ),
    ("prompts", "prompts/list", r#"{"name":"fine"}"#, "name"),
];

fn rows(kind: &str) -> Vec<Row<'static>> {
    let rows: Vec<Row<'static>> = serde_json::from_str(CASES).unwrap();
    rows.into_iter().filter(|row| row.kind == kind && row.era.is_none_or(|era| era == "legacy")).collect()
}

/// A server that lists these items.
fn listing(method: &str, member: &str, items: &[String]) -> Raw {
    let items = items.join(",");
    Raw::default()
        .saying(method, &[&format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"{member}":[{items}]}}}}"#)])
}

pub async fn malformed_definitions_are_left_out(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let (mut tried, mut as_said) = (0, 0);
    for (member, method, fine, named) in KINDS {
        let rows: Vec<Row<'_>> = rows(member).into_iter().filter(|row| row.left_out.is_some()).collect();
        for (number, rows) in rows.chunks(TOGETHER).enumerate() {
            // Standard streams carry no line end within a message.
            let mut items: Vec<String> = rows.iter().map(|row| row.item.get().replace('\n', " ")).collect();
            items.insert(0, fine.to_owned());
            for way in WAYS {
                let slug = format!("r{number}");
                let body = registration(&slug, way, listing(method, member, &items)).await;
                let id = operator.post("/v1/mcp/servers", body).await.json_of(201)["id"].clone();
                for client in [
                    McpClient::modern(&operator, "/mcp"),
                    McpClient::legacy(&operator, "/mcp", "2025-11-25", json!({})).await,
                    McpClient::legacy(
                        &operator,
                        &format!("/mcp/s/{slug}?strict=true"),
                        "2025-11-25",
                        json!({}),
                    )
                    .await,
                ] {
                    let list = client.result(method, json!({})).await;
                    let shown: Vec<&str> = list[member]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|item| item[named].as_str().unwrap())
                        .collect();
                    assert_eq!(
                        shown.iter().filter(|name| name.contains("fine")).count(),
                        1,
                        "{way:?} {member}: {shown:?}"
                    );
                    assert!(
                        shown.iter().all(|name| {
                            ["calculator", "collab", "web"].iter().any(|built_in| name.starts_with(built_in))
                                || name.contains("fine")
                        }),
                        "{way:?} {member}: {shown:?}"
                    );
                    let left_out = list["_meta"]["trunkline/leftOut"].as_array().unwrap();
                    assert_eq!(left_out.len(), rows.len(), "{way:?} {member}");
                    for (row, left_out) in rows.iter().zip(left_out) {
                        let (reason, part) =
                            (left_out["reason"].as_str().unwrap(), row.left_out.as_deref().unwrap());
                        assert!(reason.contains(part), "{way:?} {}: {reason}", row.item);
                        assert_eq!(left_out["server"], *slug);
                    }
                }
                // Half a surrogate pair is no text for most readers of JSON.
                if items.iter().all(|item| serde_json::from_str::<Value>(item).is_ok()) {
                    let own = McpClient::modern(&operator, &format!("/mcp/s/{slug}"));
                    let list = own.result(method, json!({})).await;
                    let shown = list[member].as_array().unwrap().len();
                    assert_eq!(shown, items.len(), "{way:?} {member}: as the server said it");
                    as_said += 1;
                }
                operator.delete(&format!("/v1/mcp/servers/{}", id.as_str().unwrap())).await.status(204);
                tried += rows.len();
            }
        }
    }
    assert!(tried >= 3 * 200 && as_said >= 3 * KINDS.len(), "{tried} {as_said}");
}

pub async fn definitions_with_one_reading_are_repaired(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let mut tried = 0;
    for (member, method, _, named) in KINDS {
        let own_name = |text: &str, number: usize| {
            let (from, to) = match named {
                "name" => (r#""name":"a""#, format!(r#""name":"r{number}""#)),
                _ => ("file:///", format!("file:///r{number}/")),
            };
            text.contains(from).then(|| text.replacen(from, &to, 1))
        };
        let mut items = Vec::new();
        let mut expected: Vec<Value> = Vec::new();
        for row in rows(member) {
            let Some(repaired) = row.repaired else { continue };
            let number = items.len();
            if let (Some(item), Some(repaired)) =
                (own_name(row.item.get(), number), own_name(repaired.get(), number))
            {
                items.push(item);
                expected.push(serde_json::from_str(&repaired).unwrap());
            }
        }
        assert!(!items.is_empty(), "{member}");
        for way in WAYS {
            let body = registration("fix", way, listing(method, member, &items)).await;
            let id = operator.post("/v1/mcp/servers", body).await.json_of(201)["id"].clone();
            let list = McpClient::legacy(&operator, "/mcp/s/fix?strict=true", "2025-11-25", json!({}))
                .await
                .result(method, json!({}))
                .await;
            for (shown, expected) in list[member].as_array().unwrap().iter().zip(&expected) {
                assert_eq!(shown, expected, "{way:?} {member}");
            }
            assert_eq!(list[member].as_array().unwrap().len(), expected.len(), "{way:?} {member}");
            let list = McpClient::legacy(&operator, "/mcp", "2025-11-25", json!({}))
                .await
                .result(method, json!({}))
                .await;
            let shown: Vec<Value> = list[member]
                .as_array()
                .unwrap()
                .iter()
                .filter(|item| item[named].as_str().unwrap().starts_with("fix"))
                .cloned()
                .collect();
            assert_eq!(shown.len(), expected.len(), "{way:?} {member}");
            for (shown, expected) in shown.iter().zip(&expected) {
                let mut expected = expected.clone();
                expected[named] = shown[named].clone();
                assert_eq!(*shown, expected, "{way:?} {member}");
            }
            let found = operator
                .get(&format!("/v1/mcp/servers/{}/discover", id.as_str().unwrap()))
                .await
                .json_of(200);
            let shown = operator.get("/v1/mcp/servers/fix").await.json_of(200);
            assert_eq!(
                shown["definitions"]["warnings"], found["definitions"]["warnings"],
                "{way:?} {member}"
            );
            let warned = found["definitions"]["warnings"].as_array().unwrap().iter();
            let repaired = warned.filter(|warning| warning["code"] == "repaired");
            let repaired: HashSet<&Value> = repaired.map(|warning| &warning["name"]).collect();
            assert_eq!(repaired.len(), items.len(), "{way:?} {member}: {repaired:?}");
            operator.delete(&format!("/v1/mcp/servers/{}", id.as_str().unwrap())).await.status(204);
            tried += items.len();
        }
    }
    assert!(tried >= 3 * 20, "{tried}");
    for query in ["strict=maybe", "strict", "strict=true&strict=true"] {
        operator.get(&format!("/mcp/s/fix?{query}")).await.status(400);
    }
}
