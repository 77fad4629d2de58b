//! New names of a server's tools, by which callers list and call them. A new name hides a tool of the server that has
//! it as its own; a renamed tool has its own name no more.

use std::collections::{BTreeMap, HashMap};

/// New names by own names, and back.
#[derive(Debug, Default)]
pub struct Renames {
    new: HashMap<String, String>,
    own: HashMap<String, String>,
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
    /// Makes the names. Two tools with one new name cannot be distinguished; the names were checked for that.
    pub fn new(names: &BTreeMap<String, String>) -> Self {
        let pairs = || names.iter().map(|(own, new)| (own.clone(), new.clone()));
        Self { new: pairs().collect(), own: pairs().map(|(own, new)| (new, own)).collect() }
    }

    /// Finds what a caller's name stands for, where `same` compares it with a name.
    pub fn meant(&self, same: impl Fn(&str) -> bool) -> Meant<'_> {
        if let Some((_, own)) = self.own.iter().find(|(new, _)| same(new)) {
            return Meant::Renamed(own);
        }
        let taken = self.new.iter().find(|(own, _)| same(own));
        taken.map_or(Meant::Own, |(_, new)| Meant::Taken(new))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_takes_the_place_of_the_own_one() {
        let names = [("add", "sum"), ("power", "add")].map(|(own, new)| (own.to_owned(), new.to_owned()));
        let renames = Renames::new(&names.into());
        let meant = |name: &'static str| renames.meant(|other| other == name);
        assert_eq!(meant("sum"), Meant::Renamed("add"));
        assert_eq!(meant("add"), Meant::Renamed("power"));
        assert_eq!(meant("power"), Meant::Taken("add"));
        assert_eq!(meant("divide"), Meant::Own);
        let shown = ["add", "power", "divide", "sum"].map(|own| renames.shown(own));
        assert_eq!(shown, [Some("sum"), Some("add"), Some("divide"), None]);
    }
}
