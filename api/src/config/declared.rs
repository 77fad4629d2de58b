//! Servers of the configuration file, and what is wrong with one.

use std::collections::BTreeMap;

use entity::Transport;
use protocol::Slug;
use serde::{Deserialize, Serialize};

use crate::config::{MAX_MILLIS, remote_address};

/// A `[[servers]]` entry: global, and kept in step with the file.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredServer {
    pub slug: Slug,
    pub name: Option<String>,
    pub description: Option<String>,
    pub category: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub version: Option<String>,
    pub transport: String,
    pub command: Option<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    pub url: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub era: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub timeout_ms: Option<u32>,
    pub start_timeout_ms: Option<u32>,
    pub idle_timeout_ms: Option<u32>,
    pub max_concurrency: Option<u32>,
}

impl DeclaredServer {
    /// What is wrong with a declared server, each beginning with the member's name.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut refuse = |wrong: bool, text: &str| {
            if wrong {
                mistakes.push(text.to_owned());
            }
        };
        let era = self.era.as_deref().unwrap_or("auto");
        refuse(!matches!(era, "auto" | "legacy" | "modern"), "era: `auto`, `legacy` or `modern` is wanted");
        let times = [
            ("timeout_ms", self.timeout_ms, 1),
            ("start_timeout_ms", self.start_timeout_ms, 1),
            ("idle_timeout_ms", self.idle_timeout_ms, 0),
        ];
        for (name, time, least) in times {
            let wrong = time.is_some_and(|time| !(least..=MAX_MILLIS).contains(&u64::from(time)));
            refuse(wrong, &format!("{name}: {least} to {MAX_MILLIS} is wanted"));
        }
        match Transport::parse(&self.transport) {
            None | Some(Transport::Builtin) => {
                refuse(true, "transport: `stdio`, `streamable-http` or `websocket` is wanted");
            }
            Some(Transport::Stdio) => {
                let command = self.command.as_deref().unwrap_or_default();
                refuse(command.is_empty(), "command: a stdio server needs one");
                refuse(self.url.is_some(), "url: does not belong to a stdio server");
                refuse(!self.headers.is_empty(), "headers: do not belong to a stdio server");
            }
            Some(transport @ (Transport::StreamableHttp | Transport::Websocket)) => {
                refuse(self.command.is_some(), "command: does not belong to a remote server");
                refuse(!self.args.is_empty(), "args: do not belong to a remote server");
                refuse(!self.env.is_empty(), "env: does not belong to a remote server");
                refuse(self.cwd.is_some(), "cwd: does not belong to a remote server");
                match self.url.as_deref().map(|url| remote_address::url(url, transport)) {
                    None => refuse(true, "url: a remote server needs one"),
                    Some(Err(mistake)) => refuse(true, &format!("url: {mistake}")),
                    Some(Ok(_)) => {}
                }
                for (name, value) in &self.headers {
                    if let Err(mistake) = remote_address::header(name, value) {
                        refuse(true, &format!("headers: {mistake}"));
                    }
                }
                refuse(
                    remote_address::twice(self.headers.keys()).is_some(),
                    "headers: a name stands there twice",
                );
            }
        }
        mistakes
    }
}

fn yes() -> bool {
    true
}

impl std::fmt::Debug for DeclaredServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeclaredServer").field("slug", &self.slug).finish_non_exhaustive()
    }
}
