//! Places in the roots: from the path of a caller to an open directory or a regular file. Errors of the file
//! system become sentences with the caller's own path.

use std::io::{self, ErrorKind, Read};
use std::time::SystemTime;

use cap_fs_ext::{MetadataExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, File, FileType, Metadata, OpenOptions, OpenOptionsExt};
use protocol::provider::{Cancellation, ProviderError};
use protocol::{Code, Refusal};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::path::{self, Inside, Place};
use super::{Files, Root};

/// Bytes of the SHA-256 of the contents that an etag has.
const ETAG_BYTES: usize = 16;

/// Kind of an entry of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device, which no tool opens.
    Other,
}

impl From<FileType> for Kind {
    fn from(found: FileType) -> Self {
        match found {
            found if found.is_file() => Kind::File,
            found if found.is_dir() => Kind::Directory,
            found if found.is_symlink() => Kind::Link,
            _ => Kind::Other,
        }
    }
}

impl Files {
    /// Reads the parameter `path`.
    pub fn read_path(&self, path: &str) -> Result<Place, ProviderError> {
        path::read(path, &self.roots).map_err(|reason| {
            Refusal::new(Code::ValidationFailed, format!("`path` {} is refused: {reason}", path::shown(path)))
                .into()
        })
    }

    /// Reads the parameter `path`, which lies in a root.
    pub fn inside(&self, path: &str) -> Result<Inside, ProviderError> {
        match self.read_path(path)? {
            Place::Inside(inside) => Ok(inside),
            Place::Roots => Err(Refusal::new(
                Code::ValidationFailed,
                format!("`path` is empty: begin with the name of a root: {}", path::listed(&self.roots)),
            )
            .into()),
        }
    }

    /// Returns the path of a place as answers show it.
    pub fn shown(&self, place: &Inside) -> String {
        let Root { name, .. } = &self.roots[place.root];
        match place.relative.as_str() {
            "" => name.clone(),
            relative => format!("{name}/{relative}"),
        }
    }

    pub fn root(&self, place: &Inside) -> &Dir {
        &self.roots[place.root].dir
    }

    /// Opens a directory. Links are followed inside the root.
    pub fn open_directory(&self, place: &Inside) -> Result<Dir, ProviderError> {
        let opened = match place.relative.as_str() {
            "" => self.root(place).try_clone(),
            relative => self.root(place).open_dir(relative),
        };
        opened.map_err(|error| match error.kind() {
            ErrorKind::NotADirectory if self.is_anything(place) => {
                Refusal::new(Code::ValidationFailed, format!("`{}` is not a directory", self.shown(place)))
                    .hint("`read_file` reads files, `get_file_info` says what there is")
                    .into()
            }
            _ => self.failed(place, &error),
        })
    }

    fn is_anything(&self, place: &Inside) -> bool {
        self.root(place).symlink_metadata(&place.relative).is_ok()
    }

    /// Opens a regular file for reading. Links are followed inside the root. The kind is looked at before the
    /// file is opened, since to open a device can change it, and again afterwards, when nobody can exchange it.
    pub fn open_file(&self, place: &Inside) -> Result<(File, Metadata), ProviderError> {
        if place.relative.is_empty() {
            return Err(self.not_a_file(place, Kind::Directory));
        }
        self.open_file_in(self.root(place), &place.relative, place)
    }

