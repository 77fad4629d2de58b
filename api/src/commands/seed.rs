//! `trunkline seed`: the reference servers, registered through the installation that the marketplace offers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::app::StartError;
use crate::commands::gateway::{Answer, Gateway, with_gateway};
use crate::config::{Client, Config};
use crate::marketplace;

/// Arguments of the command line.
#[derive(clap::Args)]
pub struct Arguments {
    /// A value that a server needs, such as git.--repository=/srv/repository. The directory of `filesystem` is
    /// DATA_DIR/files when none is given and the gateway is on this machine.
    #[arg(long = "input", value_name = "SLUG.NAME=VALUE")]
    inputs: Vec<String>,
}

/// Values by slug and name.
type Inputs = BTreeMap<String, BTreeMap<String, String>>;

/// Registers each reference server that is not there, and prints what became of it and what it needs.
pub fn run(
    arguments: &Arguments,
    client: &Client,
    config: Config,
    environment: Vec<(String, String)>,
) -> Result<ExitCode, StartError> {
    let inputs = read(&arguments.inputs)?;
    let files = config.server.data_dir.join("files");
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    with_gateway(client, config, environment, async |gateway| {
        let inputs = with_files(gateway, inputs, files)?;
        let mut code = ExitCode::SUCCESS;
        for slug in marketplace::REFERENCE {
            let (is_good, line) = add(gateway, slug, inputs.get(slug), path.as_deref()).await?;
            println!("{slug:<20} {line}");
            if !is_good {
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    })
}

fn read(texts: &[String]) -> Result<Inputs, StartError> {
    let mut inputs = Inputs::new();
    for text in texts {
        let parts = text.split_once('=').and_then(|(key, value)| Some((key.split_once('.')?, value)));
        let Some(((slug, name), value)) =
            parts.filter(|((slug, _), _)| marketplace::REFERENCE.contains(slug))
        else {
            let known = marketplace::REFERENCE.join(", ");
            let form = format!("--input is SLUG.NAME=VALUE, not `{text}`; the slugs are {known}");
            return Err(StartError::usage(form));
        };
        inputs.entry(slug.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }
    Ok(inputs)
}

/// Adds the directory of `filesystem`, and makes it, where none is given.
fn with_files(gateway: &Gateway, mut inputs: Inputs, files: PathBuf) -> Result<Inputs, StartError> {
    let own = inputs.entry("filesystem".to_owned()).or_default();
    if gateway.is_here && !own.contains_key("directory") {
        let made = std::fs::create_dir_all(&files).and_then(|()| files.canonicalize());
        let files = made.map_err(|error| {
            StartError::usage(format!("{} (DATA_DIR) cannot be written: {error}", files.display()))
        })?;
        own.insert("directory".to_owned(), files.display().to_string());
    }
    Ok(inputs)
}

/// Registers one server, if it is not there; returns whether that went well, and a line about it.
async fn add(
    gateway: &Gateway,
    slug: &str,
    inputs: Option<&BTreeMap<String, String>>,
    path: Option<&str>,
) -> Result<(bool, String), StartError> {
    let there = gateway.get(&format!("/v1/mcp/servers/{slug}")).await?;
    match there.status {
        // A tenant's own server hides the built-in one of the same slug.
        200 if there.body["managedBy"] == "builtin" => {}
        200 => return Ok((true, "already there".to_owned())),
        404 => {}
        _ => return Ok((false, there.problem())),
    }
    let entry = marketplace::curated().iter().find(|entry| entry.slug == slug).expect("it is curated");
    let install = format!("/v1/mcp/registry/{}/install", entry.document.name.replace('/', "%2F"));
    let mut body = json!({ "slug": slug, "inputs": inputs.cloned().unwrap_or_default() });
    let plan = gateway.post(&install, &body).await?;
    if let Some(missing) = missing(&plan) {
        let options =
            missing.iter().map(|name| format!("--input {slug}.{name}=…")).collect::<Vec<_>>().join(" ");
        return Ok((true, format!("needs input {}: {options}", missing.join(", "))));
    }
    if plan.status != 200 {
        return Ok((false, plan.problem()));
    }
    body["approve"] = plan.body["digest"].clone();
    let added = gateway.post(&install, &body).await?;
    match added.status {
        201 => Ok((true, format!("added; {}", needs(&plan.body["command"], path)))),
        _ => Ok((false, added.problem())),
    }
}

/// Returns the inputs that a refused plan misses, if that is all that is wrong with it.
fn missing(plan: &Answer) -> Option<Vec<String>> {
    let errors = plan.body["errors"].as_array().filter(|_| plan.status == 422)?;
    let missing = |error: &Value| {
        let is_missing = error["detail"].as_str()?.starts_with("is missing");
        is_missing.then(|| error["field"].as_str()?.strip_prefix("inputs.").map(str::to_owned))?
    };
    errors.iter().map(missing).collect()
}

/// Returns what a server needs on the gateway's machine, and whether it is on this one.
fn needs(command: &Value, path: Option<&str>) -> String {
    let command = command.as_str().unwrap_or_default();
    let mut directories = std::env::split_paths(path.unwrap_or_default());
    let found =
        if directories.any(|directory| directory.join(command).is_file()) { "" } else { " (not found here)" };
    format!("needs {command} on the PATH{found}")
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn inputs_are_of_a_server() {
        let inputs = read(&["git.--repository=/srv/a=b".to_owned()]).unwrap();
        assert_eq!(inputs["git"]["--repository"], "/srv/a=b");
        for wrong in ["git=/srv", "git.x", "other.x=y"] {
            assert!(read(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
