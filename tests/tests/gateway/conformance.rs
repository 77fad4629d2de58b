//! The official conformance suite against one server behind the gateway, once for each revision whose
//! requirements are frozen. Its programs, `node` and `conformance`, lie in `TEST_CONFORMANCE_BIN`.

use std::collections::BTreeSet;
use std::path::Path;

use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases};

use crate::real::program;

pub const CASES: &[Case] = cases![Every: revision_2025_11_25, revision_2026_07_28;];

async fn revision_2025_11_25(backend: Backend) {
    conforms(backend, "2025-11-25", 30).await;
}

async fn revision_2026_07_28(backend: Backend) {
    conforms(backend, "2026-07-28", 37).await;
}

/// All scenarios that the revision requires pass; the others are shown.
async fn conforms(backend: Backend, revision: &str, required: usize) {
    let variable = "TEST_CONFORMANCE_BIN";
    let (node, suite) = (program(variable, "node"), program(variable, "conformance"));
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conformance", &[])).await;
    let url = app.anonymous_from_loopback().url("/mcp/s/conformance");
    let checks = app.path("checks");
    let ran = tokio::process::Command::new(node)
        .arg(suite)
        .args(["server", "--url", &url, "--requirements", revision, "--output-dir"])
        .arg(&checks)
        .kill_on_drop(true)
        .output()
        .await
        .expect("the suite can be started");
    let said = String::from_utf8_lossy(&ran.stdout);
    let scenarios = read(&said);
    let table = table(revision, &scenarios);
    println!("{table}");
    let passed = scenarios.iter().filter(|scenario| scenario.is_required && scenario.failed == 0).count();
    assert!(
        passed == required && ran.status.success(),
        "{passed} of {required} required scenarios passed; the suite ended with {}.\n{table}\n{}\n{}",
        ran.status,
        failures(&checks),
        if scenarios.is_empty() {
            format!("{said}\n{}", String::from_utf8_lossy(&ran.stderr))
        } else {
            String::new()
        },
    );
}

/// A line of the suite's summary.
struct Scenario {
    name: String,
    passed: u32,
    failed: u32,
    is_required: bool,
}

/// Reads `✓ name: 3 passed, 0 failed` after the heading, and which of them are not scored.
fn read(said: &str) -> Vec<Scenario> {
    let summary = said.split_once("=== SUMMARY ===").map_or("", |(_, summary)| summary);
    let (summary, unscored) = summary.split_once("\nNot scored").unwrap_or((summary, ""));
    let unscored: BTreeSet<&str> =
        unscored.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let scenario = |line: &str| {
        let (name, figures) = line.split_once(' ')?.1.split_once(": ")?;
        let (passed, failed) = figures.strip_suffix(" failed")?.split_once(" passed, ")?;
        Some(Scenario {
            name: name.to_owned(),
            passed: passed.parse().ok()?,
            failed: failed.parse().ok()?,
            is_required: !unscored.contains(name),
        })
    };
    summary.lines().filter(|line| !line.starts_with("Total")).filter_map(scenario).collect()
}

fn table(revision: &str, scenarios: &[Scenario]) -> String {
    let mut table = format!("Conformance to {revision}, checks passed and failed by scenario:\n");
    for Scenario { name, passed, failed, is_required } in scenarios {
        let mark = if *failed == 0 { ' ' } else { '!' };
        let note = if *is_required { "" } else { "  not required" };
        table += &format!("  {mark} {name:<46} {passed:>3} {failed:>3}{note}\n");
    }
    table
}

/// What the failed checks say, out of the files that the suite leaves.
fn failures(directory: &Path) -> String {
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let text = std::fs::read(entry.path().join("checks.json")).unwrap_or_default();
        let checks: Vec<Value> = serde_json::from_slice(&text).unwrap_or_default();
        // `server-<scenario>-<time>`, the time in 24 characters.
        let name = entry.file_name().to_string_lossy().into_owned();
        let scenario = name.get("server-".len()..name.len().saturating_sub(25)).unwrap_or(&name).to_owned();
        for check in checks.iter().filter(|check| check["status"] == "FAILURE") {
            let message: String =
                check["errorMessage"].as_str().unwrap_or_default().chars().take(400).collect();
            failures.push(format!("{scenario}: {}: {message}", check["id"].as_str().unwrap_or_default()));
        }
    }
    failures.sort();
    failures.join("\n")
}
