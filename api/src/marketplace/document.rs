//! The document of a marketplace entry: a `server.json` of the official MCP registry (schema 2025-12-11), read with
//! all its mistakes. Members that are not known here stay in the document and are not used.

use std::collections::BTreeMap;

use proxy::egress::Url;
use serde::Deserialize;
use serde_json::Value;

use crate::config::decides_code;
use crate::http::problem::FieldError;

/// Most bytes of a document.
pub const MAX_BYTES: usize = 64 << 10;
/// Most packages, remotes, arguments, variables or headers of a document.
const MAX_LIST: usize = 64;

/// The members of a `server.json` that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    pub name: String,
    pub title: Option<String>,
    pub description: String,
    pub version: String,
    #[serde(default)]
    pub packages: Vec<Package>,
    #[serde(default)]
    pub remotes: Vec<Remote>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    pub registry_type: String,
    pub identifier: String,
    /// Left out for packages whose identifier has it, such as container images.
    pub version: Option<String>,
    /// Transport of the running package; stdio when not given.
    pub transport: Option<PackageTransport>,
    #[serde(default)]
    pub package_arguments: Vec<Input>,
    #[serde(default)]
    pub environment_variables: Vec<Input>,
}

#[derive(Deserialize)]
pub struct PackageTransport {
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Deserialize)]
pub struct Remote {
    #[serde(rename = "type")]
    pub kind: String,
    /// The address, in which `{name}` stands for a variable.
    pub url: String,
    #[serde(default)]
    pub variables: BTreeMap<String, Input>,
    #[serde(default)]
    pub headers: Vec<Input>,
}

/// An argument, a variable or a header, whose value is fixed or asked for.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Input {
    /// `positional` or `named`, of an argument.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub name: Option<String>,
    pub value_hint: Option<String>,
    pub description: Option<String>,
    /// A fixed value, in which `{name}` stands for a variable.
    pub value: Option<String>,
    pub default: Option<String>,
    pub choices: Vec<String>,
    pub format: Option<String>,
    pub is_required: bool,
    pub is_secret: bool,
    pub variables: BTreeMap<String, Input>,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// Every mistake, with the path of its member.
    pub fn read(value: &Value) -> Result<Document, Vec<FieldError>> {
        let document = Document::deserialize(value)
            .map_err(|error| vec![FieldError::new("", format!("is a server.json, but {error}"))])?;
        let mut mistakes = Vec::new();
        document.check(&mut |field, detail| mistakes.push(FieldError::new(field, detail)));
        if mistakes.is_empty() { Ok(document) } else { Err(mistakes) }
    }

    /// Returns the package that is run here: the first of npm or PyPI that speaks stdio.
    pub fn package(&self) -> Option<&Package> {
        self.packages.iter().find(|package| package.is_runnable())
    }

    /// Returns the remote server that is reached: the first over HTTP.
    pub fn remote(&self) -> Option<&Remote> {
        self.remotes.iter().find(|remote| HTTP.contains(&remote.kind.as_str()))
    }

    /// Returns the transports by which it can be installed.
    pub fn transports(&self) -> Vec<&'static str> {
        let stdio = self.package().map(|_| "stdio");
        stdio.into_iter().chain(self.remote().map(|_| "streamable-http")).collect()
    }

    fn check(&self, wrong: &mut dyn FnMut(String, String)) {
        let mut text = |name: &str, text: &str, max: usize| {
            if !(1..=max).contains(&text.chars().count()) || text.chars().any(char::is_control) {
                wrong(name.to_owned(), format!("is a line of 1 to {max} characters"));
            }
        };
        text("description", &self.description, 100);
        text("title", self.title.as_deref().unwrap_or("none"), 100);
        text("version", &self.version, 64);
        if !is_name(&self.name) {
            let form = "is 3 to 200 of A-Z, a-z, 0-9, . and -, a `/`, and A-Z, a-z, 0-9, ., _ and -";
            wrong("name".to_owned(), form.to_owned());
        }
        if self.packages.is_empty() && self.remotes.is_empty() {
            wrong("packages".to_owned(), "or `remotes` has at least one member".to_owned());
        }
        if self.packages.len() > MAX_LIST || self.remotes.len() > MAX_LIST {
            wrong("packages".to_owned(), format!("and `remotes` have at most {MAX_LIST} members each"));
        }
        for (at, package) in self.packages.iter().enumerate() {
            package.check(&mut |field, detail| wrong(format!("packages.{at}.{field}"), detail));
        }
        for (at, remote) in self.remotes.iter().enumerate() {
            remote.check(&mut |field, detail| wrong(format!("remotes.{at}.{field}"), detail));
        }
    }
}

/// Kinds of remotes that are reached; the older transport is found out at the address.
const HTTP: [&str; 2] = ["streamable-http", "sse"];

impl Package {
    fn is_runnable(&self) -> bool {
        ["npm", "pypi"].contains(&self.registry_type.as_str())
            && self.transport.as_ref().is_none_or(|transport| transport.kind == "stdio")
    }

