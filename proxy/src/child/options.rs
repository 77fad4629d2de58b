//! Command-line arguments of `exec-child`, written by the gateway and read by the supervisor.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use crate::server::ChildLimits;

/// `[--apply] [--parent PID] [--grace-ms N] [--open-files N] [--cpu-seconds N] [--memory-mb N]
/// [--cwd DIR] -- COMMAND [ARG…]`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// Second stage: set the limits on this very process and become the command.
    pub apply: bool,
    /// Process that must still be the parent; otherwise it died before anyone watched it.
    pub parent: Option<i32>,
    /// Time between SIGTERM and SIGKILL; one second when unset.
    pub grace: Option<Duration>,
    pub limits: ChildLimits,
    pub cwd: Option<PathBuf>,
    pub command: OsString,
    pub args: Vec<OsString>,
}

impl Options {
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
        let mut args = args.into_iter();
        let mut options = Options::default();
        loop {
            let Some(name) = args.next() else {
                return Err("exec-child: `--` and a command are missing".to_owned());
            };
            let name = name.to_string_lossy().into_owned();
            match name.as_str() {
                "--" => break,
                "--apply" => options.apply = true,
                "--parent" => options.parent = Some(number(&name, args.next())?),
                "--grace-ms" => options.grace = Some(Duration::from_millis(number(&name, args.next())?)),
                "--open-files" => options.limits.open_files = Some(number(&name, args.next())?),
                "--cpu-seconds" => options.limits.cpu_seconds = Some(number(&name, args.next())?),
                "--memory-mb" => options.limits.memory_mb = Some(number(&name, args.next())?),
                "--cwd" => match args.next() {
                    Some(dir) => options.cwd = Some(dir.into()),
                    None => return Err("exec-child: --cwd needs a directory".to_owned()),
                },
                _ => return Err(format!("exec-child: unknown option {name}")),
            }
        }
        options.command = args.next().ok_or("exec-child: a command is missing after `--`")?;
        options.args = args.collect();
        Ok(options)
    }

    /// Returns the arguments that [`Options::parse`] reads back.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut out: Vec<OsString> = Vec::new();
        let mut pair = |name: &str, value: Option<OsString>| {
            if let Some(value) = value {
                out.push(name.into());
                out.push(value);
            }
        };
        let text = |number: Option<u64>| number.map(|number| OsString::from(number.to_string()));
        pair("--parent", self.parent.map(|pid| pid.to_string().into()));
        pair("--grace-ms", text(self.grace.map(|grace| grace.as_millis() as u64)));
        pair("--open-files", text(self.limits.open_files));
        pair("--cpu-seconds", text(self.limits.cpu_seconds));
        pair("--memory-mb", text(self.limits.memory_mb));
        pair("--cwd", self.cwd.as_ref().map(|dir| dir.as_os_str().to_owned()));
        if self.apply {
            out.push("--apply".into());
        }
        out.push("--".into());
        out.push(self.command.clone());
        out.extend(self.args.iter().cloned());
        out
    }
}

fn number<T: std::str::FromStr>(name: &str, value: Option<impl AsRef<OsStr>>) -> Result<T, String> {
    value
        .as_ref()
        .and_then(|value| value.as_ref().to_str())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("exec-child: {name} needs a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_back() {
        let options = Options {
            apply: true,
            parent: Some(7),
            grace: Some(Duration::from_millis(1500)),
            limits: ChildLimits { memory_mb: Some(1), open_files: Some(2), cpu_seconds: Some(3) },
            cwd: Some("/a b".into()),
            command: "--".into(),
            args: vec!["--cwd".into(), "".into()],
        };
        assert_eq!(Options::parse(options.to_args()).unwrap(), options);
    }

    #[test]
    fn mistakes_are_named() {
        for (args, part) in [
            (vec!["--cwd"], "directory"),
            (vec!["--parent", "x", "--", "a"], "--parent"),
            (vec!["--what"], "--what"),
            (vec!["--"], "command"),
            (vec![], "`--`"),
        ] {
            let error = Options::parse(args.into_iter().map(OsString::from)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
