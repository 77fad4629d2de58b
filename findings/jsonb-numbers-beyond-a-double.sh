#!/usr/bin/env bash
# PostgreSQL 18 (@electric-sql/pglite 0.5.17) keeps any JSON number in `jsonb` exactly, also one beyond the range of
# a double, and writes it out in full. Those who read it disagree: JavaScript's JSON.parse, which the driver
# uses, makes it Infinity, which JSON.stringify turns into null; serde_json 1.0.154 refuses the whole document,
# so that a query of many rows fails for one of them.
#
# Seen: "jsonb keeps 401 digits, the driver gives [Infinity], written again it is [null]" and
# "serde_json: number out of range at line 1 column 402".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --no-audit --no-fund --loglevel=error @electric-sql/pglite@0.5.17
cat >trial.mjs <<'JS'
import { PGlite } from '@electric-sql/pglite';
import { writeFileSync } from 'node:fs';

const database = await PGlite.create();
await database.exec(`CREATE TABLE item (value jsonb); INSERT INTO item VALUES ('[1e400]')`);
const { rows } = await database.query('SELECT value, value::text AS text FROM item');
const [{ value, text }] = rows;
writeFileSync('text.json', text);
const digits = text.replace(/\D/g, '').length;
console.log(`jsonb keeps ${digits} digits, the driver gives [${value[0]}], written again it is ${JSON.stringify(value)}`);
process.exit(0);
JS
driver="$(timeout 90 node trial.mjs)"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "1.0.0"
edition = "2021"

[dependencies]
serde_json = "=1.0.154"

[profile.dev]
debug = false
TOML
cat >src/main.rs <<'RUST'
fn main() {
    let text = std::fs::read_to_string("text.json").unwrap();
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => println!("serde_json: {value}"),
        Err(error) => println!("serde_json: {error}"),
    }
}
RUST
export CARGO_TARGET_DIR="$work/target"
timeout 600 cargo build --quiet
crate="$(timeout 30 target/debug/finding)"
printf '%s\n%s\n' "$driver" "$crate"
expected='jsonb keeps 401 digits, the driver gives [Infinity], written again it is [null]
serde_json: number out of range at line 1 column 402'
[ "$driver
$crate" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
