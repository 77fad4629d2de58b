//! `trunkline new-server`: the crate of a new MCP server, which is made with the framework and has a test.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::StartError;

/// Arguments of the command line.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the crate and of its directory, such as word-counter: small letters, digits and `-`.
    name: String,
    /// The framework: the directory `framework` of a checkout, or the address of a git repository. Without it,
    /// the checkout that this program was built from.
    #[arg(long, value_name = "PATH|GIT")]
    framework: Option<String>,
}

/// Files of the crate, with `NAME`, `CRATE` and `FRAMEWORK` to be replaced.
const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../../../framework/template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("../../../framework/template/src/lib.rs.txt")),
    ("src/main.rs", include_str!("../../../framework/template/src/main.rs.txt")),
    ("tests/server.rs", include_str!("../../../framework/template/tests/server.rs.txt")),
];

/// Words of Rust, and crates that the new one uses.
const TAKEN: [&str; 12] =
    ["as", "async", "await", "crate", "dyn", "fn", "framework", "mod", "schemars", "self", "serde", "tokio"];

/// Writes the crate into a new directory.
///
/// # Errors
/// A name that no crate has, a directory that is there, a framework that is not.
pub fn run(arguments: &Arguments) -> Result<ExitCode, StartError> {
    let name = &arguments.name;
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-')
        && !TAKEN.contains(&name.as_str());
    if !is_name {
        return Err(StartError::usage(format!(
            "`{name}` is no name of a server: it has small letters, digits and `-`, begins with a letter, and is \
             no word of Rust"
        )));
    }
    let framework = framework(arguments.framework.as_deref())?;
    let directory = PathBuf::from(name);
    if directory.exists() {
        return Err(StartError::usage(format!("`{name}` is there already; choose another name")));
    }
    for (path, text) in FILES {
        let text = text
            .replace("FRAMEWORK", &framework)
            .replace("CARGO_BIN_EXE_NAME", &format!("CARGO_BIN_EXE_{name}"))
            .replace("NAME", name)
            .replace("CRATE", &name.replace('-', "_"));
        write(&directory.join(path), &text)?;
    }
    println!(
        "{name}/ has a server with one tool, and its tests.\n\n  cd {name} && cargo test && cargo build --release\n\n\
         Its program is target/release/{name}. docs/writing-a-server.md goes on from here."
    );
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<(), StartError> {
    let failed = |error: std::io::Error| {
        StartError::unavailable(format!("{} cannot be written: {error}", path.display()))
    };
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    std::fs::write(path, text).map_err(failed)
}

/// Returns the dependency as Cargo.toml has it.
fn framework(given: Option<&str>) -> Result<String, StartError> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    if let Some(given) = given
        && (given.contains("://") || given.starts_with("git@"))
    {
        return Ok(format!("{{ git = {} }}", quoted(given)));
    }
    let path =
        given.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework"), PathBuf::from);
    let missing = || {
        let hint =
            "give the directory `framework` of a checkout, or the address of a git repository: --framework";
        StartError::usage(format!("{} is no framework of servers: {hint}", path.display()))
    };
    let path = path.canonicalize().map_err(|_| missing())?;
    if !path.join("src/tools.rs").is_file() {
        return Err(missing());
    }
    Ok(format!("{{ path = {} }}", quoted(&path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_crate_has_are_refused() {
        for name in ["", "Server", "1st", "a/b", "../a", "a_b", "a-", "fn", "framework", "é"] {
            let arguments = Arguments { name: name.to_owned(), framework: None };
            assert!(run(&arguments).is_err(), "{name}");
        }
    }

    #[test]
    fn the_framework_is_a_directory_or_a_repository() {
        assert_eq!(
            framework(Some("https://example.org/x.git")).ok(),
            Some(r#"{ git = "https://example.org/x.git" }"#.into())
        );
        assert!(framework(None).is_ok_and(|path| path.ends_with("/framework\" }")));
        assert!(framework(Some("/nowhere")).is_err());
        assert!(framework(Some("src")).is_err());
    }
}
