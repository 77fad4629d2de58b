//! Tools `list_directory` and `get_file_info`: names, kinds, sizes and times.

use std::collections::BinaryHeap;

use cap_std::fs::{DirEntry, Metadata, MetadataExt};
use framework::{Answer, Output};
use protocol::provider::{Cancellation, ProviderError, RequestContext};
use protocol::{Code, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::{Inside, Place, check_name, is_unfinished, shown};
use super::place::{Kind, check_wanted, timestamp};
use super::{Files, Filesystem};

/// Entries of a page without `limit`.
const PAGE: u16 = 500;

/// Entries between two looks at whether the request is still wanted.
const BETWEEN_LOOKS: usize = 1000;

/// Permissions of a file, without its type.
const MODE: u32 = 0o7777;

/// Arguments of `list_directory`.
#[derive(Deserialize, JsonSchema)]
pub struct ListDirectory {
    /// Directory, as `root/relative/path`; without it the roots, or the one root.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    path: String,
    /// Most entries to return.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u16>,
    /// Name after which the page begins: `next` of the page before.
    #[schemars(length(max = 255))]
    after: Option<String>,
}

/// Result of `list_directory`.
#[derive(Serialize, JsonSchema)]
pub struct Listing {
    path: String,
    /// In the order of their names.
    entries: Vec<Entry>,
    /// Value of `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Entries of the whole directory that no path can name: names that are not UTF-8 or have control
    /// characters.
    unnameable: usize,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    name: String,
    kind: Kind,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Time of the last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
}

/// Arguments of `get_file_info`.
#[derive(Deserialize, JsonSchema)]
pub struct GetFileInfo {
    /// File or directory, as `root/relative/path`.
    #[schemars(length(min = 1, max = 4096))]
    path: String,
}

/// Result of `get_file_info`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    path: String,
    /// Kind of what the path leads to; `link` for a link that leads nowhere or out of the root.
    kind: Kind,
    /// True when the path is a symbolic link.
    is_link: bool,
    size: u64,
    /// Permissions in octal digits.
    mode: String,
    /// Names of the file. Files with more than one are not read or written unless the operator allows it.
    names: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// Etag for `if_match`; only of a file that can be read in whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

impl Filesystem {
    pub async fn list_directory(
        &self,
        context: &RequestContext<'_>,
        asked: ListDirectory,
    ) -> Output<Listing> {
        let listing = self.run(context, move |files, cancellation| files.list(&asked, cancellation)).await?;
        let text = listing.text();
        Ok(Answer::with_text(listing, text))
    }

    pub async fn get_file_info(&self, context: &RequestContext<'_>, asked: GetFileInfo) -> Output<Info> {
        let info = self.run(context, move |files, _| files.info(&asked)).await?;
        Ok(info.into())
    }
}

impl Listing {
    /// Returns a line for each entry: directories with `/`, links with `@`, files with their size.
    fn text(&self) -> String {
        let line = |Entry { name, kind, size, .. }: &Entry| match (kind, size) {
            (Kind::Directory, _) => format!("{name}/"),
            (Kind::Link, _) => format!("{name}@"),
            (Kind::Other, _) => format!("{name}|"),
            (Kind::File, Some(size)) => format!("{name}  {size} bytes"),
            (Kind::File, None) => name.clone(),
        };
        let mut lines: Vec<String> = self.entries.iter().map(line).collect();
        if lines.is_empty() {
            lines.push("(no entries)".to_owned());
        }
        if let Some(next) = &self.next {
            lines.push(format!("[there is more: `after` {next:?}]"));
        }
        if self.unnameable > 0 {
            lines.push(format!("[{} more have names that no path can have]", self.unnameable));
        }
        lines.join("\n")
    }
}

impl Files {
    fn list(&self, asked: &ListDirectory, cancellation: &Cancellation) -> Result<Listing, ProviderError> {
        let limit = usize::from(asked.limit.unwrap_or(PAGE));
        if let Some(after) = &asked.after {
            check_name(after).map_err(|reason| {
                let reason = format!("`after` {} is refused: {reason}", shown(after));
                Refusal::new(Code::ValidationFailed, reason).hint("give `next` of the page before")
            })?;
        }
        let place = match self.read_path(&asked.path)? {
            Place::Roots => return Ok(self.list_roots(asked, limit)),
            Place::Inside(place) => place,
        };
        let dir = self.open_directory(&place)?;
        let failed = |error| self.failed(&place, &error);
        // The first names after the cursor, one more than the page has; the greatest is dropped first.
        let mut page: BinaryHeap<Named> = BinaryHeap::with_capacity(limit + 2);
        let mut unnameable = 0;
        for (looked, entry) in dir.entries().map_err(failed)?.enumerate() {
            if looked % BETWEEN_LOOKS == 0 {
                check_wanted(cancellation)?;
            }
            let entry = entry.map_err(failed)?;
            let Some(name) = nameable(&entry, &mut unnameable) else { continue };
            let is_after = asked.after.as_ref().is_none_or(|after| name > *after);
            let is_early = page.len() <= limit || page.peek().is_some_and(|last| name < last.name);
            if is_after && is_early {
                page.push(Named { name, entry });
                if page.len() > limit + 1 {
                    page.pop();
                }
            }
        }
        let has_more = page.len() > limit;
        let mut page = page.into_sorted_vec();
        page.truncate(limit);
        let next = page.last().filter(|_| has_more).map(|last| last.name.clone());
        // An entry that was deleted meanwhile is none.
        let entries = page.into_iter().filter_map(|Named { name, entry }| {
            let found = entry.metadata().ok()?;
            Some(Entry {
                name,
                kind: found.file_type().into(),
                size: found.is_file().then_some(found.len()),
                modified: timestamp(found.modified()),
            })
        });
        Ok(Listing { path: self.shown(&place), entries: entries.collect(), next, unnameable })
    }

    fn list_roots(&self, asked: &ListDirectory, limit: usize) -> Listing {
        let mut names: Vec<&String> = self.roots.iter().map(|root| &root.name).collect();
        names.sort();
        names.retain(|name| asked.after.as_ref().is_none_or(|after| *name > after));
        let next = (names.len() > limit).then(|| names[limit - 1].clone());
        let entries = names.into_iter().take(limit).map(|name| Entry {
            name: name.clone(),
            kind: Kind::Directory,
            size: None,
            modified: None,
        });
        Listing { path: String::new(), entries: entries.collect(), next, unnameable: 0 }
    }

    fn info(&self, asked: &GetFileInfo) -> Result<Info, ProviderError> {
        let place = self.inside(&asked.path)?;
        let root = self.root(&place);
        let relative = match place.relative.as_str() {
            "" => ".",
            relative => relative,
        };
        let named = root.symlink_metadata(relative).map_err(|error| self.failed(&place, &error))?;
        // A link that leads nowhere, or out of the root, is described itself.
        let target = if named.is_symlink() { root.metadata(relative).ok() } else { None };
        let found: &Metadata = target.as_ref().unwrap_or(&named);
        Ok(Info {
            path: self.shown(&place),
            kind: found.file_type().into(),
            is_link: named.is_symlink(),
            size: found.len(),
            mode: format!("{:04o}", found.mode() & MODE),
            names: found.nlink(),
            modified: timestamp(found.modified()),
            created: timestamp(found.created()),
            etag: self.readable_etag(&place, found),
        })
    }

    /// Returns the etag of a file that `read_file` reads in whole.
    fn readable_etag(&self, place: &Inside, found: &Metadata) -> Option<String> {
        let is_readable = found.is_file() && found.len() <= self.max_bytes;
        is_readable.then(|| self.etag_of(self.root(place), &place.relative, place).ok().flatten()).flatten()
    }
}

/// An entry in the order of its name.
struct Named {
    name: String,
    entry: DirEntry,
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Named {}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

/// Returns the name of an entry; none for the file of an unfinished write, and for a name that is counted
/// because no path can have it.
pub fn nameable(entry: &DirEntry, unnameable: &mut usize) -> Option<String> {
    let name = match entry.file_name().into_string() {
        Ok(name) if is_unfinished(&name) => return None,
        Ok(name) => Some(name).filter(|name| check_name(name).is_ok()),
        Err(_) => None,
    };
    *unnameable += usize::from(name.is_none());
    name
}
