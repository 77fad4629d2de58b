//! Where the programs of this crate are: the gateway under test, the fixtures, the guardian. The
//! paths are known only while the test binary is compiled, so it says them once at its start.

use std::path::PathBuf;
use std::sync::OnceLock;

/// The programs that a trial may start.
pub struct Programs {
    pub gateway: &'static str,
    pub guardian: &'static str,
    /// A well-behaved MCP server built on the official SDK.
    pub fixture_rmcp: &'static str,
    /// A server that answers with the text that it is given.
    pub fixture_raw: &'static str,
    /// A server that misbehaves as its arguments say.
    pub fixture_bad: &'static str,
    /// A server with all that the conformance suite asks of one.
    pub fixture_conformance: &'static str,
}

static PROGRAMS: OnceLock<Programs> = OnceLock::new();

/// Says where the programs are; the first call counts.
pub fn set(programs: Programs) {
    let _ = PROGRAMS.set(programs);
}

pub fn programs() -> &'static Programs {
    PROGRAMS.get().expect("the test binary says where its programs are before it starts a trial")
}

/// Finds a program by name in `PATH` and in the further directories.
pub fn find(name: &str, further: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(further.iter().cloned())
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The root of the workspace, where `openapi/` and `docs/` lie.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}
