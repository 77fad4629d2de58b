//! Query parameters. An unknown, malformed or repeated one is refused by name: an ignored filter would answer
//! another query than the client's.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use entity::Page;
use protocol::{Code, Refusal};

use crate::http::problem::{FieldError, Problem};
use crate::rest::input::form::{Read, shortened};

/// The query, not read yet; none when it cannot be decoded.
pub struct Parameters(Option<Vec<(String, String)>>);

/// The parameters not taken yet, and the mistakes so far.
pub struct Reading {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    mistakes: Vec<FieldError>,
}

impl Parameters {
    /// Begins to read the parameters.
    pub fn read(self) -> Result<Reading, Problem> {
        let pairs =
            self.0.ok_or_else(|| Refusal::new(Code::BadRequest, "the query is not percent-encoded UTF-8"))?;
        Ok(Reading { pairs, known: Vec::new(), mistakes: Vec::new() })
    }

    /// Refuses any parameter, for a route that has none.
    pub fn none(self) -> Result<(), Problem> {
        self.read()?.finish()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).ok().map(|Query(pairs)| pairs)))
    }
}

impl Reading {
    /// Takes one parameter. An empty one is a mistake.
    pub fn optional<T>(&mut self, name: &'static str, form: impl Fn(&str) -> Read<T>) -> Option<T> {
        self.known.push(name);
        self.take(name, form)
    }

    /// Takes one parameter; an empty one counts as not given, as in the official Registry API.
    pub fn optional_or_empty<T>(&mut self, name: &'static str, form: impl Fn(&str) -> Read<T>) -> Option<T> {
        self.pairs.retain(|(key, value)| key != name || !value.is_empty());
        self.optional(name, form)
    }

    /// Takes one parameter that must be given.
    pub fn required<T>(&mut self, name: &'static str, form: impl Fn(&str) -> Read<T>) -> Option<T> {
        let wrong = self.mistakes.len();
        let taken = self.optional(name, form);
        if taken.is_none() && self.mistakes.len() == wrong {
            self.mistakes.push(FieldError::new(name, "is missing"));
        }
        taken
    }

    /// Takes `page` and `pageSize`, also spelled `page_size`.
    pub fn page(&mut self) -> Page {
        self.known.extend(["page", "pageSize"]);
        let default = Page::default();
        let page = self.take("page", number(1, 1_000_000_000)).unwrap_or(default.page);
        let size = self.take("pageSize", number(1, Page::MAX_SIZE));
        let size = size.or_else(|| self.take("page_size", number(1, Page::MAX_SIZE)));
        Page::new(page, size.unwrap_or(default.page_size))
    }

    /// Refuses with 422 that names every wrong parameter.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.pairs {
            let detail = if self.known.is_empty() {
                "is not known: there are no query parameters here".to_owned()
            } else {
                format!("is not known, or given twice; the query parameters are {}", self.known.join(", "))
            };
            self.mistakes.push(FieldError::new(shortened(name), detail));
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(Problem::invalid(self.mistakes)) }
    }

    fn take<T>(&mut self, name: &str, form: impl Fn(&str) -> Read<T>) -> Option<T> {
        let at = self.pairs.iter().position(|(key, _)| key == name)?;
        let (_, text) = self.pairs.remove(at);
        if text.is_empty() {
            self.mistakes.push(FieldError::new(name, "is empty: leave it out, or give a value"));
            return None;
        }
        form(&text).map_err(|detail| self.mistakes.push(FieldError::new(name, detail))).ok()
    }
}

/// Reads a whole number in a range.
pub fn number(min: u64, max: u64) -> impl Fn(&str) -> Read<u64> {
    move |text| {
        let read = text.parse().ok().filter(|number| (min..=max).contains(number));
        read.ok_or_else(|| format!("is a whole number from {min} to {max}, not `{}`", shortened(text)))
    }
}

/// Reads one of the names that `parse` takes; `words` are all of them.
pub fn one_of<T>(parse: impl Fn(&str) -> Option<T>, words: &[&str]) -> impl Fn(&str) -> Read<T> {
    move |text| {
        parse(text).ok_or_else(|| format!("is one of {}, not `{}`", words.join(", "), shortened(text)))
    }
}

/// Most characters of a text.
pub const MAX_TEXT: usize = 1_000;

/// Reads any text of at most [`MAX_TEXT`] characters.
pub fn any(text: &str) -> Read<String> {
    let fits = text.chars().count() <= MAX_TEXT && !text.contains('\0');
    if fits { Ok(text.to_owned()) } else { Err(format!("is a text of at most {MAX_TEXT} characters")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(pairs: &[(&str, &str)]) -> Reading {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Parameters(Some(pairs)).read().unwrap()
    }

    #[test]
    fn both_spellings_of_the_page_size() {
        for name in ["pageSize", "page_size"] {
            let mut reading = reading(&[("page", "3"), (name, "10")]);
            assert_eq!(reading.page(), Page::new(3, 10));
            assert!(reading.finish().is_ok());
        }
    }

    #[test]
    fn wrong_parameters_are_all_named() {
        let mut reading =
            reading(&[("page", "0"), ("pageSize", "x"), ("colour", "red"), ("search", "a"), ("search", "b")]);
        reading.page();
        reading.optional("search", any);
        let said = reading.finish().unwrap_err().refusal().reason.clone();
        for name in ["page is", "pageSize is", "colour is", "search is"] {
            assert!(said.contains(name), "{name} in {said}");
        }
    }
}
