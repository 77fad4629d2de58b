//! New, patched and declared rows of servers, and their audit events. Sends no query.

use protocol::{ServerId, TenantId};
use serde_json::{Value, json};

use crate::change::Event;
use crate::error::DbError;
use crate::rows::servers::Model;
use crate::scope::refuse_nul;
use crate::seal::Seal;
use crate::server::{ManagedBy, NewServer, Transport};
use crate::server_settings::{LAUNCH, ServerPatch, ServerSettings};
use crate::time;

/// Returns a new row of revision 1.
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
        transport: new.transport.as_str().to_owned(),
        managed_by: managed_by.as_str().to_owned(),
        revision: 1,
        created_at: now,
        updated_at: now,
        ..Model::default()
    };
    put(&mut row, new.settings, seal)?;
    Ok(row)
}

/// Applies a patch; returns the names of the changed fields.
pub(super) fn apply(row: &mut Model, patch: ServerPatch, seal: &Seal) -> Result<Vec<&'static str>, DbError> {
    let mut settings = row.settings(seal)?;
    let transport = patch.transport;
    patch.apply(&mut settings)?;
    replace(row, transport, settings, seal)
}

/// Replaces the settings; returns the names of the changed ones. A change of a launch or connection setting
/// raises the revision.
pub(super) fn replace(
    row: &mut Model,
    transport: Option<Transport>,
    settings: ServerSettings,
    seal: &Seal,
) -> Result<Vec<&'static str>, DbError> {
    let mut changed = row.settings(seal)?.differing(&settings);
    if let Some(transport) = transport.map(Transport::as_str).filter(|transport| row.transport != *transport)
    {
        row.transport = transport.to_owned();
        changed.push("transport");
    }
    if changed.iter().any(|name| LAUNCH.contains(name)) {
        row.revision += 1;
        row.eras_found = None;
        row.eras_found_at = None;
    }
    if !changed.is_empty() {
        row.updated_at = time::to_column(time::now());
        put(row, settings, seal)?;
    }
    Ok(changed)
}

fn put(row: &mut Model, settings: ServerSettings, seal: &Seal) -> Result<(), DbError> {
    let secrets = [&settings.env, &settings.headers].into_iter().filter_map(|secrets| secrets.expose().ok());
    refuse_nul(secrets.flatten().flat_map(|(name, value)| [name.as_str(), value.as_str()]))?;
    row.put(settings, seal);
    row.search = row.searchable();
    check(row)
}

fn check(row: &Model) -> Result<(), DbError> {
    let args = row.args.as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts =
        [&row.command, &row.cwd, &row.url, &row.version].into_iter().filter_map(|text| text.as_deref());
    refuse_nul(args.chain(texts).chain([row.search.as_str(), row.era.as_str()]))
}

/// Returns the audit event of a server, with the whole command line and the names of secrets.
pub(super) fn event(
    action: &'static str,
    row: &Model,
    changed: Option<Vec<&'static str>>,
    seal: &Seal,
) -> Result<Event, DbError> {
    let settings = row.settings(seal)?;
    let mut details = json!({
        "slug": row.slug,
        "managedBy": row.managed_by,
        "transport": row.transport,
        "command": row.command,
        "args": row.args,
        "cwd": row.cwd,
        "url": row.url.as_deref().map(bare_url),
        "env": settings.env.names().collect::<Vec<_>>(),
        "headers": settings.headers.names().collect::<Vec<_>>(),
        "enabled": row.enabled,
        "revision": row.revision,
    });
    if let Some(changed) = changed {
        details["changed"] = json!(changed);
    }
    let tenant = row.tenant_id.map(TenantId);
    Ok(Event { tenant, action, target: ServerId(row.id).to_string(), details })
}

/// Returns a URL without the user part and the query, which may be secret.
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