    fn check(&self, wrong: &mut dyn FnMut(&str, String)) {
        if self.package_arguments.len() > MAX_LIST || self.environment_variables.len() > MAX_LIST {
            let detail = format!("and `environmentVariables` have at most {MAX_LIST} members each");
            wrong("packageArguments", detail);
        }
        // Only these are ever run.
        if !self.is_runnable() {
            return;
        }
        let version = self.version.as_deref().unwrap_or_default();
        let (known, pinned, form) = match self.registry_type.as_str() {
            "npm" => (is_npm_name(&self.identifier), semver::Version::parse(version).is_ok(), "1.2.3"),
            _ => (is_word(&self.identifier, "._-"), is_pinned_pypi(version), "1.2.3 or 1.2.3a1"),
        };
        if !known || self.identifier.len() > 214 {
            wrong("identifier", format!("is the name of a package of {}", self.registry_type));
        }
        if !pinned {
            wrong("version", format!("is one exact version, such as {form}, and no range or tag"));
        }
        let decides = |input: &&Input| input.name.as_deref().is_some_and(decides_code);
        if let Some(name) = self.environment_variables.iter().find(decides).and_then(|one| one.name.as_ref())
        {
            let detail =
                format!("has `{name}`, which decides what is executed or where it is downloaded from");
            wrong("environmentVariables", detail);
        }
    }
}

impl Remote {
    fn check(&self, wrong: &mut dyn FnMut(&str, String)) {
        if self.headers.len() > MAX_LIST {
            wrong("headers", format!("has at most {MAX_LIST} members"));
        }
        let fits = |url: &str| Url::parse(url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()));
        // An address with variables is one only when it is installed.
        if self.url.len() > 2_048 || !(self.url.contains('{') || fits(&self.url)) {
            wrong("url", "is an address that begins with https:// or http://".to_owned());
        }
    }
}

fn is_name(name: &str) -> bool {
    let fits = |part: &str, further: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || further.as_bytes().contains(&b))
    };
    (3..=200).contains(&name.len())
        && name.split_once('/').is_some_and(|(space, own)| fits(space, ".-") && fits(own, "._-"))
}

/// Returns whether a text begins with a letter or a digit and goes on with these, or with further characters. So it
/// is no option of a program, and no address.
fn is_word(text: &str, further: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || further.as_bytes().contains(&b))
}

fn is_npm_name(name: &str) -> bool {
    let (scope, own) = match name.strip_prefix('@') {
        Some(rest) => rest.split_once('/').unwrap_or(("", "")),
        None => ("none", name),
    };
    is_word(scope, "._-") && is_word(own, "._-")
}

fn is_pinned_pypi(version: &str) -> bool {
    version.len() <= 64 && version.starts_with(|c: char| c.is_ascii_digit()) && is_word(version, ".+!-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_package(package: Value) -> Result<Document, Vec<FieldError>> {
        Document::read(
            &json!({ "name": "a.b/c", "description": "d", "version": "1.0.0", "packages": [package] }),
        )
    }

    #[test]
    fn a_package_is_no_option_no_address_and_no_range() {
        let npm = |identifier: &str, version: &str| {
            of_package(json!({ "registryType": "npm", "identifier": identifier, "version": version }))
        };
        for (identifier, version) in [("@scope/name", "1.0.0"), ("name", "1.0.0-rc.1")] {
            assert!(npm(identifier, version).is_ok(), "{identifier} {version}");
        }
        for (identifier, version) in [
            ("--package=evil", "1.0.0"),
            ("@scope", "1.0.0"),
            ("git+https://h/x", "1.0.0"),
            ("npm:other", "1.0.0"),
            ("../up", "1.0.0"),
            ("name", "latest"),
            ("name", "^1.0.0"),
            ("name", "1"),
            ("name", "1.0.0 --registry=x"),
        ] {
            assert!(npm(identifier, version).is_err(), "{identifier} {version}");
        }
        let pypi = |version: &str| {
            of_package(json!({ "registryType": "pypi", "identifier": "mcp-server-time", "version": version }))
        };
        assert!(pypi("0.0.1a8").is_ok() && pypi("1.*").is_err() && pypi("").is_err());
    }

    #[test]
    fn variables_that_decide_what_is_executed_are_refused() {
        let with = |name: &str| {
            of_package(json!({
                "registryType": "npm", "identifier": "x", "version": "1.0.0",
                "environmentVariables": [{ "name": name, "value": "y" }],
            }))
        };
        for name in
            ["PATH", "LD_PRELOAD", "NODE_OPTIONS", "npm_config_registry", "UV_INDEX_URL", "PYTHONPATH"]
        {
            assert!(with(name).is_err(), "{name}");
        }
        assert!(with("API_KEY").is_ok());
    }

    #[test]
    fn every_mistake_is_named() {
        let document = json!({
            "name": "no-slash", "description": "", "version": "1.0.0", "remotes": [{ "type": "sse", "url": "file:///x" }],
        });
        let Err(mistakes) = Document::read(&document) else { panic!("it was read") };
        let fields: Vec<&str> = mistakes.iter().map(|mistake| &*mistake.field).collect();
        assert_eq!(fields, ["description", "name", "remotes.0.url"]);
    }
}
