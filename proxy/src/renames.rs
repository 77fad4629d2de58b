//! New names of a server's tools, by which callers list and call them. A new name hides a tool of the server that has
//! it as its own; a renamed tool has its own name no more.

use std::collections::{BTreeMap, HashMap};

use protocol::{Slug, names};

use crate::catalog::plain;

/// New names by own names, and back; both also under the exposed forms of these names, so that a call costs a look-up.
#[derive(Debug, Default)]
pub struct Renames {
    new: HashMap<String, String>,
    own: HashMap<String, String>,
    new_by_tail: HashMap<String, String>,
    own_by_tail: HashMap<String, String>,
}

/// Tool that a caller's name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meant<'a> {
    /// A renamed tool, by its own name.
    Renamed(&'a str),
    /// A name that was taken from its tool; with the new one.
    Taken(&'a str),
    /// Any other name, which is the tool's own.
    Own,
}

impl Renames {
    /// Makes the names of a server's tools. Two tools with one new name cannot be distinguished; the names were checked
    /// for that.
    pub fn new(slug: &Slug, names: &BTreeMap<String, String>) -> Self {
        let pairs = || names.iter().map(|(own, new)| (own.clone(), new.clone()));
        let tail = |name: &str| names::exposed_tail(slug, name);
        Self {
            new: pairs().collect(),
            own: pairs().map(|(own, new)| (new, own)).collect(),
            new_by_tail: pairs().map(|(own, new)| (tail(&own), new)).collect(),
            own_by_tail: pairs().map(|(own, new)| (tail(&new), own)).collect(),
        }
    }

    /// Finds what a name stands for.
    pub fn meant(&self, name: &str) -> Meant<'_> {
        meant(self.own.get(name), self.new.get(name))
    }

    /// Finds what the part of an exposed name after the slug stands for.
    pub fn meant_by_tail(&self, tail: &str) -> Meant<'_> {
        meant(self.own_by_tail.get(tail), self.new_by_tail.get(tail))
    }

    /// Finds what a name stands for, with kebab, snake and spaced form and letter case as one.
    pub fn meant_loosely(&self, name: &str) -> Meant<'_> {
        let wanted = plain(name);
        let is_meant = |(known, _): &(&String, &String)| plain(known) == wanted;
        let (own, new) = (self.own.iter().find(is_meant), self.new.iter().find(is_meant));
        meant(own.map(|(_, own)| own), new.map(|(_, new)| new))
    }

    /// Returns the name that callers use for a tool; `None` for a tool whose name another one has.
    pub fn shown<'n>(&'n self, own: &'n str) -> Option<&'n str> {
        match self.new.get(own) {
            Some(new) => Some(new),
            None => (!self.own.contains_key(own)).then_some(own),
        }
    }

    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.new.iter().map(|(own, new)| (own.as_str(), new.as_str()))
    }
}

fn meant<'a>(own: Option<&'a String>, new: Option<&'a String>) -> Meant<'a> {
    match (own, new) {
        (Some(own), _) => Meant::Renamed(own),
        (None, Some(new)) => Meant::Taken(new),
        (None, None) => Meant::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_takes_the_place_of_the_own_one() {
        let names = [("add", "sum"), ("power", "add"), ("a b", "ab")];
        let names = names.map(|(own, new)| (own.to_owned(), new.to_owned()));
        let renames = Renames::new(&"fix".parse().unwrap(), &names.into());
        for meant in [Renames::meant, Renames::meant_by_tail, Renames::meant_loosely] {
            assert_eq!(meant(&renames, "sum"), Meant::Renamed("add"));
            assert_eq!(meant(&renames, "add"), Meant::Renamed("power"));
            assert_eq!(meant(&renames, "power"), Meant::Taken("add"));
            assert_eq!(meant(&renames, "divide"), Meant::Own);
        }
        assert_eq!(renames.meant_loosely("A-B"), Meant::Taken("ab"));
        let shown = ["add", "power", "divide", "sum"].map(|own| renames.shown(own));
        assert_eq!(shown, [Some("sum"), Some("add"), Some("divide"), None]);
    }
}
