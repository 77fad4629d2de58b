//! Directories that live as long as the trial that made them. All lie under one directory per test
//! process, which the guardian removes when that process is gone, however it went.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::guardian;

/// A directory of a trial's own, removed at drop.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(label: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = root().join(format!("{}-{label}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&path).expect("a directory for the trial can be made");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("TRUNKLINE_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The directory of this test process. Others may look in: PostgreSQL runs as another user.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("trunkline-tests-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("the temporary directory can be written");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&root, open).expect("our own directory can be opened to others");
        guardian::sweep(&root);
        root
    })
}
