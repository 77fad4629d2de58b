//! References of a JSON Schema to other places in the same document.

use std::collections::{HashMap, HashSet};

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// A reference to another schema.
struct Reference<'a> {
    /// Index of the schema that has it.
    from: usize,
    schema: &'a Value,
    keyword: &'a str,
    /// The schema with `$id` to which the reference is relative.
    base: &'a Value,
    text: &'a str,
}

/// A place that a reference leads to.
pub struct Target<'a> {
    /// Index of the schema that has the reference.
    pub from: usize,
    pub keyword: &'a str,
    pub schema: &'a Value,
    pub base: &'a Value,
}

/// A reference that leads nowhere good: index of its schema, keyword and problem.
pub type Unresolved<'a> = (usize, &'a str, String);

/// Names and references of one document.
#[derive(Default)]
pub struct References<'a> {
    ids: HashMap<&'a str, &'a Value>,
    anchors: HashMap<(*const Value, &'a str), &'a Value>,
    waiting: Vec<Reference<'a>>,
    /// Schema with a `$ref`, and where the `$ref` leads.
    followed: HashMap<*const Value, (usize, *const Value)>,
}

impl<'a> References<'a> {
    /// Reads a keyword of a schema if it names the schema or another one.
    pub fn read(
        &mut self,
        (from, schema, base): (usize, &'a Value, &'a Value),
        keyword: &'a str,
        value: &'a Value,
    ) -> Result<(), String> {
        let Some(text) = value.as_str() else { return Ok(()) };
        let twice = || Err(format!("is there twice: `{text}`"));
        match keyword {
            "$id" if !text.starts_with('#') => match self.ids.insert(text.trim_end_matches('#'), schema) {
                Some(_) => twice(),
                None => Ok(()),
            },
            "$id" | "$anchor" | "$dynamicAnchor" => {
                let name = text.trim_start_matches('#');
                match self.anchors.insert((std::ptr::from_ref(base), name), schema) {
                    Some(_) => twice(),
                    None => Ok(()),
                }
            }
            "$recursiveRef" if text != "#" => Err("has to be `#`".into()),
            "$dynamicRef" if !text.starts_with('#') => Err("has to begin with `#`".into()),
            "$ref" | "$dynamicRef" | "$recursiveRef" => {
                self.waiting.push(Reference { from, schema, keyword, base, text });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Resolves one of the references that were read.
    pub fn next_target(&mut self) -> Result<Option<Target<'a>>, Unresolved<'a>> {
        let Some(Reference { from, schema, keyword, base, text }) = self.waiting.pop() else {
            return Ok(None);
        };
        let (base, target) = self.resolve(base, text).map_err(|problem| (from, keyword, problem))?;
        if keyword == "$ref" {
            self.followed.insert(schema, (from, target));
        }
        Ok(Some(Target { from, keyword, schema: target, base }))
    }

    fn resolve(&self, base: &'a Value, reference: &str) -> Result<(&'a Value, &'a Value), String> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = match document {
            "" => base,
            _ => {
                *self.ids.get(document).ok_or_else(|| format!("leads to another document: `{reference}`"))?
            }
        };
        let target = match fragment {
            "" => Some(base),
            // Clients differ in what a lone slash is.
            "/" => None,
            pointer if pointer.starts_with('/') => {
                percent_decode_str(pointer).decode_utf8().ok().and_then(|pointer| base.pointer(&pointer))
            }
            anchor => self.anchors.get(&(std::ptr::from_ref(base), anchor)).copied(),
        };
        target.map(|target| (base, target)).ok_or_else(|| format!("leads nowhere: `{reference}`"))
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
