//! References of a JSON Schema to other places in the same document.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// A reference to another schema.
struct Reference<'a> {
    /// Index of the schema that has it.
    from: usize,
    schema: &'a Value,
    keyword: &'a str,
    text: &'a str,
}

/// A place that a reference leads to.
pub struct Target<'a> {
    /// Index of the schema that has the reference.
    pub from: usize,
    pub keyword: &'a str,
    pub schema: &'a Value,
}

/// A reference that leads nowhere good: index of its schema, keyword and problem.
pub type Unresolved<'a> = (usize, &'a str, String);

/// Names and references of one document.
pub struct References<'a> {
    root: &'a Value,
    /// Schema of each anchor; whether it is in an unknown keyword, where not every client finds it.
    anchors: HashMap<&'a str, (&'a Value, bool)>,
    waiting: Vec<Reference<'a>>,
    /// Schema with a `$ref`, and where the `$ref` leads.
    followed: HashMap<*const Value, (usize, *const Value)>,
}

impl<'a> References<'a> {
    pub fn new(root: &'a Value) -> Self {
        Self { root, anchors: HashMap::new(), waiting: Vec::new(), followed: HashMap::new() }
    }

    /// Reads a keyword of a schema if it names the schema or another one. An `$id` below the root is
    /// refused: ajv keeps it for all tools of a list, and two different ones make the list fail.
    pub fn read(
        &mut self,
        from: usize,
        (schema, is_foreign): (&'a Value, bool),
        keyword: &'a str,
        value: &'a Value,
    ) -> Result<(), String> {
        let Some(text) = value.as_str() else { return Ok(()) };
        match keyword {
            "$id" if !text.starts_with('#') => match std::ptr::eq(schema, self.root) {
                true => Ok(()),
                false => Err("names a document within the document".into()),
            },
            "$id" | "$anchor" | "$dynamicAnchor" => {
                let known = self.anchors.insert(text.trim_start_matches('#'), (schema, is_foreign));
                match known.is_none_or(|(known, _)| std::ptr::eq(known, schema)) {
                    true => Ok(()),
                    false => Err(format!("is there twice: `{text}`")),
                }
            }
            "$recursiveRef" if text != "#" => Err("has to be `#`".into()),
            "$dynamicRef" if !text.starts_with('#') => Err("has to begin with `#`".into()),
            "$ref" | "$dynamicRef" | "$recursiveRef" => {
                self.waiting.push(Reference { from, schema, keyword, text });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Resolves one of the references that were read.
    pub fn next_target(&mut self) -> Result<Option<Target<'a>>, Unresolved<'a>> {
        let Some(Reference { from, schema, keyword, text }) = self.waiting.pop() else { return Ok(None) };
        let target = self.resolve(text).map_err(|problem| (from, keyword, problem))?;
        if keyword == "$ref" {
            self.followed.insert(schema, (from, target));
        }
        Ok(Some(Target { from, keyword, schema: target }))
    }

    fn resolve(&self, reference: &str) -> Result<&'a Value, String> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let own = || self.root.get("$id").and_then(Value::as_str).map(|id| id.trim_end_matches('#'));
        if !document.is_empty() && own() != Some(document) {
            return Err(format!("leads to another document: `{reference}`"));
        }
        let target = match fragment {
            "" => Some(self.root),
            // Clients differ in what a lone slash is.
            "/" => None,
            pointer if pointer.starts_with('/') => {
                decode(pointer).and_then(|pointer| self.root.pointer(&pointer))
            }
            anchor => {
                self.anchors.get(anchor).filter(|(_, is_foreign)| !is_foreign).map(|(schema, _)| *schema)
            }
        };
        target.ok_or_else(|| format!("leads nowhere: `{reference}`"))
    }

    /// Checks that no chain of references leads back to its beginning, and returns the index of a schema in
    /// the chain otherwise.
    pub fn check_circles(&self) -> Result<(), usize> {
        let mut done = HashSet::new();
        for start in self.followed.keys() {
            let (mut seen, mut at) = (HashSet::new(), *start);
            while let Some((from, next)) = self.followed.get(&at).filter(|_| !done.contains(&at)) {
                if !seen.insert(at) {
                    return Err(*from);
                }
                at = *next;
            }
            done.extend(seen);
        }
        Ok(())
    }
}

/// Decodes percent-encoding; none if it is malformed, which ajv refuses.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let is_code =
        |part: &str| part.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit));
    match text.split('%').skip(1).all(is_code) {
        true => percent_decode_str(text).decode_utf8().ok(),
        false => None,
    }
}
