//! Forms of single members of a server. Each reads one value, or says the wanted form and what was
//! given instead.

use entity::Transport;
use serde_json::{Value, json};

use crate::rest::input::form;
use crate::rest::input::form::Read;

pub fn transport(value: &Value) -> Read<Transport> {
    let name = form::text(0, 100)(value)?;
    let wanted = || Transport::ALL.map(|transport| format!("`{}`", transport.as_str())).join(", ");
    Transport::parse(&name).ok_or_else(|| format!("is one of {}, not `{name}`", wanted()))
}

pub fn absolute(value: &Value) -> Read<String> {
    let path = form::text(1, 4096)(value)?;
    if path.starts_with('/') { Ok(path) } else { Err("is an absolute path: it begins with `/`".to_owned()) }
}

pub fn concurrency(value: &Value) -> Read<i32> {
    form::whole(0, 10_000)(value).map(|number| i32::try_from(number).unwrap_or(i32::MAX))
}

pub fn retry(value: &Value) -> Read<Value> {
    let wanted = || "is an object with the one member `attempts`, a whole number from 0 to 5".to_owned();
    let members = value.as_object().filter(|members| members.len() == 1).ok_or_else(wanted)?;
    let attempts = members.get("attempts").ok_or_else(wanted)?;
    form::whole(0, 5)(attempts).map(|attempts| json!({ "attempts": attempts })).map_err(|_| wanted())
}

pub fn era(value: &Value) -> Read<String> {
    match form::text(0, 20)(value)? {
        era if matches!(era.as_str(), "auto" | "legacy" | "modern") => Ok(era),
        era => Err(format!("is `auto`, `legacy` or `modern`, not `{era}`")),
    }
}

pub fn is_global(value: &Value) -> Read<bool> {
    match form::text(0, 20)(value)?.as_str() {
        "tenant" => Ok(false),
        "global" => Ok(true),
        other => Err(format!("is `tenant` or `global`, not `{other}`")),
    }
}
