//! Installation plans: the exact program and arguments, or the address, that an entry and its inputs come to. What an
//! entry says never runs as a shell and never names the program: that is `npx` or `uvx`.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::http::problem::FieldError;
use crate::marketplace::document::{Document, Input, Package, Remote};

/// Launch or address of a server that an entry describes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub transport: &'static str,
    pub command: Option<&'static str>,
    pub args: Vec<String>,
    pub url: Option<String>,
    pub env: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    /// Values among these variables and headers that the entry gives, and not the caller.
    #[serde(skip)]
    pub fixed: BTreeMap<String, String>,
}

/// Reader of the inputs of one installation.
struct Inputs<'a> {
    given: &'a BTreeMap<String, String>,
    known: Vec<String>,
    fixed: BTreeMap<String, String>,
    mistakes: Vec<FieldError>,
}

impl Plan {
    /// Makes the plan for a package, or for a remote with `remote`.
    ///
    /// # Errors
    /// Every mistake: missing and unknown inputs, values that are not among the choices, kinds of packages that are
    /// not installed.
    pub fn of(
        document: &Document,
        remote: bool,
        given: &BTreeMap<String, String>,
    ) -> Result<Plan, Vec<FieldError>> {
        let (known, fixed, mistakes) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut inputs = Inputs { given, known, fixed, mistakes };
        let plan = match (document.package(), document.remote()) {
            (_, Some(found)) if remote => inputs.remote(found),
            (Some(package), _) if !remote => inputs.package(package),
            _ => {
                inputs.wrong("transport", not_offered(document));
                None
            }
        };
        for name in given.keys().filter(|name| !inputs.known.contains(name)) {
            let known = inputs.known.join(", ");
            inputs.mistakes.push(FieldError::new(
                format!("inputs.{name}"),
                format!("is not known; the inputs are: {known}"),
            ));
        }
        match plan.filter(|_| inputs.mistakes.is_empty()) {
            Some(plan) => Ok(plan),
            None => Err(inputs.mistakes),
        }
    }

    /// Returns a digest of all that would run or be reached, secrets too.
    pub fn digest(&self) -> String {
        let text = serde_json::to_string(self).expect("plain data");
        format!("sha256:{:x}", Sha256::digest(text))
    }
}

/// Returns the mistake of a transport that an entry does not have.
fn not_offered(document: &Document) -> String {
    let transports = document.transports().join(" and ");
    if !transports.is_empty() {
        return format!("is not offered by this entry, which has {transports}");
    }
    let kinds: Vec<&str> = document.packages.iter().map(|package| &*package.registry_type).collect();
    format!("is not offered: packages of the kind `{}` are not installed here", kinds.join("`, `"))
}

