//! Forms of single members of a server.

use entity::Transport;
use serde_json::{Value, json};

use crate::config::remote_address;
use crate::rest::input::form;
use crate::rest::input::form::Form;

pub fn transport() -> Form<Transport> {
    form::word(Transport::ALL.map(|transport| (transport.as_str(), transport)))
}

pub fn absolute() -> Form<String> {
    form::text(1, 4096).with("pattern", "^/").then(|path| match path.starts_with('/') {
        true => Ok(path),
        false => Err("is an absolute path: it begins with `/`".to_owned()),
    })
}

/// Reads the address of a server of this transport.
pub fn remote_url(transport: Option<Transport>) -> Form<String> {
    form::text(1, 2048).then(move |text| match transport {
        Some(transport) => remote_address::url(&text, transport).map(|_| text),
        None => Ok(text),
    })
}

/// Reads the retry settings of a server.
pub fn retry() -> Form<Value> {
    Form::named("Retry", |value| {
        let wanted = || "is an object with the one member `attempts`, a whole number from 0 to 5".to_owned();
        let members = value.as_object().filter(|members| members.len() == 1).ok_or_else(wanted)?;
        let attempts = form::attempts().read(members.get("attempts").ok_or_else(wanted)?);
        attempts.map(|attempts| json!({ "attempts": attempts })).map_err(|_| wanted())
    })
}

pub fn era() -> Form<String> {
    form::word(["auto", "legacy", "modern"].map(|era| (era, era))).then(|era| Ok(era.to_owned()))
}

pub fn is_global() -> Form<bool> {
    form::word([("tenant", false), ("global", true)])
}
