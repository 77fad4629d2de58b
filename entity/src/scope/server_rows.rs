//! Rows of servers in the making: from a declaration, by a patch, and what the audit says of them.
//! Does not ask the database.

use std::collections::BTreeMap;

use protocol::{ServerId, TenantId};
use serde_json::{Value, json};

use crate::change::Event;
use crate::error::DbError;
use crate::rows::servers::{Model, Sealed};
use crate::rows::some_json;
use crate::scope::refuse_nul;
use crate::seal::Seal;
use crate::secrets::{Secrets, SecretsPatch};
use crate::server::{ManagedBy, NewServer, ServerPatch};
use crate::time;

/// A new row of revision 1.
pub(super) fn new_row(
    tenant: Option<TenantId>,
    new: NewServer,
    managed_by: ManagedBy,
    seal: &Seal,
) -> Result<Model, DbError> {
    let now = time::to_column(time::now());
    let mut row = Model {
        id: ServerId::new().0,
        tenant_id: tenant.map(|tenant| tenant.0),
        slug: new.slug.as_str().to_owned(),
        name: new.name,
        description: new.description,
        category: new.category,
        tags: json!(new.tags),
        version: new.version,
        transport: new.transport.as_str().to_owned(),
        command: new.command,
        args: json!(new.args),
        env_sealed: None,
        cwd: new.cwd,
        url: new.url,
        headers_sealed: None,
        enabled: new.enabled,
        timeout_ms: new.timeout_ms,
        start_timeout_ms: new.start_timeout_ms,
        max_concurrency: new.max_concurrency,
        retry: some_json(new.retry),
        idle_timeout_ms: new.idle_timeout_ms,
        era: new.era,
        managed_by: managed_by.as_str().to_owned(),
        revision: 1,
        search: String::new(),
        tools_count: None,
        capabilities: None,
        discovered_at: None,
        eras_found: None,
        eras_found_at: None,
        last_used_at: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    for (column, secrets) in [(Sealed::Env, &new.env), (Sealed::Headers, &new.headers)] {
        seal_into(&mut row, column, secrets.expose().map_err(Clone::clone)?, seal)?;
    }
    row.search = row.searchable();
    check(&row)?;
    Ok(row)
}

/// Applies a patch; answers the names of the fields whose value is now another one. The revision is
/// raised when one of them decides what is launched or connected to.
pub(super) fn apply(row: &mut Model, patch: ServerPatch, seal: &Seal) -> Result<Vec<&'static str>, DbError> {
    let mut launch = Vec::new();
    let mut other = Vec::new();
    set(
        &mut row.transport,
        patch.transport.map(|transport| transport.as_str().to_owned()),
        "transport",
        &mut launch,
    );
    set(&mut row.command, patch.command, "command", &mut launch);
    set(&mut row.args, patch.args.map(|args| json!(args)), "args", &mut launch);
    set(&mut row.cwd, patch.cwd, "cwd", &mut launch);
    set(&mut row.url, patch.url, "url", &mut launch);
    if apply_secrets(row, Sealed::Env, patch.env, seal)? {
        launch.push("env");
    }
    if apply_secrets(row, Sealed::Headers, patch.headers, seal)? {
        launch.push("headers");
    }
    set(&mut row.name, patch.name, "name", &mut other);
    set(&mut row.description, patch.description, "description", &mut other);
    set(&mut row.category, patch.category, "category", &mut other);
    set(&mut row.tags, patch.tags.map(|tags| json!(tags)), "tags", &mut other);
    set(&mut row.version, patch.version, "version", &mut other);
    set(&mut row.enabled, patch.enabled, "enabled", &mut other);
    set(&mut row.timeout_ms, patch.timeout_ms, "timeoutMs", &mut other);
    set(&mut row.start_timeout_ms, patch.start_timeout_ms, "startTimeoutMs", &mut other);
    set(&mut row.max_concurrency, patch.max_concurrency, "maxConcurrency", &mut other);
    set(&mut row.retry, patch.retry.map(some_json), "retry", &mut other);
    set(&mut row.idle_timeout_ms, patch.idle_timeout_ms, "idleTimeoutMs", &mut other);
    set(&mut row.era, patch.era, "era", &mut other);
    if !launch.is_empty() {
        row.revision += 1;
        row.eras_found = None;
        row.eras_found_at = None;
    }
    launch.extend(other);
    if !launch.is_empty() {
        row.search = row.searchable();
        row.updated_at = time::to_column(time::now());
        check(row)?;
    }
    Ok(launch)
}

