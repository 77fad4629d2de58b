//! Built-in server `filesystem`: files of directories that the operator chose. Every access is relative to an
//! open directory, and no answer has a path of the host.

mod arguments;
mod glob;
mod list;
mod path;
mod place;
mod read;
mod search;
mod stale;
mod text;
mod tools;
mod write;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tool_tests;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cap_fs_ext::MetadataExt;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parking_lot::Mutex;
use protocol::provider::{
    Cancellation, ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput, ToolProvider,
};
use protocol::{Code, Refusal};
use serde_json::value::RawValue;

pub use self::glob::Glob;
pub use self::path::{Inside, Place, read as read_path};

/// Settings of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemSettings {
    /// Directories under their names, which are the first names of all paths. Without any the server is not
    /// configured.
    pub roots: Vec<(String, PathBuf)>,
    /// Leaves the tools out that change something.
    pub read_only: bool,
    /// Reads and replaces files that have a second name, which may be that of a file outside.
    pub allow_hard_links: bool,
    /// Largest file that is read in whole or written, and largest part of one that is read, bytes.
    pub max_bytes: u64,
}

impl Default for FilesystemSettings {
    fn default() -> Self {
        Self { roots: Vec::new(), read_only: false, allow_hard_links: false, max_bytes: 10_000_000 }
    }
}

pub const INFO: ProviderInfo = ProviderInfo {
    name: "filesystem",
    title: "Filesystem",
    version: env!("CARGO_PKG_VERSION"),
    description: "Reads, writes, lists and searches files in the directories that the operator chose. Paths are \
                  `root/relative/path`; `list_directory` without a path shows the roots.",
};

/// The built-in server `filesystem`. Cheap to clone.
#[derive(Clone)]
pub struct Filesystem(Arc<Files>);

/// The open roots, and what is done in them; blocking.
struct Files {
    roots: Vec<Root>,
    read_only: bool,
    allow_hard_links: bool,
    max_bytes: u64,
    /// Held from the last look at a file until it is replaced.
    replacing: Mutex<()>,
}

struct Root {
    name: String,
    dir: Dir,
}

impl AsRef<str> for Root {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl Filesystem {
    /// Opens the roots, and begins to remove what unfinished writes have left there.
    ///
    /// # Errors
    /// The setting that is wrong, in one sentence for the operator.
    pub fn open(settings: FilesystemSettings) -> Result<Self, String> {
        let FilesystemSettings { roots, read_only, allow_hard_links, max_bytes } = settings;
        if max_bytes == 0 {
            return Err("the largest size of a file is 0 bytes: give at least 1".to_owned());
        }
        let mut open: Vec<Root> = Vec::with_capacity(roots.len());
        for (name, dir) in roots {
            if name.is_empty() || name == "." || name.contains('/') {
                return Err(format!("the name {name:?} of a root is refused: give one without `/`"));
            }
            path::check_name(&name)
                .map_err(|reason| format!("the name {name:?} of a root is refused: {reason}"))?;
            if open.iter().any(|root| root.name == name) {
                return Err(format!("two roots have the name `{name}`: give each a name of its own"));
            }
            let dir = Dir::open_ambient_dir(&dir, ambient_authority()).map_err(|error| {
                format!("the directory {} cannot be opened: {error}; give one that exists", dir.display())
            })?;
            open.push(Root { name, dir });
        }
        let files =
            Files { roots: open, read_only, allow_hard_links, max_bytes, replacing: Mutex::default() };
        let filesystem = Self(Arc::new(files));
        if !read_only {
            stale::remove_in_background(&filesystem.0)?;
        }
        Ok(filesystem)
    }

    /// Runs blocking work on a thread for it.
    async fn run<T: Send + 'static>(
        &self,
        context: &RequestContext<'_>,
        work: impl FnOnce(&Files, &Cancellation) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (files, cancellation) = (Arc::clone(&self.0), context.cancellation.clone());
        let done = tokio::task::spawn_blocking(move || work(&files, &cancellation)).await;
        done.unwrap_or_else(|error| {
            tracing::error!(%error, "a call of the filesystem server stopped");
            Err(ProviderError::Failed("the server failed inside; the operator's log has more".to_owned()))
        })
    }
}

#[async_trait]
impl ToolProvider for Filesystem {
    fn info(&self) -> ProviderInfo {
        INFO
    }

    fn not_configured(&self) -> Option<Refusal> {
        self.0.roots.is_empty().then(|| {
            Refusal::new(Code::NotConfigured, "the server `filesystem` has no directory")
                .hint("give it at least one directory")
        })
    }

    async fn health(&self) -> Result<(), ProviderError> {
        let files = Arc::clone(&self.0);
        let looked = tokio::task::spawn_blocking(move || files.health()).await;
        looked.unwrap_or_else(|error| Err(error.to_string())).map_err(ProviderError::Failed)
    }

    async fn tools(&self, _context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        let listed = |tool: &ToolDefinition| tool.annotations.read_only_hint || !self.0.read_only;
        Ok(tools::TOOLS.definitions().into_iter().filter(listed).collect())
    }

    async fn call(
        &self,
        context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        if self.0.read_only && !tools::READING.contains(&tool) {
            return Err(ProviderError::NotFound);
        }
        tools::TOOLS.call(self, context, tool, arguments).await
    }
}

impl Files {
    /// Looks whether each root can be read and is still in the file system.
    fn health(&self) -> Result<(), String> {
        for Root { name, dir } in &self.roots {
            let looked = dir.entries().and_then(|_| dir.dir_metadata());
            let found = looked.map_err(|error| format!("the root `{name}` cannot be read: {error}"))?;
            if found.nlink() == 0 {
                return Err(format!(
                    "the directory of the root `{name}` was deleted: start the server again"
                ));
            }
        }
        Ok(())
    }
}
