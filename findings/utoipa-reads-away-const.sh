#!/usr/bin/env bash
# utoipa 6.0.0 (Rust): a schema that is read from JSON (`serde_json::from_value::<RefOr<Schema>>`) loses the keyword
# `const` of JSON Schema 2020-12, on which OpenAPI 3.1 is based, without an error. A `oneOf` whose branches are told
# apart by a `const` member then fits any value of the member, so that a value fits several branches, which
# `oneOf` forbids. `enum` with one value is kept.
#
# Seen: {"type":"string"} of {"type":"string","const":"stdio"}, and {"type":"string","enum":["stdio"]} whole.
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
utoipa = "=6.0.0"
serde_json = "1"

[profile.dev]
debug = false
TOML

cat >src/main.rs <<'RUST'
use utoipa::openapi::{RefOr, Schema};

fn main() {
    for schema in [r#"{"type":"string","const":"stdio"}"#, r#"{"type":"string","enum":["stdio"]}"#] {
        let read: RefOr<Schema> = serde_json::from_str(schema).expect("it is read");
        println!("{}", serde_json::to_string(&read).expect("it is written"));
    }
}
RUST

export CARGO_TARGET_DIR="$work/target"
timeout 600 cargo build --quiet
seen="$(timeout 30 target/debug/finding)"
printf 'utoipa 6.0.0:\n%s\n' "$seen"
expected='{"type":"string"}
{"type":"string","enum":["stdio"]}'
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