fn set<T: PartialEq>(field: &mut T, value: Option<T>, name: &'static str, changed: &mut Vec<&'static str>) {
    if let Some(value) = value
        && *field != value
    {
        *field = value;
        changed.push(name);
    }
}

/// Whether the values changed. A column that cannot be opened is replaced, but not merged into.
fn apply_secrets(
    row: &mut Model,
    column: Sealed,
    patch: Option<SecretsPatch>,
    seal: &Seal,
) -> Result<bool, DbError> {
    let Some(patch) = patch else { return Ok(false) };
    let current = open(row, column, seal);
    let values = patch.apply(&current)?;
    if current.expose() == Ok(&values) {
        return Ok(false);
    }
    seal_into(row, column, &values, seal)?;
    Ok(true)
}

fn open(row: &mut Model, column: Sealed, seal: &Seal) -> Secrets {
    let place = row.place(column);
    Secrets::open(seal, &place, row.sealed(column).as_deref())
}

fn seal_into(
    row: &mut Model,
    column: Sealed,
    values: &BTreeMap<String, String>,
    seal: &Seal,
) -> Result<(), DbError> {
    refuse_nul(values.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]))?;
    let place = row.place(column);
    *row.sealed(column) = Secrets::seal(values, seal, &place);
    Ok(())
}

fn check(row: &Model) -> Result<(), DbError> {
    let args = row.args.as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts =
        [&row.command, &row.cwd, &row.url, &row.version].into_iter().filter_map(|text| text.as_deref());
    refuse_nul(args.chain(texts).chain([row.search.as_str(), row.era.as_str()]))
}

/// What the audit says of a server: the whole command line, and of secrets the names.
pub(super) fn event(
    action: &'static str,
    row: &mut Model,
    changed: Option<Vec<&'static str>>,
    seal: &Seal,
) -> Event {
    let env = open(row, Sealed::Env, seal);
    let headers = open(row, Sealed::Headers, seal);
    let mut details = json!({
        "slug": row.slug,
        "managedBy": row.managed_by,
        "transport": row.transport,
        "command": row.command,
        "args": row.args,
        "cwd": row.cwd,
        "url": row.url.as_deref().map(bare_url),
        "env": env.names().collect::<Vec<_>>(),
        "headers": headers.names().collect::<Vec<_>>(),
        "enabled": row.enabled,
        "revision": row.revision,
    });
    if let Some(changed) = changed {
        details["changed"] = json!(changed);
    }
    let tenant = row.tenant_id.map(TenantId);
    Event { tenant, action, target: ServerId(row.id).to_string(), details }
}

/// A URL without what may be secret in it: the user part and the query.
fn bare_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (start, rest) =
        url[..end].split_once("://").map_or(("", &url[..end]), |(scheme, rest)| (scheme, rest));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..authority_end].rfind('@').map_or(0, |at| at + 1);
    let separator = if start.is_empty() { "" } else { "://" };
    format!("{start}{separator}{}", &rest[host..])
}

#[cfg(test)]
mod tests {
    use super::bare_url;

    #[test]
    fn a_url_in_the_audit_has_no_secrets() {
        assert_eq!(bare_url("https://u:p@h.example:8/mcp?token=x#y"), "https://h.example:8/mcp");
        assert_eq!(bare_url("https://h/a@b"), "https://h/a@b");
        assert_eq!(bare_url("u:p@h/x?y"), "h/x");
    }
}
