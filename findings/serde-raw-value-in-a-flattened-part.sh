#!/usr/bin/env bash
# serde 1.0.229 with serde_json 1.0.154: a `Box<RawValue>` is read in a struct, also beside a part that is
# flattened, but not inside such a part, and not in an untagged enum, where the error does not even name it.
# Both buffer what they read in serde's own form, in which no text is left that RawValue could hold. So the
# natural shape for JSON-RPC, a common head and a body of several kinds, cannot keep `params` byte for byte.
#
# Seen: "plain: {\"n\": 1.50}, beside a flattened part: {\"n\": 1.50}, inside one: invalid type: newtype struct,
# expected any valid JSON value at line 1 column 41, untagged: data did not match any variant of untagged enum Untagged".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "1.0.0"
edition = "2021"

[dependencies]
serde = { version = "=1.0.229", features = ["derive"] }
serde_json = { version = "=1.0.154", features = ["raw_value"] }

[profile.dev]
debug = false
TOML

cat >src/main.rs <<'RUST'
#![allow(dead_code)]
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Head {
    jsonrpc: String,
}

#[derive(Deserialize)]
struct Body {
    params: Box<RawValue>,
}

#[derive(Deserialize)]
struct Plain {
    jsonrpc: String,
    params: Box<RawValue>,
}

#[derive(Deserialize)]
struct Beside {
    #[serde(flatten)]
    head: Head,
    params: Box<RawValue>,
}

#[derive(Deserialize)]
struct Inside {
    jsonrpc: String,
    #[serde(flatten)]
    body: Body,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Untagged {
    One(Body),
}

fn main() {
    let text = r#"{"jsonrpc": "2.0", "params": {"n": 1.50}}"#;
    let told = |read: serde_json::Result<Box<RawValue>>| match read {
        Ok(params) => params.get().to_owned(),
        Err(error) => error.to_string(),
    };
    println!(
        "plain: {}, beside a flattened part: {}, inside one: {}, untagged: {}",
        told(serde_json::from_str::<Plain>(text).map(|read| read.params)),
        told(serde_json::from_str::<Beside>(text).map(|read| read.params)),
        told(serde_json::from_str::<Inside>(text).map(|read| read.body.params)),
        told(serde_json::from_str::<Untagged>(text).map(|Untagged::One(body)| body.params)),
    );
}
RUST

export CARGO_TARGET_DIR="$work/target"
timeout 600 cargo build --quiet
seen="$(timeout 30 target/debug/finding)"
echo "serde 1.0.229: $seen"
expected='plain: {"n": 1.50}, beside a flattened part: {"n": 1.50}, inside one: invalid type: newtype struct, expected any valid JSON value at line 1 column 41, untagged: data did not match any variant of untagged enum Untagged'
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
