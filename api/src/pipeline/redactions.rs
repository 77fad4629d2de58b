//! Redaction rules of the tenants in use, compiled when a tenant's view is read.

use std::sync::Arc;

use dashmap::DashMap;
use entity::RecordPolicySettings;
use entity::record::Redaction;
use protocol::TenantId;

#[derive(Default)]
pub struct Redactions {
    by_tenant: DashMap<TenantId, Arc<Redaction>>,
    none: Arc<Redaction>,
}

impl Redactions {
    /// Returns the rules of a tenant whose view was read.
    pub fn of(&self, tenant: TenantId) -> Arc<Redaction> {
        let rules = self.by_tenant.get(&tenant);
        rules.map_or_else(|| Arc::clone(&self.none), |rules| Arc::clone(&rules))
    }

    /// Replaces the rules of a tenant. Rules were compiled when they were written; without readable ones, nothing
    /// is kept.
    pub fn set(&self, tenant: TenantId, settings: &RecordPolicySettings) {
        if settings.redact_keys.is_empty() && settings.redact_patterns.is_empty() {
            self.by_tenant.remove(&tenant);
            return;
        }
        let rules =
            Redaction::new(&settings.redact_keys, &settings.redact_patterns).unwrap_or_else(|problem| {
                tracing::error!(%tenant, problem, "a tenant's redaction rules cannot be read");
                Redaction::new(&[], &["(?s).+".to_owned()]).expect("an expression")
            });
        self.by_tenant.insert(tenant, Arc::new(rules));
    }
}
