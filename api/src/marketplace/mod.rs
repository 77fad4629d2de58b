//! The marketplace's documents: the curated entries, which are part of the program with a category, tags, and the call
//! that was tried, and the reading of those that are published or imported. Knows no route and no row.

pub mod document;
pub mod plan;
pub mod remote_registry;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use entity::marketplace::{NewVersion, Status};
use protocol::Slug;
use serde::Deserialize;
use serde_json::Value;

use crate::http::problem::FieldError;
use crate::marketplace::document::{Document, MAX_BYTES};

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

/// The reference servers among the curated entries, by their slugs.
pub const REFERENCE: [&str; 7] =
    ["everything", "fetch", "filesystem", "git", "memory", "sequential-thinking", "time"];

/// An entry that is part of the program.
pub struct Curated {
    /// Suggested slug.
    pub slug: &'static str,
    /// The document as it was written.
    pub text: &'static str,
    pub document: Document,
    pub facts: Facts,
}

/// Facts about a curated entry beside its document.
#[derive(Clone, Deserialize)]
pub struct Facts {
    pub category: String,
    pub tags: Vec<String>,
    /// The tool that was called, and the answer.
    pub tried: Option<String>,
    /// The reason why none was called.
    pub not_tried: Option<String>,
    pub note: Option<String>,
}

static CURATED: LazyLock<Vec<Curated>> = LazyLock::new(|| {
    let facts: BTreeMap<String, Facts> = toml::from_str(include_str!("../../marketplace/curated.toml"))
        .expect("the curated facts can be read");
    let read = |(slug, text): &(&'static str, &'static str)| Curated {
        slug,
        text: text.trim_end(),
        document: serde_json::from_str(text).expect("an entry is a server.json"),
        facts: facts[*slug].clone(),
    };
    DOCUMENTS.iter().map(read).collect()
});

/// Returns the curated entries.
pub fn curated() -> &'static [Curated] {
    &CURATED
}

/// Finds a curated entry by its name.
pub fn find_curated(name: &str) -> Option<&'static Curated> {
    curated().iter().find(|entry| entry.document.name == name)
}

impl Curated {
    /// Returns the version for the database.
    pub fn version(&self) -> NewVersion {
        let (category, tags) = (self.facts.category.clone(), self.facts.tags.clone());
        version(&self.document, self.text.to_owned(), category, tags)
    }
}

/// Reads a document that is to be published or imported. Its version is semantic, so that the latest can be found.
///
/// # Errors
/// Every mistake, with the path of its member.
pub fn read(value: &Value, category: String, tags: Vec<String>) -> Result<NewVersion, Vec<FieldError>> {
    let text = value.to_string();
    if text.len() > MAX_BYTES {
        return Err(vec![FieldError::new("", format!("is a document of at most {MAX_BYTES} bytes"))]);
    }
    let semantic = |version: &str| semver::Version::parse(version).is_ok();
    let wrong = value["version"]
        .as_str()
        .is_some_and(|version| !semantic(version))
        .then(|| FieldError::new("version", "is a semantic version, such as 1.2.3 or 1.3.0-rc.1"));
    let document = match (Document::read(value), wrong) {
        (Ok(document), None) => document,
        (Ok(_), Some(wrong)) => return Err(vec![wrong]),
        (Err(mistakes), wrong) => return Err(mistakes.into_iter().chain(wrong).collect()),
    };
    Ok(version(&document, text, category, tags))
}

fn version(document: &Document, text: String, category: String, tags: Vec<String>) -> NewVersion {
    NewVersion {
        name: document.name.clone(),
        version: document.version.clone(),
        title: document.title.clone(),
        description: document.description.clone(),
        document: text,
        stdio: document.package().is_some(),
        remote: document.remote().is_some(),
        category,
        tags,
        status: Status::Active,
        published_at: None,
    }
}

/// Returns the suggested slug of an entry: its own where it is curated, else what a slug can hold of the last part of
/// the name.
pub fn slug(name: &str) -> String {
    if let Some(entry) = find_curated(name) {
        return entry.slug.to_owned();
    }
    let last = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let plain: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let start = plain.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let cut = start.get(..start.len().min(20)).unwrap_or_default().trim_end_matches('-');
    cut.parse::<Slug>().map_or_else(|_| "server".to_owned(), |slug| slug.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curated_entry_is_complete() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/marketplace")).unwrap();
        let documents = files.filter(|file| {
            file.as_ref()
                .is_ok_and(|file| file.path().extension().is_some_and(|extension| extension == "json"))
        });
        assert_eq!(documents.count(), curated().len(), "each file is an entry");
        for entry in curated() {
            let name = &entry.document.name;
            let read = Document::read(&serde_json::from_str(entry.text).unwrap());
            assert!(read.is_ok(), "{name}: {:?}", read.err());
            assert!(!entry.document.transports().is_empty(), "{name}");
            assert!(entry.facts.tried.is_some() != entry.facts.not_tried.is_some(), "{name}");
        }
        assert!(REFERENCE.iter().all(|slug| curated().iter().any(|entry| entry.slug == *slug)));
    }

    #[test]
    fn a_slug_is_made_of_the_name() {
        for (name, wanted) in [
            ("io.github.modelcontextprotocol/server-time", "time"),
            ("com.example/My_Weather.Server", "my-weather-server"),
            ("com.example/2-a-name-that-is-much-too-long", "a-name-that-is-much"),
            ("com.example/42", "server"),
        ] {
            assert_eq!(slug(name), wanted);
        }
    }
}
