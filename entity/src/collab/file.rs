//! Files of a task's workspace: pointers to immutable contents.

use jiff::Timestamp;
use protocol::TenantId;
use serde::Serialize;

/// The current version of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    pub path: String,
    /// Number of the version, from 1.
    pub version: i64,
    /// `"<version>-<first 16 digits of the SHA-256>"`, without the quotes.
    pub etag: String,
    pub sha256: String,
    /// Bytes.
    pub size: i64,
    pub author: String,
    pub updated_at: Timestamp,
}

/// A file of any workspace, for those who keep copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedFile {
    pub tenant: TenantId,
    pub task: String,
    pub path: String,
    pub deleted: bool,
    /// Time of the current version or of the deletion.
    pub changed_at: Timestamp,
}

/// A version of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileVersion {
    pub version: i64,
    pub etag: String,
    pub sha256: String,
    pub size: i64,
    /// The version is a deletion.
    pub deleted: bool,
    pub author: String,
    /// Fencing token under which it was written: that of the lease, or of an earlier version if that is higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<i64>,
    pub written_at: Timestamp,
}

/// A new version of a file. The contents are stored already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileWrite {
    pub path: String,
    pub sha256: String,
    pub size: i64,
    pub deleted: bool,
    pub condition: Condition,
    /// Fencing token of the caller's lease; without one the caller's live lease counts, if it has one.
    pub token: Option<i64>,
}

/// The state of a file that a write builds on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// This version; 0 for a file that does not exist.
    Version(i64),
    Etag(String),
    /// A new file, or the version with this etag, which the caller saw last.
    Seen(Option<String>),
}

/// Returns the entity tag of a version.
pub(crate) fn etag(version: i64, sha256: &str) -> String {
    format!("{version}-{}", sha256.get(..16).unwrap_or(sha256))
}
