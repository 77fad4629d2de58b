//! Collaboration through the gateway: tools on every door, resources that tell of changes, REST, live
//! events, and what stays after a kill.

mod away;
mod checkout;
mod corners;
mod examples;
mod live;
mod lost;
mod model;
mod rest;
mod tools;

use std::time::{Duration, Instant};

use tests::{Actor, Answer, Case, TestApp, Value, json};

pub fn cases() -> &'static [Case] {
    use std::sync::OnceLock;
    static ALL: OnceLock<Vec<Case>> = OnceLock::new();
    ALL.get_or_init(|| {
        [
            tools::CASES,
            rest::CASES,
            live::CASES,
            lost::CASES,
            away::CASES,
            checkout::CASES,
            corners::CASES,
            model::CASES,
            examples::CASES,
        ]
        .concat()
    })
}

/// Calls a tool as plain JSON.
async fn tool(actor: &Actor, name: &str, arguments: Value) -> Answer {
    actor.post(&format!("/tools/{name}"), arguments).await
}

/// Calls a tool that answers, and returns its structured result.
async fn done(actor: &Actor, name: &str, arguments: Value) -> Value {
    tool(actor, name, arguments).await.json_of(200)
}

async fn make_task(actor: &Actor, id: &str) {
    done(actor, "task_create", json!({ "task_id": id, "title": "A task" })).await;
}

/// A figure of this name and labels.
async fn metric(app: &TestApp, name: &str) -> f64 {
    let text = reqwest::get(format!("{}/metrics", app.metrics_url())).await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

async fn until(at_most: Duration, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < at_most, "it does not come to hold");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
