//! API keys.

use jiff::Timestamp;
use protocol::CredentialId;

use crate::actor::Actor;
use crate::credential::{Credential, KnownCredential, NewCredential};
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::scope::{OperatorScope, TenantScope};

impl TenantScope<'_> {
    pub async fn credentials(&self, _page: Page) -> Result<Paged<Credential>, DbError> {
        todo!()
    }

    pub async fn find_credential(&self, _id: CredentialId) -> Result<Credential, DbError> {
        todo!()
    }

    pub async fn create_credential(
        &self,
        _new: NewCredential,
        _actor: &Actor,
    ) -> Result<Credential, DbError> {
        todo!()
    }

    pub async fn revoke_credential(&self, _id: CredentialId, _actor: &Actor) -> Result<Credential, DbError> {
        todo!()
    }
}

impl OperatorScope<'_> {
    pub async fn find_credential_by_hash(&self, _hash: [u8; 32]) -> Result<Option<KnownCredential>, DbError> {
        todo!()
    }

    pub async fn touch_credentials(&self, _used: Vec<(CredentialId, Timestamp)>) -> Result<(), DbError> {
        todo!()
    }
}
