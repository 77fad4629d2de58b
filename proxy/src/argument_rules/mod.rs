//! Argument rules of configs, applied to the arguments of tools/call: a JSON pointer finds the argument, conditions
//! judge its value. Arguments that two readers could read differently are refused. No rule is known by its config.

mod pattern;
mod values;

use std::cmp::Ordering;

use protocol::{ArgumentRule, Strict};
use serde_json::Value;

use self::pattern::Pattern;
use self::values::{compare, fold, index, is_same, kind_of, not, pointer};
use crate::policy::Patterns;

/// Most characters of accepted values in a hint.
const HINTED: usize = 500;

/// Rules of one config, in their order.
#[derive(Debug, Default)]
pub struct ArgumentRules(Vec<Rule>);

/// A call that a rule refuses.
#[derive(Debug)]
pub struct Broken {
    /// Place of the rule in its config, from 0.
    pub index: usize,
    pub reason: String,
    pub hint: String,
}

#[derive(Debug)]
struct Rule {
    written: ArgumentRule,
    tools: Patterns,
    /// Members and indexes on the way to the argument.
    path: Vec<String>,
    pattern: Option<Pattern>,
    not_pattern: Option<Pattern>,
}

/// Parses arguments; absent ones are `{}`.
///
/// # Errors
/// A sentence about arguments that are not JSON, nested too deeply, or have a member twice.
pub fn parse(arguments: &[u8]) -> Result<Value, String> {
    let arguments = if arguments.is_empty() { b"{}" } else { arguments };
    serde_json::from_slice(arguments).map(|Strict(value)| value).map_err(|error| error.to_string())
}

/// Checks a rule as it is written.
///
/// # Errors
/// The end of a sentence that begins with the rule.
pub fn check_written(written: &ArgumentRule) -> Result<(), String> {
    let rule = Rule::read(written)?;
    let ArgumentRule { minimum, maximum, forbidden, required, reason: _, .. } = written;
    let judges = [
        rule.pattern.is_some(),
        rule.not_pattern.is_some(),
        written.one_of.is_some(),
        minimum.is_some(),
        maximum.is_some(),
        written.max_length.is_some(),
    ];
    let judges = judges.contains(&true);
    if !(judges || *forbidden || *required) {
        return Err(
            "has no condition: give `pattern`, `notPattern`, `oneOf`, `minimum`, `maximum`, `maxLength`, \
                    `forbidden` or `required`"
                .to_owned(),
        );
    }
    if *forbidden && (judges || *required) {
        return Err("has a condition beside `forbidden`, which leaves no value to judge".to_owned());
    }
    if let (Some(minimum), Some(maximum)) = (minimum, maximum)
        && compare(minimum, maximum) == Ordering::Greater
    {
        return Err(format!("has a `minimum` of {minimum}, above its `maximum` of {maximum}"));
    }
    for (name, pattern) in [("pattern", &rule.pattern), ("notPattern", &rule.not_pattern)] {
        if let Some(Err(problem)) = pattern.as_ref().map(Pattern::regex) {
            return Err(format!("has a `{name}` that {problem}"));
        }
    }
    Ok(())
}

impl ArgumentRules {
    /// Reads the rules of a config, which were checked when they were written.
    ///
    /// # Errors
    /// The rule that cannot be read.
    pub fn read(written: &[ArgumentRule]) -> Result<Self, String> {
        let read = |(index, rule)| Rule::read(rule).map_err(|problem| format!("rules[{index}] {problem}"));
        written.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Returns true if a rule concerns the tool, by the server's own name of it.
    pub fn concern(&self, tool: &str) -> bool {
        self.of(tool).next().is_some()
    }

    /// Returns all rules with their places.
    pub fn all(&self) -> impl Iterator<Item = (usize, &ArgumentRule)> {
        self.0.iter().map(|rule| &rule.written).enumerate()
    }

    /// Returns the rules that concern a tool, with their places.
    pub fn of_tool(&self, tool: &str) -> impl Iterator<Item = (usize, &ArgumentRule)> {
        self.of(tool).map(|(index, rule)| (index, &rule.written))
    }

    fn of(&self, tool: &str) -> impl Iterator<Item = (usize, &Rule)> {
        self.0.iter().enumerate().filter(move |(_, rule)| rule.tools.find(tool).is_some())
    }

    /// Checks the parsed arguments of a call.
    ///
    /// # Errors
    /// The first rule that refuses them.
    pub fn check(&self, tool: &str, arguments: Result<&Value, &String>) -> Result<(), Broken> {
        for (index, rule) in self.of(tool) {
            let arguments = arguments.map_err(|error| Broken {
                index,
                reason: format!("a rule judges its arguments, and they cannot be read in one way: {error}"),
                hint: "give JSON in which no object has a member twice".to_owned(),
            })?;
            rule.check(arguments).map_err(|what| {
                let because =
                    rule.written.reason.as_ref().map(|text| format!("; {text}")).unwrap_or_default();
                let reason = format!("its argument `{}` {what}{because}", rule.written.argument);
                Broken { index, reason, hint: rule.accepted() }
            })?;
        }
        Ok(())
    }
}

impl Rule {
    fn read(written: &ArgumentRule) -> Result<Self, String> {
        let pattern = |text: &Option<String>, is_whole| text.clone().map(|text| Pattern::new(text, is_whole));
        Ok(Self {
            tools: Patterns::parse([&*written.tools])
                .map_err(|problem| format!("has `tools` that cannot be read: {problem}"))?,
            path: pointer(&written.argument)
                .map_err(|problem| format!("has an `argument` that is no JSON pointer: {problem}"))?,
            pattern: pattern(&written.pattern, true),
            not_pattern: pattern(&written.not_pattern, false),
            written: written.clone(),
        })
    }

