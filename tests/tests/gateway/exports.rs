//! The export of the record: NDJSON and CSV over several pages, with the filters of the list.

use std::collections::BTreeSet;

use tests::{Actor, Backend, Case, Code, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: every_execution_is_exported_once;
    Once: exports_are_filtered_and_audited;
];

async fn call(actor: &Actor, times: usize) {
    for number in 0..times {
        actor.call("calculator__add", json!({ "a": number, "b": 1 })).await.result();
    }
}

/// Ids of a CSV, whose first column they are.
fn ids_of_csv(text: &str) -> Vec<String> {
    let mut lines = text.split("\r\n");
    let header = lines.next().unwrap();
    assert!(header.starts_with("id,requestId,") && header.ends_with(",code,message,rule"), "{header}");
    lines.filter(|line| !line.is_empty()).map(|line| line.split(',').next().unwrap().to_owned()).collect()
}

async fn every_execution_is_exported_once(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    call(&operator, 450).await;
    let listed: BTreeSet<String> = operator
        .executions("limit=200")
        .await
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed.len(), 450);
    let answer = operator.get("/v1/mcp/executions/export").await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"executions.ndjson\""));
    let text = answer.text();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<String> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), ids.iter().cloned().collect::<BTreeSet<_>>()), (450, listed.clone()));
    assert_eq!((&rows[0]["tool"], &rows[0]["outcome"]), (&json!("add"), &json!("ok")));
    let answer = operator.get("/v1/mcp/executions/export?format=csv").await;
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    let in_csv = ids_of_csv(&answer.text());
    assert_eq!(in_csv, ids, "in the same order");
    assert!(app.as_tenant_admin("other").await.get("/v1/mcp/executions/export").await.text().is_empty());
}

async fn exports_are_filtered_and_audited(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let alice = app.as_agent("alice").await;
    call(&operator, 3).await;
    call(&alice, 2).await;
    alice.call("calculator__divide", json!({ "a": 1, "b": 0 })).await.status(200);
    for (query, rows) in [
        ("agent=alice", 3),
        ("agent=nobody", 0),
        ("outcome=tool_error", 1),
        ("tool=add&server=calculator", 5),
        ("startedBefore=2020-01-01T00:00:00Z", 0),
    ] {
        let ndjson = operator.get(&format!("/v1/mcp/executions/export?{query}")).await.text();
        assert_eq!(ndjson.lines().count(), rows, "{query}");
        let csv = operator.get(&format!("/v1/mcp/executions/export?format=csv&{query}")).await.text();
        assert_eq!(ids_of_csv(&csv).len(), rows, "{query}");
    }
    for wrong in ["format=xml", "limit=5", "outcome=x"] {
        operator.get(&format!("/v1/mcp/executions/export?{wrong}")).await.problem(Code::ValidationFailed);
    }
    let events = operator.get("/v1/audit").await.json_of(200);
    let exports = events["items"].as_array().unwrap().iter();
    assert_eq!(exports.filter(|event| event["action"] == "executions.export").count(), 10);
}
