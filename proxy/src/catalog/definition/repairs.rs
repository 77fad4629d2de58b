//! Repairs of a definition: replaced, added and removed members of raw JSON, with every other byte kept.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use protocol::Members;
use serde_json::value::RawValue;

use super::Warning;
use super::clients::{self, Rule};
use crate::splice;

/// Position of a value in a definition, as in `inputSchema.properties.a` or `icons[0].src`.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Member(Path::Root, name) => f.write_str(name),
            Path::Member(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Repairs of one definition that were found necessary.
pub struct Repairs<'a> {
    whole: &'a str,
    edits: Vec<(Range<usize>, String)>,
    notes: Vec<(Rule, String)>,
}

impl<'a> Repairs<'a> {
    pub fn new(whole: &'a str) -> Self {
        Self { whole, edits: Vec::new(), notes: Vec::new() }
    }

    /// Notes a repair.
    pub fn note(&mut self, rule: Rule, path: Path<'_>, what: &str) {
        self.notes.push((rule, format!("`{path}` {what}")));
    }

    /// Replaces a value.
    pub fn replace(&mut self, value: &RawValue, by: &str) {
        let range = self.range(value);
        self.edits.push((range, by.to_owned()));
    }

    /// Removes members of an object and puts others (written as JSON members) in front.
    pub fn edit(
        &mut self,
        object: &RawValue,
        members: &Members<'_>,
        removed: &HashSet<&str>,
        added: &[String],
    ) {
        let Range { start, .. } = self.range(object);
        let kept = members.iter().filter(|(name, _)| !removed.contains(name)).count();
        if !added.is_empty() {
            let comma = if kept > 0 { "," } else { "" };
            self.edits.push((start + 1..start + 1, format!("{}{comma}", added.join(","))));
        }
        let (mut last_end, mut leading) = (start + 1, true);
        for (name, value) in members.iter() {
            let end = self.range(value).end;
            if !removed.contains(name) {
                leading = false;
            } else if leading && kept > 0 {
                // The comma behind goes along, since no member stays before it.
                let comma = self.whole[end..].find(',').map_or(end, |comma| end + comma + 1);
                self.edits.push((last_end..comma, String::new()));
                last_end = comma;
                continue;
            } else {
                self.edits.push((last_end..end, String::new()));
            }
            last_end = end;
        }
    }

    /// Returns the warnings about the repairs, one for each rule.
    pub fn warnings(&self) -> Vec<Warning> {
        let rules = [Rule::RepairedType, Rule::RepairedBoolean, Rule::RepairedNull, Rule::RepairedMeta];
        let noted =
            |rule| self.notes.iter().filter(move |(noted, _)| *noted == rule).map(|(_, note)| note.as_str());
        rules.into_iter().filter_map(|rule| clients::warning(rule, noted(rule))).collect()
    }

    /// Returns the repaired definition; none if there was nothing to repair.
    pub fn apply(mut self) -> Option<String> {
        if self.edits.is_empty() {
            return None;
        }
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = String::with_capacity(self.whole.len() + 64);
        let mut done = 0;
        for (range, by) in &self.edits {
            out.push_str(&self.whole[done..range.start]);
            out.push_str(by);
            done = range.end;
        }
        out.push_str(&self.whole[done..]);
        Some(out)
    }

    fn range(&self, value: &RawValue) -> Range<usize> {
        let start = splice::around(self.whole, value.get()).head.len();
        start..start + value.get().len()
    }
}
