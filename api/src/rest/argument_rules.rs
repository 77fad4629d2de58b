//! Argument rules in bodies of configs: their members, limits and schema.

use protocol::ArgumentRule;
use proxy::argument_rules::check_written;
use serde_json::{Number, Value, json};

use crate::rest::describe::described;
use crate::rest::input::form::{Form, kind_of};
use crate::rest::input::{Fields, form};

/// Most rules of one config.
const MOST: usize = 50;
/// Longest pattern, characters.
const LONGEST: usize = 1000;
/// Longest accepted value, bytes of its JSON.
const VALUE_BYTES: usize = 1000;

/// The schema `ArgumentRule`.
pub struct ArgumentRuleText;

described!(ArgumentRuleText as "ArgumentRule", Fields::describe(
    rule,
    "Conditions on one argument of tools: at least one, and all that are given hold together. A value of another type \
     than a condition judges is refused.",
    &json!({"tools": "write_*", "argument": "/path", "pattern": "^src/.*$", "reason": "only sources"})
));

/// Reads the rules of a config.
pub fn rules() -> Form<Vec<ArgumentRule>> {
    form::list(MOST, Fields::form("ArgumentRule", rule).then(|rule| check_written(&rule).map(|()| rule)))
}

fn rule(f: &mut Fields) -> Option<ArgumentRule> {
    let tools = "Name of the server's own tool, or a glob (`*`, `?`, `[a-z]`, `{a,b}`).";
    let argument = "JSON pointer (RFC 6901) into the arguments, such as `/path` or `/options/depth`.";
    let pattern = "Regular expression (without look-around and back-references) that a text matches from its beginning \
                   to its end. Texts of more than 65,536 bytes are refused.";
    let not_pattern = "Regular expression that matches no part of a text; likewise.";
    let one_of = "The accepted values.";
    let length = "Most characters of a text, or elements of a list.";
    let forbidden = "True: the argument may not be given. There is no other condition then.";
    let required =
        "True: the argument must be given. Without it the other conditions hold only where it is given.";
    let tools = f.required("tools", form::text(1, 256), tools);
    let pointer = form::text(1, 500).with("pattern", "^(/([^~/]|~[01])*)+$");
    let argument = f.required("argument", pointer, argument);
    let rule = ArgumentRule {
        pattern: f.optional("pattern", form::text(1, LONGEST), pattern),
        not_pattern: f.optional("notPattern", form::text(1, LONGEST), not_pattern),
        one_of: f.optional("oneOf", values(), one_of),
        minimum: f.optional("minimum", number(), "The least number."),
        maximum: f.optional("maximum", number(), "The greatest number."),
        max_length: f.optional("maxLength", form::whole(0, 1 << 30), length),
        forbidden: f.optional("forbidden", form::flag(), forbidden).unwrap_or_default(),
        required: f.optional("required", form::flag(), required).unwrap_or_default(),
        reason: f.optional(
            "reason",
            form::text(1, 200),
            "What the refused caller reads beside the condition.",
        ),
        ..ArgumentRule::default()
    };
    Some(ArgumentRule { tools: tools?, argument: argument?, ..rule })
}

fn values() -> Form<Vec<Value>> {
    let any = json!({"type": ["object", "array", "string", "number", "boolean", "null"]});
    let value = Form::new(any, |value| match value.to_string().len() {
        0..=VALUE_BYTES => Ok(value.clone()),
        bytes => Err(format!("is JSON of at most {VALUE_BYTES} bytes, not {bytes}")),
    });
    form::list(100, value).with("minItems", 1).then(|values| match values.is_empty() {
        true => Err("is a list of at least one value".to_owned()),
        false => Ok(values),
    })
}

fn number() -> Form<Number> {
    Form::new(json!({"type": "number"}), |value| match value {
        Value::Number(number) => Ok(number.clone()),
        other => Err(format!("is a number, not {}", kind_of(other))),
    })
}
