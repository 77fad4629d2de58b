//! Members of a raw JSON object, in original order and notation, so that single members can be removed,
//! added or replaced while every other byte stays.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Members of an object. A duplicate is refused: two readers could take different ones.
#[derive(Default, Debug)]
pub struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

/// Number of members up to which a linear search is used.
const FEW: usize = 32;

impl<'a> Members<'a> {
    /// Reads an object.
    pub fn read(object: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(object)
    }

    /// Reads an object from bytes.
    ///
    /// # Errors
    /// Text that is no UTF-8, no object, or has a member twice.
    pub fn from_slice(object: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(object)
    }

    /// Edits the object in a member. A missing member, or one that is no object or has a member twice, is edited
    /// from `{}`.
    pub fn edit(&mut self, name: &'a str, edit: impl FnOnce(&mut Members<'_>)) {
        let own = self.get(name).map(ToOwned::to_owned);
        let mut inner = own.as_deref().and_then(|own| Members::read(own.get()).ok()).unwrap_or_default();
        edit(&mut inner);
        let edited = inner.to_raw();
        self.set(name, edited);
    }

    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Puts a value in the place of the member of that name, or at the end.
    pub fn set(&mut self, name: &'a str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = Cow::Owned(value),
            None => self.0.push((Cow::Borrowed(name), Cow::Owned(value))),
        }
    }

    /// Sets a string, as [`Members::set`] does.
    pub fn set_text(&mut self, name: &'a str, text: &str) {
        self.set(name, raw(serde_json::to_string(text).expect("a string is JSON")));
    }

    /// Adds a value unless there is one.
    pub fn or_insert(&mut self, name: &'a str, value: impl FnOnce() -> Box<RawValue>) {
        if self.get(name).is_none() {
            self.set(name, value());
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the object.
    pub fn write(&self) -> String {
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.get().len() + 8).sum();
        let mut out = String::with_capacity(bytes + 2);
        out.push('{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::to_string(name).expect("a string is JSON"));
            out.push(':');
            out.push_str(value.get());
        }
        out.push('}');
        out
    }

    pub fn to_raw(&self) -> Box<RawValue> {
        raw(self.write())
    }
}

/// Returns raw JSON of a text that is known to be JSON.
///
/// # Panics
/// When it is not.
pub fn raw(json: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(json.into()).expect("made of JSON")
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members(Vec::new());
                // A set finds duplicates among many members in linear time.
                let mut seen = HashSet::new();
                while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                    if members.0.len() == FEW {
                        seen.extend(members.0.iter().map(|(name, _)| name.clone()));
                    }
                    let twice = match members.0.len() < FEW {
                        true => members.get(&name).is_some(),
                        false => !seen.insert(name.clone()),
                    };
                    if twice {
                        return Err(serde::de::Error::custom(format!("`{name}` is given twice")));
                    }
                    members.0.push((name, Cow::Borrowed(map.next_value::<&'de RawValue>()?)));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Read)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays_as_it_was_written() {
        let mut members = Members::read(r#"{ "a" : 1.0, "b\u0063": {"x": [1e3]}, "d":null }"#).unwrap();
        members.set("a", raw("2"));
        members.set_text("z", "\"");
        members.retain(|name| name != "d");
        members.or_insert("a", || raw("3"));
        assert_eq!(members.write(), r#"{"a":2,"bc":{"x": [1e3]},"z":"\""}"#);
        assert!(Members::read(r#"{"a":1,"a":2}"#).is_err());
        assert_eq!(Members::read("{}").unwrap().write(), "{}");
    }
}