    /// Opens a regular file as [`Files::open_file`] does, from an open directory.
    fn open_file_in(
        &self,
        dir: &Dir,
        relative: &str,
        place: &Inside,
    ) -> Result<(File, Metadata), ProviderError> {
        let before = dir.metadata(relative).map_err(|error| self.failed(place, &error))?;
        self.check_file(place, &before)?;
        let mut options = OpenOptions::new();
        // A pipe without a writer does not hold the call up, and no terminal becomes that of the process.
        options.read(true).nonblock(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
        let file = dir.open_with(relative, &options).map_err(|error| self.failed(place, &error))?;
        let found = file.metadata().map_err(|error| self.failed(place, &error))?;
        self.check_file(place, &found)?;
        Ok((file, found))
    }

    /// Checks that a file is a regular one, with one name unless the settings allow more.
    pub fn check_file(&self, place: &Inside, found: &Metadata) -> Result<(), ProviderError> {
        if !found.is_file() {
            return Err(self.not_a_file(place, found.file_type().into()));
        }
        if found.nlink() > 1 && !self.allow_hard_links {
            return Err(Refusal::new(
                Code::ValidationFailed,
                format!(
                    "`{}` has {} names (hard links), and one of them may be that of a file outside",
                    self.shown(place),
                    found.nlink()
                ),
            )
            .hint("the operator can allow hard links")
            .into());
        }
        Ok(())
    }

    /// Returns the etag of a file; none for one over the size limit.
    pub fn etag_of(
        &self,
        dir: &Dir,
        relative: &str,
        place: &Inside,
    ) -> Result<Option<String>, ProviderError> {
        let (file, found) = self.open_file_in(dir, relative, place)?;
        if found.len() > self.max_bytes {
            return Ok(None);
        }
        let mut contents = Vec::new();
        file.take(self.max_bytes + 1)
            .read_to_end(&mut contents)
            .map_err(|error| self.failed(place, &error))?;
        Ok((contents.len() as u64 <= self.max_bytes).then(|| etag(&contents)))
    }

    fn not_a_file(&self, place: &Inside, kind: Kind) -> ProviderError {
        let shown = self.shown(place);
        let reason = match kind {
            Kind::Directory => format!("`{shown}` is a directory"),
            Kind::File | Kind::Link | Kind::Other => {
                format!("`{shown}` is not a regular file, but a pipe, a socket or a device")
            }
        };
        Refusal::new(Code::ValidationFailed, reason)
            .hint("give the path of a regular file; `list_directory` shows them")
            .into()
    }

    pub fn too_large(&self, place: &Inside, size: u64) -> ProviderError {
        let (shown, most) = (self.shown(place), self.max_bytes);
        Refusal::new(
            Code::BodyTooLarge,
            format!("`{shown}` has {size} bytes; at most {most} are read or written at once"),
        )
        .hint("read a part of it with `offset` and `limit`")
        .into()
    }

    /// Returns the sentence for an error of the file system.
    pub fn failed(&self, place: &Inside, error: &io::Error) -> ProviderError {
        let shown = self.shown(place);
        let led_outside = error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none();
        let (code, reason, hint) = match error.kind() {
            ErrorKind::NotFound => (Code::NotFound, "does not exist", "`list_directory` shows what is there"),
            _ if led_outside => (
                Code::ValidationFailed,
                "leads out of its root by a symbolic link",
                "only links to places in the same root are followed",
            ),
            ErrorKind::NotADirectory => (
                Code::NotFound,
                "does not exist: one of its names is a file",
                "`list_directory` shows what is there",
            ),
            ErrorKind::PermissionDenied => (
                Code::ToolFailed,
                "may not be used: the file system refuses it to the server",
                "the operator can change its permissions",
            ),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                (Code::ToolFailed, "cannot be written: the disk is full", "delete files")
            }
            ErrorKind::ReadOnlyFilesystem => {
                (Code::ToolFailed, "cannot be changed: its file system is read-only", "write to another root")
            }
            kind => {
                let reason = format!("`{shown}`: {kind}");
                return ProviderError::Failed(reason);
            }
        };
        Refusal::new(code, format!("`{shown}` {reason}")).hint(hint).into()
    }
}

/// Returns the etag of contents: equal for equal bytes.
pub fn etag(contents: &[u8]) -> String {
    let digest = Sha256::digest(contents);
    digest[..ETAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a time in the form of RFC 3339; none for a file system that has no such time.
pub fn timestamp(time: io::Result<cap_std::time::SystemTime>) -> Option<String> {
    let time: SystemTime = time.ok()?.into_std();
    // Nanoseconds that no reader needs are left out.
    let time = jiff::Timestamp::try_from(time).ok()?.round(jiff::Unit::Millisecond).ok()?;
    Some(time.to_string())
}

/// # Errors
/// [`Code::Cancelled`] for a request that nobody waits for any more.
pub fn check_wanted(cancellation: &Cancellation) -> Result<(), ProviderError> {
    match cancellation.is_cancelled() {
        true => Err(Refusal::new(Code::Cancelled, "the request was given up").into()),
        false => Ok(()),
    }
}
