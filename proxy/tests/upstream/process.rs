//! What is left of a child: nothing, whoever dies first.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use protocol::Code;
use proxy::server::Launch;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::app::{App, lives, refused, this_program, until};
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("nothing_outlives_a_killed_gateway", nothing_outlives_a_killed_gateway),
        test("nothing_outlives_a_killed_child", nothing_outlives_a_killed_child),
        test("nothing_outlives_a_killed_supervisor", nothing_outlives_a_killed_supervisor),
        test("a_supervisor_survives_signals", a_supervisor_survives_signals),
        test("a_stop_ends_the_whole_family", a_stop_ends_the_whole_family),
        test("a_program_that_is_not_there", a_program_that_is_not_there),
        test("a_clean_environment", a_clean_environment),
        test("limits_reach_the_child", limits_reach_the_child),
    ]
}

async fn nothing_outlives_a_killed_gateway() {
    let mut host = Command::new(this_program()).arg("host").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{line:?}");
    let supervisor = parent_of(pids[0]);
    let all = [pids[0], pids[1], supervisor];
    assert!(all.iter().all(|pid| lives(*pid)));
    host.kill().unwrap();
    host.wait().unwrap();
    until("child, grandchild and supervisor are gone", 5, || !all.iter().any(|pid| lives(*pid))).await;
}

async fn nothing_outlives_a_killed_child() {
    let app = App::new();
    let server = app.fixture(&[]);
    let grandchild = pid(&server.call("offspring", json!({})).await.unwrap());
    kill(server.status().pid.unwrap(), Signal::KILL);
    until("the grandchild is gone", 5, || !lives(grandchild)).await;
    server.assert_well().await;
    assert_eq!(server.status().restarts, 1);
}

async fn nothing_outlives_a_killed_supervisor() {
    let app = App::new();
    let server = app.fixture(&[]);
    let child = pid(&server.call("pid", json!({})).await.unwrap());
    kill(parent_of(child), Signal::KILL);
    until("the child is gone", 5, || !lives(child)).await;
    server.assert_well().await;
}

async fn a_supervisor_survives_signals() {
    let app = App::new();
    let server = app.fixture(&[]);
    let child = pid(&server.call("pid", json!({})).await.unwrap());
    let grandchild = pid(&server.call("offspring", json!({})).await.unwrap());
    let supervisor = parent_of(child);
    kill(supervisor, Signal::TERM);
    until("it ended all it watched before itself", 5, || !lives(child) && !lives(grandchild)).await;
    until("it ended", 5, || !lives(supervisor)).await;
}

async fn a_stop_ends_the_whole_family() {
    let app = App::new();
    let server = app.fixture(&[]);
    let child = pid(&server.call("pid", json!({})).await.unwrap());
    let grandchild = pid(&server.call("offspring", json!({})).await.unwrap());
    server.pool.stop(app.tenant, &server.spec).await;
    assert!(!lives(child) && !lives(grandchild));
    refused(server.echo("x").await, Code::ServerStopped, "is stopped");
    app.pool.shutdown(Duration::from_secs(1)).await;
    refused(server.echo("x").await, Code::ShuttingDown, "shutting down");
}

async fn a_program_that_is_not_there() {
    let app = App::new();
    let server = app.command("uvx-of-nobody", &[], |_| {});
    let refusal =
        refused(server.echo("x").await, Code::UpstreamUnavailable, "`uvx-of-nobody` was not found in PATH");
    assert!(refusal.hint.unwrap().contains("install"));
    let server = app.command("/bin/sh", &["-c", "exec ./not-there"], |_| {});
    refused(server.echo("x").await, Code::UpstreamUnavailable, "exited with status 127");
    let directory = app.fixture_with(&[], |spec| {
        if let Launch::Stdio(launch) = &mut spec.launch {
            launch.cwd = Some("/not-there".into());
        }
    });
    refused(directory.echo("x").await, Code::UpstreamUnavailable, "/not-there");
}

async fn a_clean_environment() {
    let app = App::new();
    let names = app.fixture(&[]).call("environment", json!({})).await.unwrap();
    let mut names: Vec<&str> = names.split(',').collect();
    names.sort_unstable();
    assert_eq!(names, ["FIXTURE", "PATH"]);
}

async fn limits_reach_the_child() {
    let app = App::new();
    let server = app.fixture_with(&[], |spec| {
        if let Launch::Stdio(launch) = &mut spec.launch {
            launch.limits.open_files = Some(77);
            launch.limits.cpu_seconds = Some(99);
            launch.limits.memory_mb = Some(4096);
        }
    });
    let limits = server.call("limits", json!({})).await.unwrap();
    for (name, value) in
        [("Max open files", "77"), ("Max cpu time", "99"), ("Max address space", "4294967296")]
    {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains(&format!(" {value} ")), "{line}");
    }
}

fn pid(text: &str) -> u32 {
    text.parse().unwrap()
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}
