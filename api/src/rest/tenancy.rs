//! Administration of tenants. One rule for agents, keys, tokens and audit: a holder of both `servers:write`
//! and `configs:write` administers its own tenant, and `tenants:admin` every tenant. Nobody grants a scope
//! that they lack, nor revokes a key with more scopes.

use protocol::{Code, Refusal, Scope, Scopes, TenantId};

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::find;

/// Scopes of an administrator of one's own tenant.
const ADMINISTRATION: [Scope; 2] = [Scope::ServersWrite, Scope::ConfigsWrite];

/// Refuses with 403 that names the missing scopes.
pub fn administers(acting: &Acting) -> Result<(), Problem> {
    let needed: Scopes = ADMINISTRATION.into_iter().collect();
    let missing = needed.beyond(acting.caller.scopes);
    if missing.is_empty() || acting.has(Scope::TenantsAdmin) {
        return Ok(());
    }
    Err(missing_scopes(missing, "administering a tenant's agents and keys needs"))
}

/// Finds the administered tenant: the named one, by id or slug, else the caller's own. Another tenant is not
/// found unless the caller is the operator.
pub async fn administered(app: &App, acting: &Acting, named: Option<&str>) -> Result<TenantId, Problem> {
    administers(acting)?;
    let own = acting.tenant();
    match named {
        None => Ok(own),
        Some(name) if is_own(acting, name) => Ok(own),
        Some(name) if acting.has(Scope::TenantsAdmin) => Ok(find::tenant(app, name).await?.id),
        Some(_) => Err(Problem::not_found("tenant")),
    }
}

/// Checks that a body which names a tenant names the one that is acted for, since its rows are created, read,
/// changed and deleted there only.
///
/// # Errors
/// 403 with a hint how to act for the other tenant, if the caller may; else 404.
pub async fn acted_for(app: &App, acting: &Acting, named: &str) -> Result<(), Problem> {
    if is_own(acting, named) {
        return Ok(());
    }
    if !acting.has(Scope::TenantsAdmin) {
        return Err(Problem::not_found("tenant"));
    }
    let named = find::tenant(app, named).await?.slug;
    let own = &acting.caller.tenant_slug;
    let reason = format!("tenantId names the tenant {named}, and the tenant acted for is {own}");
    Err(Refusal::new(Code::TenantMismatch, reason)
        .rule("body member tenantId")
        .hint(format!("act for the other tenant with the header X-Tenant-Id: {named}"))
        .into())
}

pub fn is_own(acting: &Acting, name: &str) -> bool {
    name == acting.caller.tenant_slug || name.parse().is_ok_and(|id: TenantId| id == acting.tenant())
}

/// Refuses with 403 that names the scopes the caller would grant and lacks.
pub fn may_grant(acting: &Acting, scopes: Scopes) -> Result<(), Problem> {
    let missing = scopes.beyond(acting.caller.scopes);
    if missing.is_empty() { Ok(()) } else { Err(missing_scopes(missing, "nobody grants what they lack:")) }
}

fn missing_scopes(missing: Scopes, why: &str) -> Problem {
    let names: Vec<&str> = missing.iter().map(Scope::as_str).collect();
    let names = names.join(", ");
    Refusal::new(Code::MissingScope, format!("{why} {names}, which the caller does not hold"))
        .rule(format!("scope {names}"))
        .hint("use a key whose role or scopes include it")
        .into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::{Caller, CallerKind, RequestId, Role};

    use super::*;

    fn acting(scopes: Scopes) -> Acting {
        let caller = Caller {
            tenant: TenantId::new(),
            tenant_slug: "acme".to_owned(),
            agent: None,
            agent_slug: None,
            own_agent: false,
            credential: None,
            kind: CallerKind::ApiKey,
            scopes,
        };
        Acting { caller: Arc::new(caller), request: RequestId::new(), ip: None }
    }

    #[test]
    fn who_administers() {
        assert!(administers(&acting(Role::TenantAdmin.scopes())).is_ok());
        assert!(administers(&acting(Role::Operator.scopes())).is_ok());
        assert!(administers(&acting([Scope::TenantsAdmin].into_iter().collect())).is_ok());
        let refused = administers(&acting([Scope::ServersWrite].into_iter().collect())).unwrap_err();
        assert_eq!(refused.refusal().code, Code::MissingScope);
        assert!(refused.refusal().reason.contains("configs:write"), "{refused:?}");
    }

    #[test]
    fn nobody_grants_what_they_lack() {
        let admin = acting(Role::TenantAdmin.scopes());
        assert!(may_grant(&admin, Role::Agent.scopes()).is_ok());
        let refused = may_grant(&admin, Role::Operator.scopes()).unwrap_err();
        let reason = &refused.refusal().reason;
        assert!(reason.contains("servers:launch, tenants:admin"), "{reason}");
    }
}
