//! The caller of a REST request, extracted from the request after authentication.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use entity::{Actor, TenantScope};
use protocol::{Caller, Code, Refusal, RequestId, Scope, TenantId};

use crate::app::App;
use crate::http::problem::Problem;

/// The caller of this request.
#[derive(Clone, Debug)]
pub struct Acting {
    pub caller: Arc<Caller>,
    pub request: RequestId,
    pub ip: Option<IpAddr>,
}

impl Acting {
    pub fn tenant(&self) -> TenantId {
        self.caller.tenant
    }

    /// Returns the caller's own rows.
    pub fn rows<'a>(&self, app: &'a App) -> TenantScope<'a> {
        app.db.tenant(self.tenant())
    }

    /// Returns the actor for audit events.
    pub fn actor(&self) -> Actor {
        Actor::caller(&self.caller, self.request, self.ip)
    }

    pub fn has(&self, scope: Scope) -> bool {
        self.caller.scopes.contains(scope)
    }

    /// Refuses a caller without this scope, with 403 that names the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        Ok(self.caller.require(scope)?)
    }
}

impl<S: Sync> FromRequestParts<S> for Acting {
    type Rejection = Problem;

    /// Refuses everybody on a route that was left out of authentication.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Acting>().cloned().ok_or_else(|| {
            Refusal::new(Code::Unauthenticated, "nobody was authenticated for this request").into()
        })
    }
}
