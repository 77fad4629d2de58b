//! Installation plans: the exact program and arguments, or the address, that an entry and its inputs come to. What an
//! entry says never runs as a shell and never names the program: that is `npx` or `uvx`.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::http::problem::FieldError;
use crate::marketplace::{Entry, Input, Package, Remote};

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
}

/// Reader of the inputs of one installation.
struct Inputs<'a> {
    given: &'a BTreeMap<String, String>,
    known: Vec<String>,
    mistakes: Vec<FieldError>,
}

impl Plan {
    /// Makes the plan for a package, or for a remote with `remote`.
    ///
    /// # Errors
    /// Every mistake: missing and unknown inputs, values that are not among the choices, kinds of packages that are
    /// not installed.
    pub fn of(
        entry: &Entry,
        remote: bool,
        given: &BTreeMap<String, String>,
    ) -> Result<Plan, Vec<FieldError>> {
        let mut inputs = Inputs { given, known: Vec::new(), mistakes: Vec::new() };
        let document = &entry.document;
        let plan = match (document.packages.first(), document.remotes.first()) {
            (_, Some(found)) if remote => inputs.remote(found),
            (Some(package), _) if !remote => inputs.package(package),
            _ => {
                let transports = entry.transports().join(" and ");
                inputs.wrong("transport", format!("is not offered by this entry, which has {transports}"));
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

impl Inputs<'_> {
    fn wrong(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.mistakes.push(FieldError::new(field, detail));
    }

    fn package(&mut self, package: &Package) -> Option<Plan> {
        let Package { registry_type, identifier, version, .. } = package;
        let (command, mut args) = match registry_type.as_str() {
            "npm" => ("npx", vec!["-y".to_owned(), format!("{identifier}@{version}")]),
            "pypi" => ("uvx", vec![format!("{identifier}@{version}")]),
            other => {
                self.wrong(
                    "transport",
                    format!("cannot be stdio: packages of the kind `{other}` are not installed"),
                );
                return None;
            }
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
        })
    }

    fn remote(&mut self, remote: &Remote) -> Option<Plan> {
        // The older transport is found out at the address.
        if !["streamable-http", "sse"].contains(&remote.kind.as_str()) {
            self.wrong("transport", format!("cannot be remote: `{}` is not known", remote.kind));
            return None;
        }
        let headers = self.named(&remote.headers);
        let (args, env, url) = (Vec::new(), BTreeMap::new(), Some(remote.url.clone()));
        Some(Plan { transport: "streamable-http", command: None, args, url, env, headers })
    }

    fn named(&mut self, inputs: &[Input]) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for input in inputs {
            let Some(name) = &input.name else { continue };
            values.extend(self.value(name, input).map(|value| (name.clone(), value)));
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
    use crate::marketplace::find;

    fn plan(name: &str, remote: bool, inputs: &[(&str, &str)]) -> Result<Plan, String> {
        let given = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Plan::of(find(name).unwrap(), remote, &given)
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
