//! The curated marketplace entries: `server.json` documents of the official MCP registry (schema 2025-12-11) with a
//! category, tags, and the call that was tried, embedded in the program.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Time of the newest entry, for the official API.
pub const UPDATED_AT: &str = "2026-11-28T00:00:00Z";

macro_rules! documents {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../marketplace/", $name, ".json")))),*]
    };
}

const DOCUMENTS: [(&str, &str); 23] = documents! {
    "aws-documentation" "brave-search" "chrome-devtools" "code-runner" "context7" "dbhub" "duckdb" "duckduckgo" "eslint"
    "everything" "fetch" "filesystem" "git" "github" "markitdown" "memory" "mongodb" "notion" "playwright" "redis"
    "sentry" "sequential-thinking" "time"
};

/// An entry of the marketplace.
pub struct Entry {
    /// Suggested slug.
    pub slug: &'static str,
    /// The document as it was published.
    pub raw: Box<RawValue>,
    pub document: Document,
    pub curated: Curated,
}

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
    pub version: String,
    #[serde(default)]
    pub package_arguments: Vec<Input>,
    #[serde(default)]
    pub environment_variables: Vec<Input>,
}

#[derive(Deserialize)]
pub struct Remote {
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
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

/// Facts about an entry beside its document.
#[derive(Clone, Deserialize)]
pub struct Curated {
    pub category: String,
    pub tags: Vec<String>,
    /// The tool that was called, and the answer.
    pub tried: Option<String>,
    /// The reason why none was called.
    pub not_tried: Option<String>,
    pub note: Option<String>,
}

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let curated: BTreeMap<String, Curated> = toml::from_str(include_str!("../../marketplace/curated.toml"))
        .expect("the curated facts can be read");
    let mut entries: Vec<Entry> = DOCUMENTS
        .iter()
        .map(|(slug, text)| Entry {
            slug,
            raw: serde_json::from_str(text).expect("an entry is JSON"),
            document: serde_json::from_str(text).expect("an entry is a server.json"),
            curated: curated[*slug].clone(),
        })
        .collect();
    entries.sort_by(|one, other| one.document.name.cmp(&other.document.name));
    entries
});

/// Returns all entries, by name.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

pub fn find(name: &str) -> Option<&'static Entry> {
    entries().iter().find(|entry| entry.document.name == name)
}

impl Entry {
    /// Returns whether a text occurs in what people read of the entry.
    pub fn matches(&self, text: &str) -> bool {
        let Document { name, title, description, .. } = &self.document;
        let tags = self.curated.tags.iter().map(String::as_str);
        let mut texts =
            [name, description].map(String::as_str).into_iter().chain(title.as_deref()).chain(tags);
        texts.any(|one| one.to_lowercase().contains(&text.to_lowercase()))
    }

    /// Returns the transports by which it can be installed.
    pub fn transports(&self) -> Vec<&'static str> {
        let stdio = (!self.document.packages.is_empty()).then_some("stdio");
        stdio.into_iter().chain((!self.document.remotes.is_empty()).then_some("streamable-http")).collect()
    }

    /// Returns the entry as the official Registry API shows it.
    pub fn official(&self) -> Value {
        serde_json::json!({
            "server": self.raw,
            "_meta": {
                "io.modelcontextprotocol.registry/official": {
                    "status": "active",
                    "publishedAt": UPDATED_AT,
                    "updatedAt": UPDATED_AT,
                    "isLatest": true,
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_complete() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/marketplace")).unwrap();
        let documents = files.filter(|file| {
            file.as_ref()
                .is_ok_and(|file| file.path().extension().is_some_and(|extension| extension == "json"))
        });
        assert_eq!(documents.count(), entries().len(), "each file is an entry");
        for entry in entries() {
            let name = &entry.document.name;
            assert!((1..=100).contains(&entry.document.description.chars().count()), "{name}");
            assert!(!entry.transports().is_empty(), "{name}");
            assert!(entry.curated.tried.is_some() != entry.curated.not_tried.is_some(), "{name}");
            assert!(entry.document.packages.iter().all(|package| package.version != "latest"), "{name}");
        }
        assert!(find("io.github.modelcontextprotocol/server-time").unwrap().matches("TIME zone"));
    }
}
