//! Validity of an output schema as JSON Schema, for clients that compile it while they read the list.
//!
//! The TypeScript SDK 1.32 compiles every output schema with ajv (draft-07) while it lists, and one that does
//! not compile costs its user the whole list; the client 2.4 and the Python SDK 2.3 compile it in the declared
//! dialect before the call or after it. A schema has to be good for all three.

mod keywords;
mod pattern;
mod references;

use std::collections::HashSet;

use protocol::Members;
use serde_json::Value;

use self::keywords::{Takes, takes};
use self::references::{References, Target};
use crate::splice::may_have;

/// Most bytes of a schema, and of an item.
pub const MAX_BYTES: usize = 1 << 20;

/// Checks the output schema of a tool, which may have none.
pub fn check_output(tool: &str) -> Result<(), String> {
    const MEMBER: &str = "outputSchema";
    if !may_have(tool.as_bytes(), MEMBER) {
        return Ok(());
    }
    let members = Members::read(tool).map_err(|error| error.to_string())?;
    let Some(schema) = members.get(MEMBER) else { return Ok(()) };
    let schema: Value =
        serde_json::from_str(schema.get()).map_err(|error| format!("`{MEMBER}` cannot be read: {error}"))?;
    let dialect = Dialect::of(&schema).map_err(|problem| format!("`{MEMBER}.$schema` {problem}"))?;
    let mut document = Document { dialect, nodes: Vec::new(), checked: HashSet::new() };
    document.check(&schema).map_err(|(path, problem)| format!("`{MEMBER}{path}` {problem}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Draft7,
    Draft2019,
    Draft2020,
}

impl Dialect {
    /// Returns the declared dialect, of those that clients know; 2020-12 if none is declared.
    fn of(schema: &Value) -> Result<Self, String> {
        let Some(declared) = schema.get("$schema").and_then(Value::as_str) else {
            return Ok(Self::Draft2020);
        };
        let declared = declared.strip_suffix('#').unwrap_or(declared);
        let name = declared.strip_prefix("https://").or_else(|| declared.strip_prefix("http://"));
        match name.and_then(|name| name.strip_prefix("json-schema.org/")) {
            Some("draft/2020-12/schema") => Ok(Self::Draft2020),
            Some("draft/2019-09/schema") => Ok(Self::Draft2019),
            Some("draft-07/schema" | "draft-06/schema") => Ok(Self::Draft7),
            _ => Err("is a dialect that clients do not know (2020-12, 2019-09, draft-07, draft-06)".into()),
        }
    }
}

/// Problem, after the path of the schema that has it.
type Problem = (String, String);

/// A schema within the document.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    /// The schema that holds it, and the keyword that leads here, with the member's name or the index.
    place: Option<(usize, &'a str, Part<'a>)>,
    /// True for the value of an unknown keyword, where ajv looks for names only.
    is_foreign: bool,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Whole,
    Member(&'a str),
    Index(usize),
}

struct Document<'a> {
    dialect: Dialect,
    nodes: Vec<Node<'a>>,
    checked: HashSet<*const Value>,
}

impl<'a> Document<'a> {
    /// Checks every schema of the document, and those that only a reference reaches. Works through a list,
    /// without recursion.
    fn check(&mut self, root: &'a Value) -> Result<(), Problem> {
        self.nodes.push(Node { value: root, place: None, is_foreign: false });
        let (mut at, mut references) = (0, References::new(root));
        loop {
            while at < self.nodes.len() {
                self.schema(at, &mut references)
                    .map_err(|(keyword, problem)| self.problem(at, keyword, problem))?;
                at += 1;
            }
            let target = references.next_target();
            let Some(Target { from, keyword, schema }) =
                target.map_err(|(from, keyword, problem)| self.problem(from, keyword, problem))?
            else {
                break;
            };
            if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
                return Err(self.problem(from, keyword, "leads to something that is no schema".into()));
            }
            if !self.checked.contains(&std::ptr::from_ref(schema)) {
                self.nodes.push(Node {
                    value: schema,
                    place: Some((from, keyword, Part::Whole)),
                    is_foreign: false,
                });
            }
        }
        references.check_circles().map_err(|from| self.problem(from, "$ref", "leads back to itself".into()))
    }

    fn problem(&self, at: usize, keyword: &str, problem: String) -> Problem {
        let dot = if keyword.is_empty() { "" } else { "." };
        (format!("{}{dot}{keyword}", self.path(at)), problem)
    }

    /// Checks one schema but for the schemas that it holds, which are appended to the list.
    fn schema(&mut self, at: usize, references: &mut References<'a>) -> Result<(), (&'a str, String)> {
        let Node { value, is_foreign, .. } = self.nodes[at];
        if !is_foreign && !self.checked.insert(std::ptr::from_ref(value)) {
            return Ok(());
        }
        let members = match value {
            Value::Object(members) => members,
            Value::Bool(_) => return Ok(()),
            _ if is_foreign => return Ok(()),
            _ => return Err(("", "is no schema: neither an object nor true or false".into())),
        };
        for (keyword, taken) in members {
            let takes = takes(keyword);
            self.append(at, keyword, takes, taken);
            if let Some(takes) = takes.filter(|takes| !is_foreign || takes.is_name()) {
                let checked = takes.check(taken, self.dialect);
                let read = checked.and_then(|()| references.read(at, (value, is_foreign), keyword, taken));
                read.map_err(|problem| (keyword.as_str(), problem))?;
            }
        }
        match is_foreign {
            true => Ok(()),
            false => keywords::check_nullable(members).map_err(|problem| ("nullable", problem)),
        }
    }

    /// Appends the schemas that a keyword holds.
    fn append(&mut self, at: usize, keyword: &'a str, takes: Option<Takes>, value: &'a Value) {
        let is_foreign = self.nodes[at].is_foreign || takes.is_none();
        let mut push = |part: Part<'a>, value: &'a Value| {
            self.nodes.push(Node { value, place: Some((at, keyword, part)), is_foreign });
        };
        match (takes, value) {
            (None, Value::Object(_)) if !keywords::is_data(keyword) => push(Part::Whole, value),
            (Some(Takes::Schema | Takes::Items), Value::Object(_) | Value::Bool(_)) => {
                push(Part::Whole, value)
            }
            (Some(Takes::Schemas | Takes::Items), Value::Array(schemas)) => {
                schemas.iter().enumerate().for_each(|(index, schema)| push(Part::Index(index), schema));
            }
            (Some(Takes::NamedSchemas | Takes::Patterns), Value::Object(schemas)) => {
                schemas.iter().for_each(|(name, schema)| push(Part::Member(name), schema));
            }
            (Some(Takes::Dependencies), Value::Object(schemas)) => schemas
                .iter()
                .filter(|(_, schema)| !schema.is_array())
                .for_each(|(name, schema)| push(Part::Member(name), schema)),
            _ => {}
        }
    }

    /// Returns the path of a schema, as in `.properties.a.items[0]`.
    fn path(&self, at: usize) -> String {
        let (mut at, mut parts) = (at, Vec::new());
        while let Some((parent, keyword, part)) = self.nodes[at].place {
            parts.push(match part {
                Part::Whole => format!(".{keyword}"),
                Part::Member(name) => format!(".{keyword}.{name}"),
                Part::Index(index) => format!(".{keyword}[{index}]"),
            });
            at = parent;
        }
        parts.into_iter().rev().collect()
    }
}
