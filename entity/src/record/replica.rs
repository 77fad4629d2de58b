//! Replica identity: an id in a file beside the journal, and the lock that keeps a second process out.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use uuid::Uuid;

use super::RecordError;

pub(super) struct Replica {
    pub id: Uuid,
    /// Lock held for as long as the process uses the directory.
    _lock: File,
}

impl Replica {
    /// Creates the directory when missing, locks it, and reads or makes the id.
    pub fn claim(dir: &Path) -> Result<Replica, RecordError> {
        let failed = |doing| {
            let dir = dir.to_owned();
            move |source| RecordError::Journal { doing, dir, source }
        };
        std::fs::create_dir_all(dir).map_err(failed("make"))?;
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(failed("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(RecordError::InUse(dir.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        let id = read_or_make(&dir.join("replica")).map_err(failed("read or write the replica id of"))?;
        Ok(Replica { id, _lock: lock })
    }
}

fn read_or_make(path: &Path) -> io::Result<Uuid> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            if let Ok(id) = text.trim().parse() {
                return Ok(id);
            }
            tracing::warn!(path = %path.display(), "not a replica id; a new one is made");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = Uuid::now_v7();
    let fresh = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    Ok(id)
}
