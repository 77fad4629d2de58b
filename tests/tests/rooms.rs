//! Keeps the rooms: which crate may use which, and where each kind of fact has its home. It reads the
//! manifests and the sources, runs nothing, and fails with a sentence that says where a line belongs.

#[path = "rooms/crates.rs"]
mod crates;
#[path = "rooms/lines.rs"]
mod lines;
#[path = "rooms/words.rs"]
mod words;

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

#[test]
fn rooms() {
    let mut complaints = crates::check(root());
    complaints.extend(lines::check(root()));
    assert!(
        complaints.is_empty(),
        "{} lines are in the wrong room:\n\n{}\n",
        complaints.len(),
        complaints.join("\n")
    );
}

/// The language of comments.
#[test]
fn words() {
    let complaints = words::check(root());
    assert!(complaints.is_empty(), "{} places:\n\n{}\n", complaints.len(), complaints.join("\n"));
}

/// The most lines of a source file.
const MOST_LINES: usize = 400;

#[test]
fn files_are_short() {
    let long: Vec<String> = lines::sources(root())
        .into_iter()
        .filter(|(_, text)| text.lines().count() > MOST_LINES)
        .map(|(path, text)| format!("{path}: {} lines; at most {MOST_LINES}, split it", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
