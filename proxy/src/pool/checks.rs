//! Last checks of remote servers by handshake.

use dashmap::DashMap;
use protocol::{Refusal, ServerId, TenantId};

use super::outcomes::Outcome;
use crate::server::ServerSpec;

/// The last check of each server. It is the same for all tenants, since only the server's row decides on it.
#[derive(Default)]
pub struct Checks(DashMap<ServerId, Checked>);

#[derive(Clone)]
pub struct Checked {
    pub owner: Option<TenantId>,
    pub revision: i32,
    pub outcome: Outcome,
}

impl Checks {
    pub fn note(&self, spec: &ServerSpec, result: Result<(), &Refusal>) {
        let earlier = self.of(spec.id).filter(|earlier| earlier.revision == spec.revision);
        let outcome = Outcome::after(earlier.as_ref().map(|earlier| &earlier.outcome), result);
        self.0.insert(spec.id, Checked { owner: spec.owner, revision: spec.revision, outcome });
    }

    pub fn of(&self, server: ServerId) -> Option<Checked> {
        self.0.get(&server).map(|checked| checked.clone())
    }

    pub fn all(&self) -> Vec<(ServerId, Checked)> {
        self.0.iter().map(|checked| (*checked.key(), checked.value().clone())).collect()
    }

    pub fn forget(&self, server: ServerId) {
        self.0.remove(&server);
    }

    pub fn retain(&self, is_kept: impl Fn(ServerId, i32) -> bool) {
        self.0.retain(|server, checked| is_kept(*server, checked.revision));
    }
}
