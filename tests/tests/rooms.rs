//! Keeps the rooms: which crate may use which, and where each kind of fact has its home. It reads the
//! manifests and the sources, runs nothing, and fails with a sentence that says where a line belongs.

#[path = "rooms/crates.rs"]
mod crates;
#[path = "rooms/lines.rs"]
mod lines;

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
