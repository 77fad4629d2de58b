#!/usr/bin/env bash
# diffy 0.5.2 (Rust): a hunk ends when the numbers of its `@@` line are reached, and what follows is left out
# without an error, until the next `@@`. A unified diff whose header counts one added line where two are given,
# as language models often write it, is applied in part, and `apply` says Ok. (git apply 2.47 and GNU patch 2.7.6,
# tried by hand, do the same.) Whoever takes diffs from a model has to count the lines.
#
# Seen: "hunks: 1, applied: \"A\\n\"" for a diff that removes `a` and adds `A` and `B` under `@@ -1 +1 @@`.
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
diffy = "=0.5.2"

[profile.dev]
debug = false
TOML

cat >src/main.rs <<'RUST'
fn main() {
    let diff = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+A\n+B\n";
    let patch = diffy::Patch::from_str(diff).expect("it is read");
    println!("hunks: {}, applied: {:?}", patch.hunks().len(), diffy::apply("a\n", &patch).expect("it is applied"));
}
RUST

export CARGO_TARGET_DIR="$work/target"
timeout 600 cargo build --quiet
seen="$(timeout 30 target/debug/finding)"
echo "diffy 0.5.2: $seen"
expected='hunks: 1, applied: "A\n"'
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
