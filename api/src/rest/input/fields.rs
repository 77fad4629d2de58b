//! The members of a JSON object, taken out one after the other. Mistakes are collected and reported
//! together, and a member that nobody asked for is one of them.

use protocol::{Code, Refusal};
use serde_json::{Map, Value};

use crate::http::problem::{FieldError, Problem};
use crate::rest::input::strict::Strict;

/// The members not taken yet, and the mistakes so far.
pub struct Fields {
    members: Map<String, Value>,
    known: Vec<&'static str>,
    mistakes: Vec<FieldError>,
}

impl Fields {
    /// # Errors
    /// 400 for what is not JSON, 422 for what is no object.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let parsed = serde_json::from_slice::<Strict>(body);
        let Strict(value) = parsed.map_err(|error| {
            let reason = if body.is_empty() {
                "the body is empty; a JSON object is wanted".to_owned()
            } else {
                format!("the body is not JSON: {error}")
            };
            Refusal::new(Code::ParseError, reason)
        })?;
        match value {
            Value::Object(members) => Ok(Self { members, known: Vec::new(), mistakes: Vec::new() }),
            other => {
                let detail = format!("the body is a JSON object, not {}", kind_of(&other));
                Err(Problem::invalid(vec![FieldError::new("", detail)]))
            }
        }
    }

    /// A member that must be there. None is already counted as a mistake.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        form: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        match self.take(name) {
            None | Some(Value::Null) => {
                self.wrong(name, "is missing");
                None
            }
            Some(value) => self.read(name, &value, form),
        }
    }

    /// A member that may be left out or null.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        form: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        match self.take(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.read(name, &value, form),
        }
    }

    /// A member of a patch that always has a value.
    pub fn change<T>(&mut self, name: &'static str, form: impl Fn(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.take(name)?;
        self.read(name, &value, form)
    }

    /// A member of a patch that null clears.
    pub fn clearing<T>(
        &mut self,
        name: &'static str,
        form: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.take(name)? {
            Value::Null => Some(None),
            value => self.read(name, &value, form).map(Some),
        }
    }

    /// Whether a member is there and has a value.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether a member is there and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(Value::is_null)
    }

    /// Members that are known and cannot be given here.
    pub fn fixed(&mut self, names: &[&str], why: &str) {
        for name in names {
            if self.members.remove(*name).is_some() {
                self.wrong(name, why);
            }
        }
    }

    /// Notes a mistake that lies between members.
    pub fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.mistakes.push(FieldError::new(name, detail));
    }

    /// What was read, if nothing was wrong. `make` puts it together; it answers none only when a
    /// required member was missing.
    pub fn finish<T>(mut self, make: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        let unknown: Vec<String> = self.members.keys().cloned().collect();
        for name in unknown {
            let detail = if self.known.is_empty() {
                "is not known: the body has no members".to_owned()
            } else {
                format!("is not known; the members are {}", self.known.join(", "))
            };
            self.mistakes.push(FieldError::new(shortened(&name), detail));
        }
        match (self.mistakes.is_empty(), make()) {
            (true, Some(made)) => Ok(made),
            (true, None) => {
                Err(Refusal::new(Code::Internal, "a member is missing and was not missed").into())
            }
            (false, _) => Err(Problem::invalid(self.mistakes)),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name)
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: &Value,
        form: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        form(value).map_err(|detail| self.wrong(name, detail)).ok()
    }
}

/// What kind of value it is, for messages.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// At most 60 characters of what a caller sent, for messages.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::form;
    use super::*;

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mut fields = Fields::parse(br#"{"name":7,"agree":"yes","colour":1}"#).unwrap();
        let name = fields.required("name", form::text(1, 20));
        let slug = fields.required("slug", form::slug);
        let agree = fields.optional("agree", form::flag);
        let problem = fields.finish(|| Some((name?, slug?, agree))).unwrap_err();
        assert_eq!(
            problem.refusal().reason,
            "name is a text of 1 to 20 characters, not a number; slug is missing; agree is true or false, not \
             a text; colour is not known; the members are name, slug, agree"
        );
    }

    #[test]
    fn a_patch_tells_null_from_absent() {
        let mut fields = Fields::parse(br#"{"a":null,"b":"x","d":null}"#).unwrap();
        assert_eq!(fields.clearing("a", form::text(0, 9)), Some(None));
        assert_eq!(fields.clearing("b", form::text(0, 9)), Some(Some("x".to_owned())));
        assert_eq!(fields.clearing("c", form::text(0, 9)), None);
        assert_eq!(fields.change("d", form::text(0, 9)), None);
        assert!(fields.finish(|| Some(())).is_err(), "null is no value");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (body, code) in [
            (&b""[..], Code::ParseError),
            (b"{", Code::ParseError),
            (b"{}}", Code::ParseError),
            (b"{\"a\":\"\xff\"}", Code::ParseError),
            (b"{\"a\":1,\"a\":1}", Code::ParseError),
            (b"[]", Code::ValidationFailed),
            (b"null", Code::ValidationFailed),
        ] {
            assert_eq!(
                Fields::parse(body).err().map(|problem| problem.refusal().code),
                Some(code),
                "{body:?}"
            );
        }
    }
}
