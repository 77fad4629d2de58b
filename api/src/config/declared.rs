//! Servers declared in the configuration file.

use entity::{NewServer, ServerSettings, Transport};
use protocol::Slug;
use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

use crate::config::{MAX_MILLIS, remote_address};

/// A `[[servers]]` entry: global, and kept in step with the file.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredServer {
    pub slug: Slug,
    transport: String,
    #[serde(flatten)]
    pub settings: ServerSettings,
    /// The entry as TOML.
    #[serde(skip)]
    pub written: Table,
}

impl DeclaredServer {
    /// Returns the mistakes of a declared server, each beginning with the member's name.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut refuse = |wrong: bool, text: &str| {
            if wrong {
                mistakes.push(text.to_owned());
            }
        };
        let ServerSettings { command, args, env, cwd, url, headers, .. } = &self.settings;
        let era = self.settings.era.as_str();
        refuse(!matches!(era, "auto" | "legacy" | "modern"), "era: `auto`, `legacy` or `modern` is wanted");
        let times = [
            ("timeout_ms", self.settings.timeout_ms, 1),
            ("start_timeout_ms", self.settings.start_timeout_ms, 1),
            ("idle_timeout_ms", self.settings.idle_timeout_ms, 0),
        ];
        for (name, time, least) in times {
            let wrong = time.is_some_and(|time| !(least..=MAX_MILLIS as i64).contains(&time));
            refuse(wrong, &format!("{name}: {least} to {MAX_MILLIS} is wanted"));
        }
        let negative = self.settings.max_concurrency.is_some_and(|max| max < 0);
        refuse(negative, "max_concurrency: 0 or more is wanted");
        let headers = headers.expose().ok().into_iter().flatten();
        match Transport::parse(&self.transport) {
            None | Some(Transport::Builtin) => {
                refuse(true, "transport: `stdio`, `streamable-http` or `websocket` is wanted");
            }
            Some(Transport::Stdio) => {
                refuse(
                    command.as_deref().unwrap_or_default().is_empty(),
                    "command: a stdio server needs one",
                );
                refuse(url.is_some(), "url: does not belong to a stdio server");
                refuse(headers.count() > 0, "headers: do not belong to a stdio server");
            }
            Some(transport @ (Transport::StreamableHttp | Transport::Websocket)) => {
                refuse(command.is_some(), "command: does not belong to a remote server");
                refuse(!args.is_empty(), "args: do not belong to a remote server");
                refuse(!env.is_empty(), "env: does not belong to a remote server");
                refuse(cwd.is_some(), "cwd: does not belong to a remote server");
                match url.as_deref().map(|url| remote_address::url(url, transport)) {
                    None => refuse(true, "url: a remote server needs one"),
                    Some(Err(mistake)) => refuse(true, &format!("url: {mistake}")),
                    Some(Ok(_)) => {}
                }
                for (name, value) in headers.clone() {
                    if let Err(mistake) = remote_address::header(name, value) {
                        refuse(true, &format!("headers: {mistake}"));
                    }
                }
                refuse(
                    remote_address::twice(headers.map(|(name, _)| name)).is_some(),
                    "headers: a name stands there twice",
                );
            }
        }
        mistakes
    }

    /// Returns the server to register; none if the entry has mistakes.
    pub fn server(&self) -> Option<NewServer> {
        let mut settings = self.settings.clone();
        if settings.name.is_empty() {
            settings.name = self.slug.to_string();
        }
        Some(NewServer { slug: self.slug.clone(), transport: Transport::parse(&self.transport)?, settings })
    }
}

/// The entry as TOML, with secrets hidden.
impl Serialize for DeclaredServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = self.written.clone();
        for member in ["env", "headers"] {
            let secrets = shown.get_mut(member).and_then(Value::as_table_mut);
            secrets.into_iter().flatten().for_each(|(_, value)| *value = "[set]".into());
        }
        shown.serialize(serializer)
    }
}

impl std::fmt::Debug for DeclaredServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeclaredServer").field("slug", &self.slug).finish_non_exhaustive()
    }
}
