//! The caller of a REST request. Authentication puts it into the request before a handler runs; here it
//! is taken out, and answers what handlers ask of it.

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

    /// The caller's own rows.
    pub fn rows<'a>(&self, app: &'a App) -> TenantScope<'a> {
        app.db.tenant(self.tenant())
    }

    /// Who is written into the audit event.
    pub fn actor(&self) -> Actor {
        Actor::caller(&self.caller, self.request, self.ip)
    }

    pub fn has(&self, scope: Scope) -> bool {
        self.caller.scopes.contains(scope)
    }

    /// # Errors
    /// 403 that names the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        Ok(self.caller.require(scope)?)
    }
}

impl<S: Sync> FromRequestParts<S> for Acting {
    type Rejection = Problem;

    /// A route that was left out of authentication refuses everybody.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Acting>().cloned().ok_or_else(|| {
            Refusal::new(Code::Unauthenticated, "nobody was authenticated for this request").into()
        })
    }
}
