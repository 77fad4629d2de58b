//! Servers that are declared, not registered.

use crate::actor::Actor;
use crate::error::DbError;
use crate::scope::OperatorScope;
use crate::server::{ManagedBy, NewServer};

impl OperatorScope<'_> {
    pub async fn declare_servers(
        &self,
        _managed_by: ManagedBy,
        _declared: Vec<NewServer>,
        _actor: &Actor,
    ) -> Result<(), DbError> {
        todo!()
    }
}
