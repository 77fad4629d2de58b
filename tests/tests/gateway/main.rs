//! The trials of the gateway: every file is a suite. `cargo test -p tests` runs all of them on every
//! backend of this machine; `cargo test -p tests -- rpc` runs one suite.

mod bounds;
mod bridge_new_to_old;
mod bridge_old_to_new;
mod bytes;
mod catalog;
mod children;
mod collab;
mod commands;
mod config_items;
mod config_launch;
mod config_rules;
mod configs;
mod conformance;
mod declared;
mod encryption;
mod evasion;
mod exports;
mod fidelity;
mod first_use;
mod guard;
mod harness;
mod health;
mod identity;
mod limits;
mod malformed;
mod marketplace;
mod matrix;
mod oauth;
mod operations;
mod outages;
mod pair;
mod passing;
mod peer;
mod publishing;
mod real;
mod records;
mod redaction;
mod refusals;
mod registry;
mod remotes;
mod replicas;
mod rounds_new_to_old;
mod rounds_old_to_new;
mod rpc;
mod sdk;
mod sessions;
mod shipped;
mod side_by_side;
mod soak;
mod starts;
mod startup;
mod statistics;
mod stdio_door;
mod stdio_lines;
mod stolen;
mod streams;
mod strict;
mod tenants;
mod tokens;

use tests::programs::{self, Programs};

fn main() -> std::process::ExitCode {
    // An error means that it was chosen already.
    drop(rustls::crypto::ring::default_provider().install_default());
    programs::set(Programs {
        gateway: env!("CARGO_BIN_EXE_trunkline-under-test"),
        guardian: env!("CARGO_BIN_EXE_test-guardian"),
        fixture_rmcp: env!("CARGO_BIN_EXE_fixture-rmcp"),
        fixture_raw: env!("CARGO_BIN_EXE_fixture-raw"),
        fixture_bad: env!("CARGO_BIN_EXE_fixture-bad"),
        fixture_conformance: env!("CARGO_BIN_EXE_fixture-conformance"),
    });
    tests::suite::main(&[
        ("harness", harness::CASES),
        ("rpc", rpc::CASES),
        ("bytes", bytes::CASES),
        ("sdk", sdk::CASES),
        ("stdio_door", stdio_door::CASES),
        ("stdio_lines", stdio_lines::CASES),
        ("records", records::CASES),
        ("catalog", catalog::CASES),
        ("children", children::CASES),
        ("starts", starts::CASES),
        ("identity", identity::CASES),
        ("tokens", tokens::CASES),
        ("strict", strict::CASES),
        ("oauth", oauth::CASES),
        ("guard", guard::CASES),
        ("limits", limits::CASES),
        ("redaction", redaction::CASES),
        ("refusals", refusals::CASES),
        ("evasion", evasion::CASES),
        ("registry", registry::CASES),
        ("remotes", remotes::CASES),
        ("health", health::CASES),
        ("malformed", malformed::CASES),
        ("peer", peer::CASES),
        ("commands", commands::CASES),
        ("config_items", config_items::CASES),
        ("config_launch", config_launch::CASES),
        ("config_rules", config_rules::CASES),
        ("configs", configs::CASES),
        ("collab", collab::cases()),
        ("tenants", tenants::CASES),
        ("marketplace", marketplace::CASES),
        ("matrix", matrix::CASES),
        ("operations", operations::CASES),
        ("declared", declared::CASES),
        ("startup", startup::CASES),
        ("statistics", statistics::CASES),
        ("publishing", publishing::CASES),
        ("real", real::CASES),
        ("conformance", conformance::CASES),
        ("encryption", encryption::CASES),
        ("bridge_new_to_old", bridge_new_to_old::CASES),
        ("rounds_new_to_old", rounds_new_to_old::CASES),
        ("bridge_old_to_new", bridge_old_to_new::CASES),
        ("rounds_old_to_new", rounds_old_to_new::CASES),
        ("sessions", sessions::CASES),
        ("shipped", shipped::CASES),
        ("side_by_side", side_by_side::CASES),
        ("soak", soak::CASES),
        ("stolen", stolen::CASES),
        ("bounds", bounds::CASES),
        ("replicas", replicas::CASES),
        ("outages", outages::CASES),
        ("exports", exports::CASES),
        ("fidelity", fidelity::CASES),
        ("first_use", first_use::CASES),
        ("passing", passing::CASES),
        ("streams", streams::CASES),
    ])
}
