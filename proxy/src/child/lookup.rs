//! Check of a command before its start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::{Code, Refusal};
use rustix::fs::{Access, access};

use crate::server::StdioLaunch;

/// Search path of programs when the child has no `PATH` (as execvp(3) does).
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Refuses a missing directory or program, which could only fail later.
pub fn check(launch: &StdioLaunch, environment: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if let Some(dir) = launch.cwd.as_deref().filter(|dir| !dir.is_dir()) {
        let reason = format!("the working directory `{}` does not exist", dir.display());
        return Err(Refusal::new(Code::UpstreamUnavailable, reason).hint("correct the server's `cwd`"));
    }
    let path = environment.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let command = launch.command.as_str();
    match find(command, path, launch.cwd.as_deref()) {
        Found::Program => Ok(()),
        Found::NotExecutable(file) => {
            let reason = format!("`{}` is not an executable file", file.display());
            Err(Refusal::new(Code::UpstreamUnavailable, reason).hint("correct `command`, or the file's mode"))
        }
        Found::Nothing => {
            let place = if command.contains('/') { "" } else { " in PATH" };
            let reason = format!("the program `{command}` was not found{place}");
            Err(Refusal::new(Code::UpstreamUnavailable, reason).hint(install_hint(command)))
        }
    }
}

enum Found {
    Program,
    NotExecutable(PathBuf),
    Nothing,
}

fn find(command: &str, path: &str, cwd: Option<&Path>) -> Found {
    let in_cwd = |file: &Path| cwd.map_or_else(|| file.to_owned(), |dir| dir.join(file));
    let candidates: Vec<PathBuf> = if command.contains('/') {
        vec![in_cwd(Path::new(command))]
    } else if command.is_empty() {
        Vec::new()
    } else {
        path.split(':').map(|dir| in_cwd(&Path::new(dir).join(command))).collect()
    };
    let mut files = candidates.into_iter().filter(|file| file.is_file()).peekable();
    let first = files.peek().cloned();
    match first {
        None => Found::Nothing,
        Some(_) if files.any(|file| access(&file, Access::EXEC_OK).is_ok()) => Found::Program,
        Some(file) => Found::NotExecutable(file),
    }
}

fn install_hint(command: &str) -> &'static str {
    match command {
        "uv" | "uvx" => "install uv (https://docs.astral.sh/uv/), or give the whole path as `command`",
        "node" | "npm" | "npx" => {
            "install Node.js (https://nodejs.org/), or give the whole path as `command`"
        }
        "python" | "python3" | "pip" | "pipx" => "install Python 3, or give the whole path as `command`",
        "docker" | "podman" => "install a container engine, or give the whole path as `command`",
        "deno" | "bun" => "install this JavaScript runtime, or give the whole path as `command`",
        _ => "install it where the gateway runs, or give the whole path as `command`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(command: &str, cwd: Option<&str>) -> StdioLaunch {
        StdioLaunch {
            command: command.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: cwd.map(PathBuf::from),
            limits: Default::default(),
        }
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let environment = BTreeMap::from([("PATH".to_owned(), "/nowhere:/bin:/usr/bin".to_owned())]);
        assert!(check(&launch("sh", None), &environment).is_ok());
        assert!(check(&launch("./sh", Some("/bin")), &environment).is_ok());
        let missing = check(&launch("uvx-of-nobody", None), &environment).unwrap_err();
        assert_eq!(missing.reason, "the program `uvx-of-nobody` was not found in PATH");
        assert!(check(&launch("/etc/passwd", None), &environment).unwrap_err().reason.contains("executable"));
        assert!(check(&launch("", None), &environment).is_err());
        assert!(
            check(&launch("sh", Some("/nowhere")), &environment).unwrap_err().reason.contains("/nowhere")
        );
    }
}
