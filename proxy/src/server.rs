//! MCP server specification for the upstream side: its launch and its time limits. Knows nothing of the row
//! behind the specification, nor of permitted callers.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use protocol::mcp::Eras;
use protocol::{ServerId, Slug, TenantId};
use serde_json::Value;

use crate::effective::Effective;

/// One server at one revision. A change makes a new one, never an edited one.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    pub id: ServerId,
    /// Owner; none for a server that the operator offers to all tenants.
    pub owner: Option<TenantId>,
    pub slug: Slug,
    pub name: String,
    pub version: Option<String>,
    pub description: Option<String>,
    pub category: Option<String>,
    pub launch: Launch,
    /// Mark of values that configs add to the launch; 0 for none.
    pub variant: u64,
    pub revision: i32,
    pub enabled: Effective<bool>,
    /// Time limit of a call when no config sets one.
    pub timeout: Effective<Duration>,
    /// Time limit of a start, which does not count towards a call's own time-out.
    pub start_timeout: Effective<Duration>,
    /// Time that an unused child is kept; zero for as long as the gateway runs.
    pub idle_timeout: Effective<Duration>,
    /// Most concurrent requests; zero for no bound.
    pub max_concurrency: Effective<u32>,
    pub retries: Effective<u8>,
    /// Eras by the registration.
    pub era: Option<Eras>,
    /// Eras by an earlier discovery.
    pub found: Option<EraVerdict>,
}

/// Eras that a server was found to speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EraVerdict {
    pub eras: Eras,
    pub found_at: Timestamp,
}

/// Values that a config adds to a server's launch.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct LaunchValues {
    /// Variables of a child, or secrets of a built-in server.
    pub env: BTreeMap<String, String>,
    /// Headers of a remote server.
    pub headers: BTreeMap<String, String>,
    pub limits: ChildLimits,
    /// Reason why the values cannot be used: the server is not reached at all, rather than without them.
    pub withheld: Option<&'static str>,
}

impl LaunchValues {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts these values over earlier ones. Names of headers have no case.
    fn over(&self, earlier: &Self) -> Self {
        let mut both = earlier.clone();
        both.env.extend(self.env.clone());
        put_headers(&mut both.headers, &self.headers);
        both.limits = ChildLimits {
            memory_mb: self.limits.memory_mb.or(earlier.limits.memory_mb),
            open_files: self.limits.open_files.or(earlier.limits.open_files),
            cpu_seconds: self.limits.cpu_seconds.or(earlier.limits.cpu_seconds),
        };
        both.withheld = self.withheld.or(earlier.withheld);
        both
    }
}

impl fmt::Debug for LaunchValues {
    /// Shows the names, never the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchValues")
            .field("env", &self.env.keys())
            .field("headers", &self.headers.keys())
            .field("limits", &self.limits)
            .finish()
    }
}

fn put_headers(headers: &mut BTreeMap<String, String>, others: &BTreeMap<String, String>) {
    headers.retain(|name, _| !others.keys().any(|other| other.eq_ignore_ascii_case(name)));
    headers.extend(others.clone());
}

impl ServerSpec {
    /// Returns the name of a built-in server's provider.
    pub fn provider(&self) -> Option<&str> {
        match &self.launch {
            Launch::Builtin(launch) => Some(&launch.provider),
            _ => None,
        }
    }

    /// Returns the server with the values of configs, the most specific ones first, in its launch. It has
    /// upstreams of its own, unless there are no values.
    pub fn with(self: &Arc<Self>, values: &[&LaunchValues]) -> Arc<Self> {
        let values = values.iter().rev().fold(LaunchValues::default(), |all, values| values.over(&all));
        if values.is_empty() {
            return Arc::clone(self);
        }
        let mut launch = self.launch.clone();
        match &mut launch {
            Launch::Builtin(launch) => launch.secrets.extend(values.env.clone()),
            Launch::Stdio(launch) => {
                launch.env.extend(values.env.clone());
                launch.limits = values.limits;
            }
            Launch::Http(launch) | Launch::Websocket(launch) => {
                put_headers(&mut launch.headers, &values.headers);
            }
            Launch::Unsupported { .. } | Launch::Withheld { .. } => {}
        }
        if let Some(reason) = values.withheld {
            launch = Launch::Withheld { reason };
        }
        // The hasher's key is this process's own: the mark tells nothing of the values.
        let variant = VARIANTS.hash_one(&values).max(1);
        Arc::new(Self { launch, variant, ..Self::clone(self) })
    }
}

static VARIANTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Transport and target of a server.
#[derive(Clone, Debug)]
pub enum Launch {
    /// A tool provider of this process.
    Builtin(BuiltinLaunch),
    /// A child process that speaks MCP on its standard input and output.
    Stdio(StdioLaunch),
    /// A remote server: Streamable HTTP of either era, or the older HTTP with SSE.
    Http(RemoteLaunch),
    /// A remote server: JSON-RPC in the text frames of a WebSocket with the subprotocol `mcp`.
    Websocket(RemoteLaunch),
    /// A transport that this build cannot reach.
    Unsupported { transport: String },
    /// A server that is not reached, since values of a config cannot be used.
    Withheld { reason: &'static str },
}

/// A tool provider, with settings and secrets of the server's row.
#[derive(Clone, PartialEq)]
pub struct BuiltinLaunch {
    pub provider: String,
    /// Settings: a JSON object.
    pub settings: Value,
    pub secrets: BTreeMap<String, String>,
}

impl BuiltinLaunch {
    /// Returns the launch of a provider without settings and secrets.
    pub fn new(provider: impl Into<String>) -> Self {
        Self { provider: provider.into(), settings: serde_json::json!({}), secrets: BTreeMap::new() }
    }
}

/// The program of a stdio server: argv and environment, never a shell.
#[derive(Clone, PartialEq, Eq)]
pub struct StdioLaunch {
    pub command: String,
    pub args: Vec<String>,
    /// The server's own variables, on top of the few that are passed on.
    pub env: BTreeMap<String, String>,
    pub cwd: Option<PathBuf>,
    pub limits: ChildLimits,
}

/// URL and headers of a remote server.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteLaunch {
    pub url: String,
    /// The server's own credentials and the like; never those of a caller.
    pub headers: BTreeMap<String, String>,
    /// Origin in the operator's own configuration, which permits a private address.
    pub trusted: bool,
}

impl fmt::Debug for BuiltinLaunch {
    /// Shows the names of the secrets, never their values, and nothing of the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets = self.secrets.keys();
        f.debug_struct("BuiltinLaunch").field("provider", &self.provider).field("secrets", &secrets).finish()
    }
}

impl fmt::Debug for RemoteLaunch {
    /// Shows the names of the headers, never their values, and nothing of the URL but its origin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.url.split('/').take(3).collect::<Vec<_>>().join("/");
        f.debug_struct("RemoteLaunch").field("url", &origin).field("headers", &self.headers.keys()).finish()
    }
}

impl fmt::Debug for StdioLaunch {
    /// Shows the names of the variables, never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioLaunch")
            .field("command", &self.command)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .field("limits", &self.limits)
            .finish()
    }
}

/// Resource limits of a child (setrlimit(2)); `None` keeps the gateway's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct ChildLimits {
    /// Address space in MiB. Node and other programs that reserve much fail under a small one.
    pub memory_mb: Option<u64>,
    pub open_files: Option<u64>,
    pub cpu_seconds: Option<u64>,
}
