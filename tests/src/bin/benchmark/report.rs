//! What was measured, as Markdown for `docs/performance.md`.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::gateway::Kept;
use crate::life::{Idle, SERVERS, Starts};
use crate::lists::{self, List};
use crate::million::Million;
use crate::rounds::{BYTES, Cell, Plan};
use crate::usage::Usage;

/// The machine, the program, and how to read the rest.
pub fn head(path: &Path) -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let version =
        Command::new(path).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version).trim().to_owned();
    let mut text = format!(
        "{version} on {cores} cores ({model}, Linux {}), load average {load} before the run.\n\n",
        read("/proc/sys/kernel/osrelease").trim()
    );
    text.push_str(
        "> Agents, gateway and echo server share these cores. Compare ratios within this run, and processor \
         time per call; never absolute figures of two runs.\n",
    );
    if load.parse::<f64>().is_ok_and(|load| load > 0.5) {
        text.push_str(
            ">\n> **The machine was busy before the run.** The figures are worse than they need be.\n",
        );
    }
    if cfg!(debug_assertions) || path.components().any(|part| part.as_os_str() == "debug") {
        text.push_str(">\n> **Not a release build.** The figures say nothing.\n");
    }
    text
}

/// One table for each size.
pub fn comparison(cells: &[Cell], plan: Plan) -> String {
    let mut text = String::new();
    for bytes in BYTES {
        let size = if bytes < 1024 { format!("{bytes} bytes") } else { format!("{} KB", bytes / 1024) };
        let _ = write!(
            text,
            "\n### {size} per call\n\nMedians of {} rounds of {:.1} s.\n\n\
             | agents | target | calls/s | of bridge | of direct | p50 ms | p95 ms | p99 ms | CPU µs/call | \
             with all rows written | memory MB | errors |\n\
             | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            plan.rounds,
            plan.window.as_secs_f64(),
        );
        for cell in cells.iter().filter(|cell| cell.bytes == bytes) {
            let of = cell.medians();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.0} % | {:.0} % | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {} |",
                cell.agents,
                cell.target,
                grouped(of.calls_per_second.round() as u64),
                of.of_bridge * 100.0,
                of.of_direct * 100.0,
                of.p50 * 1e3,
                of.p95 * 1e3,
                of.p99 * 1e3,
                of.cpu * 1e6,
                of.cpu_in_all * 1e6,
                of.resident / 1e6,
                cell.errors,
            );
        }
    }
    for cell in cells {
        if let Some(error) = &cell.first_error {
            let _ = write!(text, "\nFirst error of {}, {} agents: `{error}`\n", cell.target, cell.agents);
        }
    }
    text
}

/// What is on record of what was called.
pub fn kept(kept: &Kept) -> String {
    format!(
        "\n### Record\n\n{} calls, {} errors; {} rows, {} of them `ok`: {}. The gateway stopped within {:.2} s, which \
         includes the last rows. Database and journal hold {} MB.\n",
        grouped(kept.sent),
        kept.errors,
        grouped(kept.rows),
        grouped(kept.ok),
        if kept.is_complete() { "every call is on record" } else { "**rows and calls differ**" },
        kept.stop.as_secs_f64(),
        kept.bytes / 1_000_000,
    )
}

pub fn starts(starts: &Starts) -> String {
    format!(
        "\n### Start\n\nFrom the start of the process to the first answered call, medians of {}:\n\n\
         | data directory | first call | ms |\n| --- | --- | ---: |\n\
         | fresh | calculator | {:.1} |\n| existing | calculator | {:.1} |\n| existing | stdio echo | {:.1} |\n",
        starts.runs,
        starts.fresh * 1e3,
        starts.existing * 1e3,
        starts.with_child * 1e3,
    )
}

pub fn idle(idle: &Idle) -> String {
    let row = |name: &str, usage: &Usage| format!("| {name} | {} |\n", memory(usage));
    format!(
        "\n### Idle memory\n\n{SERVERS} stdio servers; the servers' own processes are not counted. Proportional: pages \
         that several processes share are counted once. The first list of all tools, which starts all servers, took \
         {:.0} ms.\n\n\
         | servers | gateway MB | supervisors MB | together, proportional MB | processes |\n\
         | --- | ---: | ---: | ---: | ---: |\n{}{}",
        idle.first_list.as_secs_f64() * 1e3,
        row("registered", &idle.registered),
        row("all running", &idle.running),
    )
}

pub fn lists(lists: &[List]) -> String {
    let mut text = format!(
        "\n### Lists\n\n`tools/list` of {} servers with {} tools each, one connection.\n\n\
         | agent | tools of the servers | KB | CPU ms/list | of the first |\n| --- | ---: | ---: | ---: | ---: |\n",
        lists::SERVERS,
        lists::TOOLS,
    );
    let first = lists.first().map_or(1.0, |list| list.cpu);
    for List { agent, tools, bytes, cpu } in lists {
        text +=
            &format!("| {agent} | {tools} | {:.0} | {cpu:.2} | {:.2} |\n", *bytes as f64 / 1e3, cpu / first);
    }
    text
}

pub fn million(million: &Million) -> String {
    let mut text = String::from(
        "\n### Memory over a million calls\n\n16 agents, 64 bytes, stdio echo; read when the rows were written.\n\n\
         | calls | calls/s | CPU µs/call, all rows written | gateway MB | supervisors MB | together, proportional MB | \
         processes | errors |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (calls, sample) in &million.steps {
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {} | {} |",
            grouped(*calls),
            grouped(sample.calls_per_second.round() as u64),
            sample.cpu_per_call_in_all.as_secs_f64() * 1e6,
            memory(&sample.usage),
            sample.errors,
        );
    }
    text + &kept(&million.kept)
}

fn memory(usage: &Usage) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "{:.1} | {:.1} | {:.1} | {}",
        megabytes(usage.resident),
        megabytes(usage.helpers),
        megabytes(usage.proportional),
        usage.processes
    )
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
