//! Marketplace entries: published `server.json` documents with their versions, ratings and numbers of installations.
//! Knows the documents as text only.

use jiff::Timestamp;
use protocol::TenantId;

/// Most entries that one tenant publishes.
pub const MAX_ENTRIES: u64 = 1_000;
/// Most imported entries of the installation.
pub const MAX_IMPORTED: u64 = 50_000;
/// Most versions of one entry, deleted ones included.
pub const MAX_VERSIONS: usize = 200;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text,)* } }

            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some($name::$variant),)* _ => None } }
        }
    };
}

words! {
    /// Status of a version, in the words of the official Registry API.
    Status { Active "active", Deprecated "deprecated", Deleted "deleted" }
}

words! {
    /// Origin of an entry.
    Source {
        /// Part of the program.
        Curated "curated",
        /// Publication by a tenant.
        Published "published",
        /// Import by the operator.
        Imported "imported",
    }
}

/// An entry with its latest version.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    /// Publisher, of a published entry.
    pub owner: Option<TenantId>,
    pub source: Source,
    pub category: String,
    pub tags: Vec<String>,
    pub featured: bool,
    pub verified: bool,
    pub ratings: i64,
    /// Sum of the stars of all ratings.
    pub stars: i64,
    /// Number of tenants that have installed the entry.
    pub installs: i64,
    pub latest: EntryVersion,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct EntryVersion {
    pub name: String,
    pub version: String,
    /// The `server.json`.
    pub document: String,
    pub status: Status,
    pub status_message: Option<String>,
    pub is_latest: bool,
    pub published_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A version to be added, of an entry that may be new.
#[derive(Clone, Debug)]
pub struct NewVersion {
    pub name: String,
    pub version: String,
    pub title: Option<String>,
    pub description: String,
    /// The `server.json`.
    pub document: String,
    /// Transports by which it can be installed.
    pub stdio: bool,
    pub remote: bool,
    pub category: String,
    /// Tags without line ends.
    pub tags: Vec<String>,
    pub status: Status,
    pub published_at: Option<Timestamp>,
}

/// Conditions of a list of entries; those that are none select everything.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// Part of the name, the title, the description or a tag, whatever the case.
    pub search: Option<String>,
    pub category: Option<String>,
    pub tag: Option<String>,
    /// Installable as stdio (false) or remote (true) server.
    pub remote: Option<bool>,
    pub featured: Option<bool>,
    pub verified: Option<bool>,
    /// Publication by this tenant (true) or not.
    pub mine: Option<bool>,
}

/// Conditions of the official list of versions, by name and version.
#[derive(Clone, Debug)]
pub struct VersionFilter {
    /// Name and version after which the page begins.
    pub after: Option<(String, String)>,
    /// Part of the name, whatever the case.
    pub search: Option<String>,
    /// Time of the last change at the earliest; with it deleted versions are listed too.
    pub updated_since: Option<Timestamp>,
    pub version: Option<WantedVersion>,
    pub limit: u64,
}

#[derive(Clone, Debug)]
pub enum WantedVersion {
    Latest,
    Exactly(String),
}

/// A change of an entry; members that are none stay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryPatch {
    /// Version that the status is of; all that are not deleted when none is named.
    pub version: Option<String>,
    pub status: Option<Status>,
    pub status_message: Option<Option<String>>,
    pub category: Option<String>,
    pub tags: Option<Vec<String>>,
    pub featured: Option<bool>,
    pub verified: Option<bool>,
}

/// Result of adding one version of an import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Imported {
    Added,
    /// Known already; its status follows the registry that it came from.
    Updated,
    Unchanged,
    /// The reason, for a reader.
    Refused(String),
}

/// A tenant's rating of an entry.
#[derive(Clone, Debug)]
pub struct Rating {
    pub tenant: TenantId,
    /// 1 to 5.
    pub stars: i32,
    pub review: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