impl Inputs<'_> {
    fn wrong(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.mistakes.push(FieldError::new(field, detail));
    }

    fn package(&mut self, package: &Package) -> Option<Plan> {
        // Without a version, npx and uvx would take whatever is newest.
        let Some(version) = package.version.as_deref().filter(|version| !version.is_empty()) else {
            self.wrong("version", "is missing: the entry's package names no exact version");
            return None;
        };
        let pinned = format!("{}@{version}", package.identifier);
        let (command, mut args) = match package.registry_type.as_str() {
            "npm" => ("npx", vec!["-y".to_owned(), pinned]),
            _ => ("uvx", vec![pinned]),
        };
        for argument in &package.package_arguments {
            let named = argument.kind.as_deref() == Some("named");
            let key = if named { &argument.name } else { &argument.value_hint };
            let Some(value) = self.value(key.as_deref().unwrap_or("argument"), argument) else { continue };
            if argument.is_secret {
                self.wrong(
                    "transport",
                    "cannot be stdio: the entry puts a secret into the arguments, which are shown",
                );
            }
            args.push(match argument.name.as_ref().filter(|_| named) {
                Some(name) => format!("{name}={value}"),
                None => value,
            });
        }
        let env = self.named(&package.environment_variables);
        Some(Plan {
            transport: "stdio",
            command: Some(command),
            args,
            url: None,
            env,
            headers: BTreeMap::new(),
            fixed: std::mem::take(&mut self.fixed),
        })
    }

    fn remote(&mut self, remote: &Remote) -> Option<Plan> {
        let url = Input {
            value: Some(remote.url.clone()),
            variables: remote.variables.clone(),
            ..Input::default()
        };
        let url = self.value("url", &url);
        let headers = self.named(&remote.headers);
        let (args, env, fixed) = (Vec::new(), BTreeMap::new(), std::mem::take(&mut self.fixed));
        Some(Plan { transport: "streamable-http", command: None, args, url, env, headers, fixed })
    }

    fn named(&mut self, inputs: &[Input]) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for input in inputs {
            let Some(name) = &input.name else { continue };
            let Some(value) = self.value(name, input) else { continue };
            if !input.is_secret && input.variables.is_empty() && !self.given.contains_key(name) {
                self.fixed.insert(name.clone(), value.clone());
            }
            values.insert(name.clone(), value);
        }
        values
    }

    /// Returns the value of an input: the fixed one with its variables, else the given one, else the default.
    fn value(&mut self, key: &str, input: &Input) -> Option<String> {
        let Some(fixed) = &input.value else { return self.given(key, input) };
        let mut text = fixed.clone();
        for (name, variable) in &input.variables {
            let value = self.given(name, variable).or_else(|| (!variable.is_required).then(String::new))?;
            text = text.replace(&format!("{{{name}}}"), &value);
        }
        Some(text)
    }

    fn given(&mut self, key: &str, input: &Input) -> Option<String> {
        self.known.push(key.to_owned());
        let field = format!("inputs.{key}");
        let Some(value) = self.given.get(key).or(input.default.as_ref()).cloned() else {
            if input.is_required {
                let about = input.description.as_deref().unwrap_or("a value");
                self.wrong(field, format!("is missing: {about}"));
            }
            return None;
        };
        let fits = match input.format.as_deref() {
            Some("boolean") => ["true", "false"].contains(&value.as_str()),
            Some("number") => value.parse::<f64>().is_ok(),
            _ => true,
        };
        if value.chars().any(char::is_control) {
            self.wrong(field, "has a control character");
        } else if !input.choices.is_empty() && !input.choices.contains(&value) {
            self.wrong(field, format!("is one of {}", input.choices.join(", ")));
        } else if !fits {
            self.wrong(field, format!("is a {}", input.format.as_deref().unwrap_or_default()));
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marketplace::find_curated;

    fn plan(name: &str, remote: bool, inputs: &[(&str, &str)]) -> Result<Plan, String> {
        let given = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Plan::of(&find_curated(name).unwrap().document, remote, &given)
            .map_err(|mistakes| mistakes.iter().map(|one| format!("{} {};", one.field, one.detail)).collect())
    }

    #[test]
    fn plans_are_exact() {
        let files = "io.github.modelcontextprotocol/server-filesystem";
        let found = plan(files, false, &[("directory", "/srv/x; rm -rf /")]).unwrap();
        assert_eq!(
            (found.command, &*found.args),
            (
                Some("npx"),
                &["-y", "@modelcontextprotocol/server-filesystem@2026.8.31", "/srv/x; rm -rf /"]
                    .map(str::to_owned)[..]
            ),
            "one argument, never a shell"
        );
        let time = plan(
            "io.github.modelcontextprotocol/server-time",
            false,
            &[("--local-timezone", "Europe/Berlin")],
        );
        assert_eq!(time.unwrap().args, ["mcp-server-time@2026.10.19", "--local-timezone=Europe/Berlin"]);
        let github = "io.github.github/github-mcp-server";
        let found = plan(github, true, &[("token", "s3cret")]).unwrap();
        assert_eq!(
            (&*found.headers["Authorization"], &*found.headers["X-MCP-Readonly"]),
            ("Bearer s3cret", "true")
        );
        let other = plan(github, true, &[("token", "other")]).unwrap();
        assert_ne!(found.digest(), other.digest());
        for (name, remote, inputs, part) in [
            (files, false, &[][..], "inputs.directory is missing: A directory"),
            (files, false, &[("directory", "a\nb")], "control character"),
            (
                files,
                false,
                &[("directory", "/x"), ("colour", "red")],
                "inputs.colour is not known; the inputs are: directory",
            ),
            (files, true, &[], "transport is not offered by this entry, which has stdio"),
            (
                github,
                true,
                &[("token", "x"), ("X-MCP-Readonly", "maybe")],
                "inputs.X-MCP-Readonly is a boolean",
            ),
        ] {
            let Err(mistakes) = plan(name, remote, inputs) else { panic!("{part}") };
            assert!(mistakes.contains(part), "{mistakes}");
        }
    }
}
