//! Gateways in processes of their own: one to be killed, with a child and a stubborn grandchild whose
//! process ids it prints; and one whose memory nobody else uses, with children that flood it.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::app::App;

pub fn run(part: Option<&str>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match part {
        Some("memory") => runtime.block_on(memory_under_floods()),
        _ => runtime.block_on(wait_to_be_killed()),
    }
    ExitCode::SUCCESS
}

async fn wait_to_be_killed() {
    let app = App::new();
    let server = app.fixture(&[]);
    let child = server.call("pid", json!({})).await.unwrap();
    let grandchild = server.call("offspring", json!({})).await.unwrap();
    println!("{child} {grandchild}");
    // A call is in flight when the end comes.
    server.deliver("hang", json!({}), Duration::from_secs(600)).await.ok();
}

/// Prints how many bytes this process grew by while one child chatters and another one sends a line
/// without end, again and again.
async fn memory_under_floods() {
    let app = App::with(|settings| settings.line_cap = 1 << 20);
    let (chatters, floods) = (app.fixture(&[]), app.fixture(&[]));
    assert_eq!(chatters.call("chatter", json!({})).await.unwrap(), "chattering");
    floods.assert_well().await;
    let before = resident();
    for _ in 0..2 {
        floods.call("flood", json!({})).await.unwrap_err();
        for _ in 0..50 {
            chatters.assert_well().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    println!("{}", resident().saturating_sub(before));
    app.pool.shutdown(Duration::from_secs(1)).await;
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
