//! A gateway to be killed: a pool with one child that has a stubborn grandchild. It prints the process
//! ids and then waits for its end.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::app::App;

pub fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let app = App::new();
        let server = app.fixture(&[]);
        let child = server.call("pid", json!({})).await.unwrap();
        let grandchild = server.call("offspring", json!({})).await.unwrap();
        println!("{child} {grandchild}");
        // A call is in flight when the end comes.
        server.deliver("hang", json!({}), Duration::from_secs(600)).await.ok();
    });
    ExitCode::SUCCESS
}
