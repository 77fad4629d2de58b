//! Stored catalogs: written when a server listed something new, read with the servers of a tenant and when
//! another replica has written.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use entity::{CatalogPart, DbError};
use protocol::{ServerId, TenantId};
use proxy::catalog::{ListKind, Part, StoredPart};
use proxy::pool::PoolKey;
use proxy::server::ServerSpec;

use crate::pipeline::directory::Directory;

impl Directory {
    /// Reads the stored catalogs of a tenant, or of one server, into memory; returns the lists of servers
    /// that changed thereby.
    pub(super) async fn restore(
        &self,
        tenant: TenantId,
        server: Option<ServerId>,
        servers: &[Arc<ServerSpec>],
    ) -> Result<HashSet<(ServerId, ListKind)>, DbError> {
        let mut changed = HashSet::new();
        for part in self.db.tenant(tenant).catalogs(server).await? {
            let current = |spec: &&Arc<ServerSpec>| spec.id == part.server && spec.revision == part.revision;
            let Some(spec) = servers.iter().find(current) else { continue };
            let server = part.server;
            let Some(part) = restored(tenant, &part) else {
                tracing::warn!(server = %spec.slug, part = part.part, "a stored part of a catalog is unknown");
                continue;
            };
            changed.extend(self.catalog.restore(spec, part).map(|kind| (server, kind)));
        }
        Ok(changed)
    }

    /// Reads what another replica stored, if the tenant is in use here.
    pub async fn restore_again(
        &self,
        tenant: TenantId,
        server: Option<ServerId>,
    ) -> HashSet<(ServerId, ListKind)> {
        let Some(view) = self.cached(tenant) else { return HashSet::new() };
        let servers: Vec<Arc<ServerSpec>> =
            view.members().iter().map(|member| Arc::clone(&member.spec)).collect();
        self.restore(tenant, server, &servers).await.unwrap_or_else(|error| {
            tracing::warn!(error = error.detail(), "stored catalogs cannot be read");
            HashSet::new()
        })
    }

    /// Writes the parts that are not stored yet; returns the servers whose parts were written. A failed
    /// write is repeated later.
    pub async fn store_catalogs(&self) -> Vec<(TenantId, ServerId)> {
        let mut tenants: BTreeMap<TenantId, Vec<StoredPart>> = BTreeMap::new();
        for part in self.catalog.take_unstored() {
            tenants.entry(part.key.tenant).or_default().push(part);
        }
        let mut written = HashSet::new();
        for (tenant, parts) in tenants {
            let rows: Vec<CatalogPart> = parts.iter().map(row).collect();
            match self.db.tenant(tenant).store_catalogs(&rows).await {
                Ok(()) => written.extend(parts.iter().map(|part| (tenant, part.key.server))),
                // A tenant that was deleted meanwhile.
                Err(DbError::NotFound) => {}
                Err(error) => {
                    tracing::warn!(error = error.detail(), "catalogs of servers cannot be stored");
                    self.catalog.put_back(parts);
                }
            }
        }
        written.into_iter().collect()
    }
}

fn row(part: &StoredPart) -> CatalogPart {
    CatalogPart {
        server: part.key.server,
        revision: part.key.revision,
        era: part.key.era,
        declared: part.key.declared,
        part: part.part.as_str().to_owned(),
        body: Arc::clone(&part.body),
        listed_at: part.listed_at,
    }
}

fn restored(tenant: TenantId, row: &CatalogPart) -> Option<StoredPart> {
    let CatalogPart { server, revision, era, declared, listed_at, .. } = *row;
    let key = PoolKey { tenant, server, revision, era, owner: 0, declared, variant: 0 };
    Some(StoredPart { key, part: Part::parse(&row.part)?, body: Arc::clone(&row.body), listed_at })
}
