//! The public keys of an identity provider (RFC 7517), fetched when needed and kept for a while.

use std::time::{Duration, Instant};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use protocol::{Code, Refusal};
use proxy::egress::Egress;

use crate::authn::discovery;

/// Time for which fetched keys are used.
const FRESH: Duration = Duration::from_secs(600);

/// Least time between two fetches: a token with an unknown key id must not cause a flood.
const PAUSE: Duration = Duration::from_secs(10);

/// Most bytes of a key set, which is usually a few kilobytes.
const MAX_BYTES: usize = 256 << 10;

pub struct Jwks {
    source: Source,
    egress: Egress,
    fetched: tokio::sync::Mutex<Fetched>,
}

/// Source of the keys.
pub enum Source {
    /// An address of keys.
    Keys(String),
    /// The metadata of an issuer.
    Issuer(String),
}

#[derive(Default)]
struct Fetched {
    keys: Vec<Jwk>,
    good_at: Option<Instant>,
    tried_at: Option<Instant>,
}

impl Jwks {
    pub fn new(source: Source, egress: Egress) -> Self {
        Self { source, egress, fetched: tokio::sync::Mutex::default() }
    }

    /// Returns the keys that may have signed a token with this key id; all signing keys without one.
    pub async fn keys(&self, kid: Option<&str>) -> Result<Vec<DecodingKey>, Refusal> {
        let mut fetched = self.fetched.lock().await;
        let fresh = fetched.good_at.is_some_and(|at| at.elapsed() < FRESH);
        let rested = fetched.tried_at.is_none_or(|at| at.elapsed() >= PAUSE);
        if rested && !(fresh && has(&fetched.keys, kid)) {
            fetched.tried_at = Some(Instant::now());
            match self.fetch().await {
                Ok(keys) => {
                    fetched.keys = keys;
                    fetched.good_at = fetched.tried_at;
                }
                Err(problem) => {
                    tracing::warn!(
                        address = self.source.address(),
                        problem,
                        "the identity provider's keys cannot be fetched"
                    )
                }
            }
        }
        if fetched.good_at.is_none() {
            return Err(Refusal::new(
                Code::StateUnavailable,
                "the identity provider's keys cannot be fetched",
            )
            .hint("try again shortly; the operator sees the cause in the log"));
        }
        let fitting = fetched.keys.iter().filter(|key| fits(key, kid));
        Ok(fitting.filter_map(|key| DecodingKey::from_jwk(key).ok()).collect())
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, String> {
        let url = match &self.source {
            Source::Keys(url) => url.clone(),
            Source::Issuer(issuer) => discovery::jwks_uri(&self.egress, issuer).await?,
        };
        let body = self.egress.fetch_json(&url, MAX_BYTES).await.map_err(|error| error.to_string())?;
        serde_json::from_value::<JwkSet>(body)
            .map(|set| set.keys)
            .map_err(|error| format!("no key set: {error}"))
    }
}

impl Source {
    fn address(&self) -> &str {
        match self {
            Source::Keys(address) | Source::Issuer(address) => address,
        }
    }
}

fn has(keys: &[Jwk], kid: Option<&str>) -> bool {
    keys.iter().any(|key| fits(key, kid))
}

fn fits(key: &Jwk, kid: Option<&str>) -> bool {
    let signs = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    signs && kid.is_none_or(|kid| key.common.key_id.as_deref() == Some(kid))
}
