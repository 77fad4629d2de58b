use serde_json::{Value, json};

use entity::ServerSettings;

use super::*;
use crate::http::problem::Problem;

fn new(body: Value) -> Result<Registration, Problem> {
    Fields::read(body.to_string().as_bytes(), new_server)
}

fn stdio(further: Value) -> Value {
    let mut body = json!({ "slug": "time", "name": "Time", "transport": "stdio", "command": "uvx" });
    body.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    body
}

fn remote(further: Value) -> Value {
    let mut body = json!({ "slug": "far", "name": "Far", "transport": "streamable-http", "url": "https://x.example/mcp" });
    body.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    body
}

fn row(transport: Transport) -> Server {
    let now = jiff::Timestamp::UNIX_EPOCH;
    Server {
        id: protocol::ServerId::new(),
        tenant: None,
        slug: "time".parse().unwrap(),
        transport,
        settings: ServerSettings { command: Some("uvx".to_owned()), ..ServerSettings::default() },
        managed_by: entity::ManagedBy::Rest,
        revision: 1,
        eras_found: None,
        created_at: now,
        updated_at: now,
    }
}

fn patch(transport: Transport, body: Value) -> Result<ServerPatch, Problem> {
    Fields::read(body.to_string().as_bytes(), |f| server_patch(f, Some(&row(transport))))
}

#[test]
fn the_example_of_the_manual_is_a_registration() {
    let read = new(stdio(json!({ "args": ["mcp-server-time"], "env": { "TZ": "UTC" } }))).unwrap();
    assert_eq!(read.server.settings.args, ["mcp-server-time"]);
    assert_eq!(read.server.settings.env.names().collect::<Vec<_>>(), ["TZ"]);
    assert!(read.server.settings.enabled && !read.global);
}

#[test]
fn what_does_not_fit_the_transport_is_refused() {
    for (body, field) in [
        (json!({ "slug": "a", "name": "A", "transport": "stdio" }), "command is missing"),
        (stdio(json!({ "url": "https://x" })), "url does not belong"),
        (stdio(json!({ "transport": "builtin", "args": ["x"] })), "args does not belong"),
        (stdio(json!({ "transport": "streamable-http" })), "url is missing"),
        (remote(json!({ "url": "ws://x.example" })), "url is an address that begins with https://"),
        (remote(json!({ "url": "https://u:p@x.example" })), "url has a user or a password"),
        (remote(json!({ "command": "uvx" })), "command does not belong"),
        (remote(json!({ "headers": { "Host": "y" } })), "headers has `Host`"),
        (remote(json!({ "headers": { "mcp-method": "y" } })), "headers has `mcp-method`"),
        (remote(json!({ "headers": { "A": "y", "a": "z" } })), "headers has `a` twice"),
        (remote(json!({ "headers": { "X Y": "z" } })), "headers has a name that cannot be one"),
        (remote(json!({ "headers": { "X": "a\nb" } })), "headers has in `X` what is not visible"),
        (remote(json!({ "transport": "websocket" })), "url is an address that begins with wss://"),
        (stdio(json!({ "transport": "pigeon" })), "not `pigeon`"),
        (stdio(json!({ "cwd": "here" })), "cwd is an absolute path"),
        (stdio(json!({ "command": "x\u{0}y" })), "command is a text without NUL"),
        (stdio(json!({ "retry": { "times": 3 } })), "retry is an object"),
        (stdio(json!({ "scope": "world" })), "scope is `tenant` or `global`"),
        (stdio(json!({ "timeoutMs": -1 })), "timeoutMs is a whole number"),
        (stdio(json!({ "tags": ["a", 7] })), "tags has at 1 what is a text"),
    ] {
        let said = new(body.clone()).unwrap_err().refusal().reason.clone();
        assert!(said.contains(field), "{body}: {said}");
    }
}

#[test]
fn a_patch_changes_what_it_names() {
    let read = patch(
        Transport::Stdio,
        json!({ "name": "T", "description": null, "env": { "A": "1", "B": null }, "timeoutMs": null }),
    )
    .unwrap();
    assert_eq!(read.name.as_deref(), Some("T"));
    assert_eq!((read.description, read.category, read.timeout_ms), (Some(None), None, Some(None)));
    assert!(matches!(read.env, Some(SecretsPatch::Merge(changes)) if changes["B"].is_none()));
    let emptied = patch(Transport::Stdio, json!({ "env": null, "args": null })).unwrap();
    assert!(matches!(emptied.env, Some(SecretsPatch::Replace(values)) if values.is_empty()));
    assert_eq!(emptied.args, Some(Vec::new()));
}

#[test]
fn a_remote_server_has_an_address_and_headers() {
    let read = new(remote(json!({ "headers": { "Authorization": "Bearer x" }, "era": "modern" }))).unwrap();
    assert_eq!(read.server.settings.url.as_deref(), Some("https://x.example/mcp"));
    assert_eq!(read.server.settings.headers.names().collect::<Vec<_>>(), ["Authorization"]);
    let socket = json!({ "transport": "websocket", "url": "ws://x.example/mcp" });
    assert_eq!(new(remote(socket)).unwrap().server.transport, Transport::Websocket);
}

#[test]
fn sealed_headers_do_not_follow_to_another_host() {
    let mut row = row(Transport::StreamableHttp);
    row.settings.url = Some("https://x.example/mcp".to_owned());
    row.settings.headers = std::collections::BTreeMap::from([("X-Key".to_owned(), "s".to_owned())]).into();
    let patch = |body: Value| Fields::read(body.to_string().as_bytes(), |f| server_patch(f, Some(&row)));
    assert!(patch(json!({ "url": "https://x.example/other" })).is_ok());
    for body in [
        json!({ "url": "https://y.example/mcp" }),
        json!({ "url": "http://x.example/mcp" }),
        json!({ "url": "https://y.example/mcp", "headers": { "X-Other": "o" } }),
    ] {
        let said = patch(body.clone()).unwrap_err().refusal().reason.clone();
        assert!(said.contains("X-Key"), "{body}: {said}");
    }
    let given = patch(json!({ "url": "https://y.example/mcp", "headers": { "x-key": "t" } })).unwrap();
    assert!(matches!(given.headers, Some(SecretsPatch::Merge(changes)) if changes.contains_key("X-Key")));
    assert!(patch(json!({ "url": "https://y.example/mcp", "headers": null })).is_ok());
    assert!(patch(json!({ "url": null })).is_err());
}

#[test]
fn a_patch_cannot_change_everything() {
    for (body, field) in [
        (json!({ "slug": "other" }), "slug cannot be changed"),
        (json!({ "transport": "builtin" }), "transport cannot be changed"),
        (json!({ "managedBy": "config" }), "managedBy cannot be set"),
        (json!({ "command": null }), "command is missing"),
        (json!({ "name": null }), "name is a text"),
        (json!({ "enabled": null }), "enabled is true or false"),
        (json!({ "colour": "red" }), "colour is not known"),
    ] {
        let said = patch(Transport::Stdio, body.clone()).unwrap_err().refusal().reason.clone();
        assert!(said.contains(field), "{body}: {said}");
    }
    assert!(patch(Transport::Builtin, json!({ "env": { "A": "b" } })).is_err());
}
