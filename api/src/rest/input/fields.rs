//! Members of a JSON object, taken out one after the other by a body's table: a function with one line a
//! member. The table reads a body, reports all mistakes together (an unknown member is one of them), and
//! describes the body for the OpenAPI document. Knows no route.

use protocol::{Code, Refusal, Strict};
use serde_json::{Map, Value, json};

use crate::http::problem::{FieldError, Problem};
use crate::rest::input::form::{Form, kind_of, shortened};

/// The members not taken yet, the mistakes so far, and the schema while the table describes.
pub struct Fields {
    members: Map<String, Value>,
    known: Vec<&'static str>,
    mistakes: Vec<FieldError>,
    purpose: Purpose,
    schema: Option<Value>,
}

/// Use of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    New,
    /// Reads a patch (RFC 7396): required members may be left out, and null clears where it may.
    Patch,
    /// Describes an answer, which has every member with a value, and no limits.
    Answer,
}

/// Keywords of schemas that only bodies have.
const LIMITS: [&str; 8] =
    ["minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties", "example"];

impl Fields {
    /// Parses a body; refuses with 400 what is not JSON, with 422 what is no object.
    fn parse(body: &[u8]) -> Result<Self, Problem> {
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
            Value::Object(members) => Ok(Self { members, ..Self::nothing() }),
            other => {
                let detail = format!("the body is a JSON object, not {}", kind_of(&other));
                Err(Problem::invalid(vec![FieldError::new("", detail)]))
            }
        }
    }

    /// Reads a body by a table.
    ///
    /// # Errors
    /// 400 for what is not JSON, 422 that names every mistake.
    pub fn read<T>(body: &[u8], table: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, Problem> {
        let mut fields = Self::parse(body)?;
        let made = table(&mut fields);
        fields.finish(made)
    }

    /// Makes a form of an object within a body, whose schema the document keeps under a name.
    pub fn form<T: 'static>(name: &str, table: fn(&mut Self) -> Option<T>) -> Form<T> {
        Form::named(name, move |value| {
            let Value::Object(members) = value else {
                return Err(format!("is an object, not {}", kind_of(value)));
            };
            let mut fields = Self { members: members.clone(), ..Self::nothing() };
            let made = table(&mut fields);
            fields.finish(made).map_err(|problem| format!("is wrong: {}", problem.refusal().reason))
        })
    }

    /// Returns the schema of the bodies that a table reads.
    pub fn describe<T>(table: impl FnOnce(&mut Self) -> T, about: &str, example: &Value) -> Value {
        let schema = json!({"type": "object", "description": about, "example": example, "additionalProperties": false});
        Self::nothing().described(table, schema)
    }

    /// Returns the schema of answers with these members.
    pub fn describe_answer<T>(table: impl FnOnce(&mut Self) -> T, about: &str) -> Value {
        let fields = Self { purpose: Purpose::Answer, ..Self::nothing() };
        fields.described(table, json!({"type": "object", "description": about}))
    }

    fn described<T>(mut self, table: impl FnOnce(&mut Self) -> T, schema: Value) -> Value {
        self.schema = Some(schema);
        table(&mut self);
        self.schema.unwrap_or_default()
    }

    fn nothing() -> Self {
        let (known, mistakes) = (Vec::new(), Vec::new());
        Self { members: Map::new(), known, mistakes, purpose: Purpose::New, schema: None }
    }

    /// Makes the table that of a patch (RFC 7396).
    pub fn patching(&mut self) {
        self.purpose = Purpose::Patch;
    }

    pub fn is_patch(&self) -> bool {
        self.purpose == Purpose::Patch
    }

    pub fn is_answer(&self) -> bool {
        self.purpose == Purpose::Answer
    }

    /// Takes a required member; in a patch it may be left out. None is noted as a mistake already.
    pub fn required<T: 'static>(&mut self, name: &'static str, form: Form<T>, about: &str) -> Option<T> {
        self.note(name, &form.schema, about, false, !self.is_patch());
        match self.members.remove(name) {
            None | Some(Value::Null) if !self.is_patch() => {
                self.wrong(name, "is missing");
                None
            }
            value => self.take(name, &value?, &form),
        }
    }

    /// Takes a member that may be left out, and that may be null, but not in a patch.
    pub fn optional<T: 'static>(&mut self, name: &'static str, form: Form<T>, about: &str) -> Option<T> {
        self.note(name, &form.schema, about, self.purpose == Purpose::New, self.is_answer());
        match self.members.remove(name)? {
            Value::Null if !self.is_patch() => None,
            value => self.take(name, &value, &form),
        }
    }

    /// Takes a member that may be left out, and that null clears.
    pub fn clearing<T: 'static>(
        &mut self,
        name: &'static str,
        form: Form<T>,
        about: &str,
    ) -> Option<Option<T>> {
        self.note(name, &form.schema, about, true, false);
        match self.members.remove(name)? {
            Value::Null => Some(None),
            value => self.take(name, &value, &form).map(Some),
        }
    }

    /// Takes a member that may be left out, and that null empties.
    pub fn emptying<T: Default + 'static>(
        &mut self,
        name: &'static str,
        form: Form<T>,
        about: &str,
    ) -> Option<T> {
        self.note(name, &form.schema, about, !self.is_answer(), self.is_answer());
        match self.members.remove(name)? {
            Value::Null => Some(T::default()),
            value => self.take(name, &value, &form),
        }
    }

    /// Returns true if a member is present and has a value.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Returns true if a member is present and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(Value::is_null)
    }

    /// Refuses members that are known and cannot be given here.
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

    /// Returns the table's value, or all mistakes; a table returns none only if a required member is missing.
    fn finish<T>(mut self, made: Option<T>) -> Result<T, Problem> {
        for name in self.members.keys() {
            let detail = if self.known.is_empty() {
                "is not known: the body has no members".to_owned()
            } else {
                format!("is not known; the members are {}", self.known.join(", "))
            };
            self.mistakes.push(FieldError::new(shortened(name), detail));
        }
        match (self.mistakes.is_empty(), made) {
            (true, Some(made)) => Ok(made),
            (true, None) => {
                Err(Refusal::new(Code::Internal, "a member is missing and was not missed").into())
            }
            (false, _) => Err(Problem::invalid(self.mistakes)),
        }
    }

    /// Notes a member of the table, as a known name and for the document.
    fn note(&mut self, name: &'static str, form: &Value, about: &str, is_nullable: bool, is_required: bool) {
        self.known.push(name);
        let is_answer = self.is_answer();
        let Some(schema) = &mut self.schema else { return };
        let mut member = form.clone();
        if is_answer {
            without_limits(&mut member);
        }
        if !about.is_empty() {
            member["description"] = about.into();
        }
        if is_nullable && let Some(Value::Array(types)) = member.get_mut("type") {
            types.push("null".into());
        } else if is_nullable && member.get("type").is_some() {
            member["type"] = json!([member["type"], "null"]);
        } else if is_nullable {
            member = json!({"oneOf": [member, {"type": "null"}]});
        }
        schema["properties"][name] = member;
        if is_required {
            match &mut schema["required"] {
                Value::Array(names) => names.push(name.into()),
                none => *none = json!([name]),
            }
        }
    }

    fn take<T: 'static>(&mut self, name: &str, value: &Value, form: &Form<T>) -> Option<T> {
        form.read(value).map_err(|detail| self.wrong(name, detail)).ok()
    }
}