    /// Returns what is wrong with the argument, as the end of a sentence that begins with its name.
    fn check(&self, arguments: &Value) -> Result<(), String> {
        let Some(value) = self.find(arguments)? else {
            return if self.written.required { Err("is missing".to_owned()) } else { Ok(()) };
        };
        let ArgumentRule { one_of, minimum, maximum, max_length, forbidden, .. } = &self.written;
        if *forbidden {
            return Err("may not be given".to_owned());
        }
        if let Some(pattern) = &self.pattern
            && !pattern.finds(value)?
        {
            return Err(format!("does not match `pattern` `{}` as a whole", pattern.text()));
        }
        if let Some(pattern) = &self.not_pattern
            && pattern.finds(value)?
        {
            return Err(format!("matches `notPattern` `{}`", pattern.text()));
        }
        if let Some(values) = one_of
            && !values.iter().any(|accepted| is_same(accepted, value))
        {
            return Err("is none of `oneOf`".to_owned());
        }
        for (limit, name, wrong) in
            [(minimum, "minimum", Ordering::Less), (maximum, "maximum", Ordering::Greater)]
        {
            let Some(limit) = limit else { continue };
            let Value::Number(number) = value else { return Err(not("a number", value)) };
            if compare(number, limit) == wrong {
                let side = if wrong == Ordering::Less { "below" } else { "above" };
                return Err(format!("is {side} the `{name}` of {limit}"));
            }
        }
        if let Some(most) = max_length {
            let length = match value {
                Value::String(text) => text.chars().count(),
                Value::Array(elements) => elements.len(),
                other => return Err(not("a text or a list", other)),
            };
            if length > *most as usize {
                return Err(format!("has a length of {length}, above the `maxLength` of {most}"));
            }
        }
        Ok(())
    }

    /// Finds the argument; `None` if it is not given. What lies on the way must leave no doubt about it.
    fn find<'v>(&self, arguments: &'v Value) -> Result<Option<&'v Value>, String> {
        let mut value = arguments;
        for step in &self.path {
            let next = match value {
                Value::Object(members) => {
                    let folded = fold(step);
                    match members.keys().find(|name| *name != step && fold(name) == folded) {
                        None => members.get(step),
                        Some(other) => {
                            let other = &**other;
                            return Err(format!(
                                "may be meant by the member `{other}`, which differs from `{step}` in case only"
                            ));
                        }
                    }
                }
                Value::Array(elements) => match index(step) {
                    Some(at) => elements.get(at),
                    None => return Err(format!("lies in a list, which has no member `{step}`")),
                },
                Value::Null => return Ok(None),
                other => return Err(format!("lies in {}, which has no members", kind_of(other))),
            };
            let Some(next) = next else { return Ok(None) };
            value = next;
        }
        Ok(Some(value))
    }

    /// Returns what is accepted, for the caller.
    fn accepted(&self) -> String {
        let ArgumentRule { argument, one_of, minimum, maximum, max_length, forbidden, .. } = &self.written;
        if *forbidden {
            return format!("call it without `{argument}`");
        }
        let values = one_of.as_ref().map(|values| {
            let texts: Vec<String> = values.iter().map(Value::to_string).collect();
            let texts = texts.join(", ");
            match texts.char_indices().nth(HINTED) {
                Some((end, _)) => format!("one of {}…", &texts[..end]),
                None => format!("one of {texts}"),
            }
        });
        let conditions = [
            self.pattern
                .as_ref()
                .map(|pattern| format!("a text that `{}` matches as a whole", pattern.text())),
            self.not_pattern
                .as_ref()
                .map(|pattern| format!("a text without a match of `{}`", pattern.text())),
            values,
            minimum.as_ref().map(|limit| format!("a number of at least {limit}")),
            maximum.as_ref().map(|limit| format!("a number of at most {limit}")),
            max_length.map(|most| format!("at most {most} characters, or elements of a list")),
        ];
        let conditions: Vec<String> = conditions.into_iter().flatten().collect();
        match (conditions.is_empty(), self.written.required) {
            (true, _) => format!("give `{argument}`"),
            (false, true) => format!("give `{argument}`: {}", conditions.join("; ")),
            (false, false) => format!("give `{argument}` so, or leave it out: {}", conditions.join("; ")),
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
