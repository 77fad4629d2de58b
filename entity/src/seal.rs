//! The seal on secret columns: XChaCha20-Poly1305 under a 32-byte master key, bound to the place of
//! the value. Does not know tables; the caller says the place as associated data.

use std::fmt;

use chacha20poly1305::XChaCha20Poly1305;

/// The master key, and former ones that still open. Cheap enough to clone; shown by key id only.
#[derive(Clone)]
pub struct Seal {
    #[allow(dead_code)]
    keys: Vec<(u64, XChaCha20Poly1305)>,
}

/// Why a value was not opened, or a key not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("a master key is 32 bytes in base64")]
    InvalidKey,
    #[error("the value is sealed with the master key {key_id}, which is not configured")]
    UnknownKey { key_id: String },
    #[error("the sealed value was damaged or moved")]
    Damaged,
}

impl Seal {
    /// A new master key as text (base64, 44 characters), to be kept in a file or an environment.
    pub fn generate() -> String {
        todo!()
    }

    /// `current` seals and opens; `previous` only open.
    pub fn from_key_texts(_current: &str, _previous: &[&str]) -> Result<Seal, SealError> {
        todo!()
    }

    /// Seals a value for one place, `aad`. Equal values give different results.
    pub fn seal(&self, _aad: &[u8], _plaintext: &[u8]) -> Vec<u8> {
        todo!()
    }

    pub fn open(&self, _aad: &[u8], _sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        todo!()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}
