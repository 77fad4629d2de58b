//! A server over temporary directories, for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::TenantId;
use protocol::provider::{Cancellation, RequestContext, ToolProvider};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Filesystem, FilesystemSettings};

/// The root `allowed`, with a directory outside whose name begins in the same way.
pub struct Fixture {
    dir: TempDir,
    pub filesystem: Filesystem,
}

/// Contents of the file outside.
pub const SECRET: &str = "secret contents";

impl Fixture {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut FilesystemSettings)) -> Self {
        let dir = TempDir::with_prefix("trunkline-filesystem-").unwrap();
        for name in ["allowed", "allowed_evil"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("allowed_evil/secret"), SECRET).unwrap();
        let roots = vec![("allowed".to_owned(), dir.path().join("allowed"))];
        let mut settings = FilesystemSettings { roots, ..FilesystemSettings::default() };
        change(&mut settings);
        Self { filesystem: Filesystem::open(settings).unwrap(), dir }
    }

    /// A path in the root, on the host.
    pub fn root(&self, relative: &str) -> PathBuf {
        self.dir.path().join("allowed").join(relative)
    }

    /// A path outside the root, on the host.
    pub fn outside(&self, relative: &str) -> PathBuf {
        self.dir.path().join("allowed_evil").join(relative)
    }

    pub fn put(&self, relative: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub fn provider(&self) -> Arc<dyn ToolProvider> {
        Arc::new(self.filesystem.clone())
    }

    /// Calls a tool. Returns its structured content, or the text of its error.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Value, String> {
        let result = framework::testing::call(&self.provider(), tool, arguments.clone()).await?;
        let host = self.dir.path().to_str().unwrap();
        let has_host = |json: &Value| json.to_string().contains(host);
        assert!(!has_host(&result) || has_host(&arguments), "a path of the host: {result}");
        match result["isError"] == true {
            true => Err(result["content"][0]["text"].as_str().unwrap().to_owned()),
            false => Ok(result["structuredContent"].clone()),
        }
    }

    /// Calls a tool of the provider itself, past the list of tools.
    pub async fn call_provider(&self, tool: &str, arguments: Value) -> Result<(), String> {
        let (settings, secrets) = (json!({}), BTreeMap::new());
        let context = RequestContext {
            tenant: TenantId::new(),
            caller: None,
            deadline: Instant::now() + Duration::from_secs(60),
            cancellation: Cancellation::default(),
            progress: &|_| {},
            settings: &settings,
            secrets: &secrets,
        };
        let arguments = to_raw_value(&arguments).unwrap();
        let called = self.filesystem.call(&context, tool, &arguments).await;
        called.map(|_| ()).map_err(|error| error.to_string())
    }

    pub async fn health(&self) -> Result<(), String> {
        self.filesystem.health().await.map_err(|error| error.to_string())
    }

    pub async fn read(&self, path: &str) -> Result<String, String> {
        let read = self.call("read_file", json!({ "path": path })).await?;
        Ok(read["content"].as_str().unwrap().to_owned())
    }

    pub async fn write(&self, path: &str, content: &str) -> Result<Value, String> {
        self.call("write_file", json!({ "path": path, "content": content })).await
    }

    /// Names in a directory of the host, hidden ones too.
    pub fn names(&self, relative: &str) -> Vec<String> {
        names(&self.root(relative))
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
pub fn refused(result: Result<impl std::fmt::Debug, String>, part: &str) {
    let error = result.unwrap_err();
    assert!(error.contains(part), "{part:?} is not in: {error}");
}
