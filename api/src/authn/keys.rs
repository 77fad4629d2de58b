//! API keys: 256 random bits behind a prefix, kept as their SHA-256. A hash of so much randomness needs no
//! salt or stretching, and can be looked up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dashmap::DashMap;
use entity::{Changes, Db, DbError, KnownCredential};
use jiff::Timestamp;
use protocol::{Caller, CallerKind, Code, CredentialId, Refusal};
use sha2::{Digest, Sha256};

use crate::authn::Identified;
use crate::authn::presented::KEY_PREFIX;

/// A new key, whose secret is shown once.
pub struct NewKey {
    pub secret: String,
    pub hash: [u8; 32],
    /// The last four characters, by which people recognize a key.
    pub hint: String,
}

pub fn generate() -> NewKey {
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).expect("the system gives random bytes");
    let secret = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    NewKey { hash: hash(&secret), hint: secret[secret.len() - 4..].to_owned(), secret }
}

pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Cache of API keys, valid until the registry changes.
pub struct Keys {
    db: Db,
    known: DashMap<[u8; 32], Arc<Known>>,
    /// Counter of `forget`: a key that was read before one is not cached after it.
    generation: AtomicU64,
}

struct Known {
    caller: Arc<Caller>,
    id: CredentialId,
    expires_at: Option<Timestamp>,
    /// Microseconds since the epoch; written to the database later.
    used_at: AtomicI64,
    touched_at: AtomicI64,
}

/// Most cached keys; others are looked up each time.
const REMEMBERED: usize = 50_000;

impl Keys {
    pub fn new(db: Db) -> Self {
        Self { db, known: DashMap::new(), generation: AtomicU64::new(0) }
    }

    pub fn forget(&self, changes: &Changes) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.known.retain(|_, known| !changes.affect(known.caller.tenant));
    }

    /// Finds the caller of a key, and the key's expiry.
    pub async fn find(&self, secret: &str) -> Result<Identified, Refusal> {
        let hash = hash(secret);
        let now = Timestamp::now();
        let known = self.known.get(&hash).map(|known| Arc::clone(&known));
        let known = match known {
            Some(known) => known,
            // Boxed, since streams would reserve the space for a rare case.
            None => Box::pin(self.look_up(hash)).await?,
        };
        if known.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Refusal::new(Code::CredentialExpired, "the API key has expired")
                .since(known.expires_at.unwrap_or(now))
                .hint("ask for a new key: POST /v1/keys"));
        }
        known.used_at.store(now.as_microsecond(), Ordering::Relaxed);
        Ok(Identified { caller: Arc::clone(&known.caller), expires_at: known.expires_at })
    }

    async fn look_up(&self, hash: [u8; 32]) -> Result<Arc<Known>, Refusal> {
        let generation = self.generation.load(Ordering::Acquire);
        let found =
            self.db.operator().find_credential_by_hash(hash).await.map_err(|error| error.refusal())?;
        let KnownCredential { credential, tenant_slug, agent_slug } = found.ok_or_else(|| {
            Refusal::new(Code::InvalidCredential, "the API key is not known")
                .hint("check that it was copied whole")
        })?;
        if let Some(revoked) = credential.revoked_at {
            return Err(Refusal::new(Code::CredentialRevoked, "the API key was revoked")
                .since(revoked)
                .hint("ask for a new key: POST /v1/keys"));
        }
        let caller = Arc::new(Caller {
            tenant: credential.tenant,
            tenant_slug,
            agent: credential.agent,
            agent_slug,
            own_agent: credential.agent.is_some(),
            credential: Some(credential.id),
            kind: CallerKind::ApiKey,
            scopes: credential.scopes,
        });
        let known = Arc::new(Known {
            caller,
            id: credential.id,
            expires_at: credential.expires_at,
            used_at: AtomicI64::new(0),
            touched_at: AtomicI64::new(0),
        });
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(hash, Arc::clone(&known));
        if generation != self.generation.load(Ordering::Acquire) {
            self.known.remove(&hash);
        }
        Ok(known)
    }

    /// Writes the times of last use to the database.
    pub async fn touch(&self) -> Result<(), DbError> {
        let used: Vec<(CredentialId, Timestamp)> = self
            .known
            .iter()
            .filter_map(|known| {
                let used_at = known.used_at.load(Ordering::Relaxed);
                let fresh = known.touched_at.swap(used_at, Ordering::Relaxed) != used_at;
                fresh.then(|| Timestamp::from_microsecond(used_at).ok().map(|at| (known.id, at))).flatten()
            })
            .collect();
        if used.is_empty() { Ok(()) } else { self.db.operator().touch_credentials(used).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_long_random_and_known_by_its_hash() {
        let (one, other) = (generate(), generate());
        assert_ne!(one.secret, other.secret);
        assert_eq!(one.secret.len(), KEY_PREFIX.len() + 43);
        assert_eq!(one.hash, hash(&one.secret));
        assert!(one.secret.ends_with(&one.hint));
    }
}
