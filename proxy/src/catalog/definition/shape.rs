//! Members of tools, resources, resource templates and prompts, with the type of each that every official
//! client accepts.

use std::collections::HashSet;

use protocol::Members;
use protocol::jsonrpc::kind_of;
use protocol::mcp::Era;
use serde_json::value::RawValue;

use super::clients::Rule;
use super::repairs::{Path, Repairs};
use super::{ListKind, json_schema};

struct Field {
    name: &'static str,
    need: Need,
    shape: Shape,
}

#[derive(Clone, Copy)]
enum Need {
    Required,
    /// May be missing; null is read as missing.
    Optional,
    /// May be missing, but not null.
    NotNull,
    /// A missing one has this value.
    Default(&'static str),
}

#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// Text that is not empty.
    Name,
    Uri,
    /// Date and time with seconds and an offset, as in ISO 8601.
    DateTime,
    Boolean,
    Integer,
    /// A number from 0 to 1.
    Fraction,
    Choice(&'static [&'static str]),
    Each(&'static Shape),
    Members(&'static [Field]),
    OutputSchema,
    Meta,
    /// The `type` of a schema of objects.
    ObjectType,
    /// Schemas of an object's members.
    Properties,
}

const fn field(name: &'static str, need: Need, shape: Shape) -> Field {
    Field { name, need, shape }
}

const ICON: Shape = Shape::Members(&[
    field("src", Need::Required, Shape::Text),
    field("mimeType", Need::Optional, Shape::Text),
    field("sizes", Need::Optional, Shape::Each(&Shape::Text)),
    field("theme", Need::Optional, Shape::Choice(&["light", "dark"])),
]);

const TITLE: Field = field("title", Need::Optional, Shape::Text);
const DESCRIPTION: Field = field("description", Need::Optional, Shape::Text);
const ICONS: Field = field("icons", Need::Optional, Shape::Each(&ICON));
const MIME_TYPE: Field = field("mimeType", Need::Optional, Shape::Text);
const META: Field = field("_meta", Need::Optional, Shape::Meta);

const ANNOTATIONS: Field = field(
    "annotations",
    Need::Optional,
    Shape::Members(&[
        field("audience", Need::Optional, Shape::Each(&Shape::Choice(&["user", "assistant"]))),
        field("priority", Need::Optional, Shape::Fraction),
        field("lastModified", Need::Optional, Shape::DateTime),
    ]),
);

const TOOL_ANNOTATIONS: Field = field(
    "annotations",
    Need::Optional,
    Shape::Members(&[
        TITLE,
        field("readOnlyHint", Need::Optional, Shape::Boolean),
        field("destructiveHint", Need::Optional, Shape::Boolean),
        field("idempotentHint", Need::Optional, Shape::Boolean),
        field("openWorldHint", Need::Optional, Shape::Boolean),
    ]),
);

const DIALECT: Field = field("$schema", Need::Optional, Shape::Text);

const OBJECT_SCHEMA: Shape = Shape::Members(&[
    DIALECT,
    field("type", Need::Default(r#""object""#), Shape::ObjectType),
    field("properties", Need::Optional, Shape::Properties),
    field("required", Need::Optional, Shape::Each(&Shape::Text)),
]);

const TASK_SUPPORT: Shape = Shape::Choice(&["required", "optional", "forbidden"]);

const TOOL: &[Field] = &[
    field("name", Need::Required, Shape::Name),
    TITLE,
    DESCRIPTION,
    field("inputSchema", Need::Default(r#"{"type":"object"}"#), OBJECT_SCHEMA),
    field("outputSchema", Need::NotNull, Shape::OutputSchema),
    TOOL_ANNOTATIONS,
    field("execution", Need::Optional, Shape::Members(&[field("taskSupport", Need::Optional, TASK_SUPPORT)])),
    ICONS,
    META,
];

const RESOURCE: &[Field] = &[
    field("uri", Need::Required, Shape::Uri),
    field("name", Need::Required, Shape::Text),
    TITLE,
    DESCRIPTION,
    MIME_TYPE,
    field("size", Need::Optional, Shape::Integer),
    ANNOTATIONS,
    ICONS,
    META,
];

const RESOURCE_TEMPLATE: &[Field] = &[
    field("uriTemplate", Need::Required, Shape::Name),
    field("name", Need::Required, Shape::Text),
    TITLE,
    DESCRIPTION,
    MIME_TYPE,
    ANNOTATIONS,
    ICONS,
    META,
];

const PROMPT_ARGUMENT: Shape = Shape::Members(&[
    field("name", Need::Required, Shape::Text),
    TITLE,
    DESCRIPTION,
    field("required", Need::Optional, Shape::Boolean),
]);

const PROMPT: &[Field] = &[
    field("name", Need::Required, Shape::Name),
    TITLE,
    DESCRIPTION,
    field("arguments", Need::Optional, Shape::Each(&PROMPT_ARGUMENT)),
    ICONS,
    META,
];

/// Checks the members of an item and notes what is to be repaired.
///
/// # Errors
/// A member that has no single valid reading, with its path.
pub fn check(kind: ListKind, era: Era, item: &str, repairs: &mut Repairs<'_>) -> Result<(), String> {
    let raw: &RawValue = serde_json::from_str(item).map_err(|error| error.to_string())?;
    if !item.starts_with('{') {
        return Err(format!("the item is {}; it has to be an object", kind_of(raw.get().as_bytes())));
    }
    let fields = match kind {
        ListKind::Tools => TOOL,
        ListKind::Resources => RESOURCE,
        ListKind::ResourceTemplates => RESOURCE_TEMPLATE,
        ListKind::Prompts => PROMPT,
    };
    Check { era, repairs }.value(Shape::Members(fields), raw, Path::Root)
}

struct Check<'a, 'b> {
    era: Era,
    repairs: &'a mut Repairs<'b>,
}

impl Check<'_, '_> {
    fn value(&mut self, shape: Shape, raw: &RawValue, path: Path<'_>) -> Result<(), String> {
        let json = raw.get();
        let wrong = |wanted: &str| {
            Err(format!("`{path}` is {}; it has to be {wanted}", kind_of(raw.get().as_bytes())))
        };
        match shape {
            Shape::Text if json.starts_with('"') => Ok(()),
            Shape::Text => wrong("text"),
            Shape::Name if json == r#""""# => Err(format!("`{path}` is empty")),
            Shape::Name => self.value(Shape::Text, raw, path),
            Shape::Uri => {
                self.value(Shape::Name, raw, path)?;
                uri(raw).map_err(|problem| format!("`{path}` is no URI: {problem}"))
            }
            Shape::DateTime if is_date_time(json) => Ok(()),
            Shape::DateTime => {
                Err(format!("`{path}` is no date and time with seconds and offset (ISO 8601)"))
            }
            Shape::Boolean if matches!(json, "true" | "false") => Ok(()),
            Shape::Boolean => wrong("true or false"),
            Shape::Integer if number(json).is_some_and(|number| number.fract() == 0.0) => Ok(()),
            Shape::Integer => wrong("a whole number"),
            Shape::Fraction if number(json).is_some_and(|number| (0.0..=1.0).contains(&number)) => Ok(()),
            Shape::Fraction => wrong("a number from 0 to 1"),
            Shape::Choice(choices) => match text(raw).is_some_and(|text| choices.contains(&&*text)) {
                true => Ok(()),
                false => Err(format!("`{path}` has to be one of: {}", choices.join(", "))),
            },
            Shape::Each(shape) => self.each(*shape, raw, path),
            Shape::Members(fields) => self.members(fields, raw, path),
            Shape::Meta => self.meta(raw, path),
            Shape::OutputSchema => self.output_schema(raw, path),
            Shape::ObjectType => self.object_type(raw, path),
            Shape::Properties => self.properties(raw, path),
        }
    }

    fn each(&mut self, shape: Shape, raw: &RawValue, path: Path<'_>) -> Result<(), String> {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            return Err(format!("`{path}` is {}; it has to be an array", kind_of(raw.get().as_bytes())));
        };
        items
            .into_iter()
            .enumerate()
            .try_for_each(|(index, item)| self.value(shape, item, Path::Index(&path, index)))
    }

    fn members(&mut self, fields: &[Field], raw: &RawValue, path: Path<'_>) -> Result<(), String> {
        let members = object(raw, path)?;
        let (mut removed, mut added) = (HashSet::new(), Vec::new());
        for Field { name, need, shape } in fields {
            let member = Path::Member(&path, name);
            match (members.get(name), need) {
                (Some(value), Need::Optional) if value.get() == "null" => {
                    self.repairs.note(Rule::RepairedNull, member, "was null and is removed");
                    removed.insert(*name);
                }
                (Some(value), _) => self.value(*shape, value, member)?,
                (None, Need::Default(value)) => {
                    self.repairs.note(Rule::RepairedType, member, &format!("was missing and is {value} now"));
                    added.push(format!(r#""{name}":{value}"#));
                }
                (None, Need::Required) => return Err(format!("`{member}` is missing")),
                (None, Need::Optional | Need::NotNull) => {}
            }
        }
        if !removed.is_empty() || !added.is_empty() {
            self.repairs.edit(raw, &members, &removed, &added);
        }
        Ok(())
    }

    /// Removes the keys of `_meta` whose name begins with neither a letter nor a digit (2026-07-28, basic,
    /// "_meta"): nobody may rely on them.
    fn meta(&mut self, raw: &RawValue, path: Path<'_>) -> Result<(), String> {
        let members = object(raw, path)?;
        let is_valid = |key: &&str| {
            let name = key.rsplit('/').next().unwrap_or_default();
            name.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        let names = members.iter().map(|(name, _)| name);
        let removed: HashSet<&str> = names.filter(|key| !key.is_empty() && !is_valid(key)).collect();
        if !removed.is_empty() {
            for name in &removed {
                let member = Path::Member(&path, name);
                self.repairs.note(Rule::RepairedMeta, member, "is no valid key and is removed");
            }
            self.repairs.edit(raw, &members, &removed, &[]);
        }
        Ok(())
    }

    /// Checks an output schema: in the legacy era it is about an object, in the modern one about anything,
    /// but legacy clients then see only one about an object.
    fn output_schema(&mut self, raw: &RawValue, path: Path<'_>) -> Result<(), String> {
        let members = object(raw, path)?;
        let is_object = members.get("type").is_some_and(|name| text(name).as_deref() == Some("object"));
        match self.era == Era::Legacy || is_object {
            true => self.value(OBJECT_SCHEMA, raw, path),
            false => self.members(&[DIALECT], raw, path),
        }
    }

    fn object_type(&mut self, raw: &RawValue, path: Path<'_>) -> Result<(), String> {
        let names = match raw.get() {
            "null" => Vec::new(),
            json if json.starts_with('[') => {
                serde_json::from_str::<Vec<Option<String>>>(json).unwrap_or_default()
            }
            _ if text(raw).as_deref() == Some("object") => return Ok(()),
            _ => return Err(format!("`{path}` has to be \"object\"")),
        };
        let other = |name: &Option<String>| !matches!(name.as_deref(), None | Some("null" | "object"));
        if raw.get() != "null" && (names.iter().any(other) || !names.contains(&Some("object".into()))) {
            return Err(format!("`{path}` has to be \"object\""));
        }
        self.repairs.note(Rule::RepairedType, path, &format!("was {} and is \"object\" now", raw.get()));
        self.repairs.replace(raw, r#""object""#);
        Ok(())
    }

    fn properties(&mut self, raw: &RawValue, path: Path<'_>) -> Result<(), String> {
        for (name, value) in object(raw, path)?.iter() {
            let member = Path::Member(&path, name);
            let schema = match value.get() {
                json if json.starts_with('{') => continue,
                "true" => "{}",
                "false" => r#"{"not":{}}"#,
                _ => {
                    return Err(format!(
                        "`{member}` is {}; it has to be a schema",
                        kind_of(value.get().as_bytes())
                    ));
                }
            };
            self.repairs.note(
                Rule::RepairedBoolean,
                member,
                &format!("was {} and is {schema} now", value.get()),
            );
            self.repairs.replace(value, schema);
        }
        Ok(())
    }
}

/// Reads an object without a member that is there twice.
fn object<'a>(raw: &'a RawValue, path: Path<'_>) -> Result<Members<'a>, String> {
    if !raw.get().starts_with('{') {
        return Err(format!("`{path}` is {}; it has to be an object", kind_of(raw.get().as_bytes())));
    }
    if raw.get().len() > json_schema::MAX_BYTES {
        return Err(match path {
            Path::Root => format!("the item is longer than {} bytes", json_schema::MAX_BYTES),
            _ => format!("`{path}` is longer than {} bytes", json_schema::MAX_BYTES),
        });
    }
    Members::read(raw.get()).map_err(|error| {
        // The position is of no use without the whole text.
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default();
        match path {
            Path::Root => problem.to_owned(),
            _ => format!("`{path}`: {problem}"),
        }
    })
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn number(json: &str) -> Option<f64> {
    serde_json::from_str(json).ok().filter(|number: &f64| number.is_finite())
}

/// Reads a URI as the Python SDK up to 1.30 does (pydantic's `AnyUrl`, which is the same parser).
fn uri(raw: &RawValue) -> Result<(), String> {
    let uri = text(raw).unwrap_or_default();
    reqwest::Url::parse(&uri).map(|_| ()).map_err(|error| error.to_string())
}

/// Returns whether JSON text is a date and time that zod's `iso.datetime({offset: true})` accepts.
fn is_date_time(json: &str) -> bool {
    let Ok(text) = serde_json::from_str::<String>(json) else { return false };
    let Some((date, time)) = text.split_once('T') else { return false };
    let Some((time, offset)) = time.find(['Z', '+', '-']).map(|at| time.split_at(at)) else { return false };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let below = |text: Option<&str>, end: u32| {
        text.is_some_and(|text| {
            text.len() == 2 && digits(text) && text.parse().is_ok_and(|value: u32| value < end)
        })
    };
    let mut clock = clock.split(':');
    let is_time = below(clock.next(), 24)
        && below(clock.next(), 60)
        && below(clock.next(), 60)
        && clock.next().is_none();
    let is_offset = offset == "Z" || {
        let mut parts = offset[1..].split(':');
        !offset.starts_with('Z')
            && below(parts.next(), 24)
            && below(parts.next(), 60)
            && parts.next().is_none()
    };
    let is_date = date.split('-').map(str::len).eq([4, 2, 2]) && date.parse::<jiff::civil::Date>().is_ok();
    is_date && is_time && is_offset && digits(fraction)
}