fn without_limits(schema: &mut Value) {
    if let Value::Object(keywords) = schema {
        keywords.retain(|keyword, _| !LIMITS.contains(&keyword.as_str()));
        keywords.values_mut().for_each(without_limits);
    }
}

#[cfg(test)]
mod tests {
    use super::super::form;
    use super::*;

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mut fields = Fields::parse(br#"{"name":7,"agree":"yes","colour":1}"#).unwrap();
        let name = fields.required("name", form::text(1, 20), "");
        let slug = fields.required("slug", form::slug(), "");
        let agree = fields.optional("agree", form::flag(), "");
        let problem = fields.finish(name.zip(slug).map(|both| (both, agree))).unwrap_err();
        assert_eq!(
            problem.refusal().reason,
            "name is a text of 1 to 20 characters, not a number; slug is missing; agree is true or false, not \
             a text; colour is not known; the members are name, slug, agree"
        );
    }

    #[test]
    fn a_patch_tells_null_from_absent() {
        let mut fields = Fields::parse(br#"{"a":null,"b":"x","d":null}"#).unwrap();
        fields.patching();
        assert_eq!(fields.clearing("a", form::text(0, 9), ""), Some(None));
        assert_eq!(fields.clearing("b", form::text(0, 9), ""), Some(Some("x".to_owned())));
        assert_eq!(fields.clearing("c", form::text(0, 9), ""), None);
        assert_eq!(fields.optional("d", form::text(0, 9), ""), None);
        assert!(fields.finish(Some(())).is_err(), "null is no value");
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
