//! Encryption of secret columns: XChaCha20-Poly1305 under a 32-byte master key, bound to the place of the
//! value. Knows no tables; the caller gives the place as associated data.
//!
//! A sealed value is `1 | key id (8 bytes) | nonce (24 bytes) | ciphertext and tag`. The key id is the
//! beginning of a hash of the key, so that a value names the key that opens it.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const HEADER: usize = 1 + ID_BYTES + NONCE_BYTES;

type KeyId = [u8; ID_BYTES];

/// The master key, and former ones that still open. `Debug` shows key ids only.
#[derive(Clone)]
pub struct Seal {
    /// Keys, of which the first one seals.
    keys: Vec<(KeyId, XChaCha20Poly1305)>,
}

/// Cause of a value that was not opened, or of a key that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("a master key is 32 bytes in base64")]
    InvalidKey,
    #[error("a value is sealed with the master key {key_id}, which is not configured")]
    UnknownKey { key_id: String },
    #[error("a sealed value was damaged or moved")]
    Damaged,
}

impl Seal {
    /// Returns a new master key as text (base64, 44 characters), to be kept in a file or an environment.
    ///
    /// # Panics
    /// When the system has no randomness: nothing can be kept secret then.
    pub fn generate() -> String {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).expect("the system gives random bytes");
        BASE64_STANDARD.encode(key)
    }

    /// Reads the keys: `current` seals and opens, `previous` only open. Ignores space around a key.
    pub fn from_key_texts(current: &str, previous: &[&str]) -> Result<Seal, SealError> {
        let keys =
            std::iter::once(&current).chain(previous).map(|text| read_key(text)).collect::<Result<_, _>>()?;
        Ok(Seal { keys })
    }

    /// Seals a value for one place, `aad`. Equal values give different results.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let (key_id, cipher) = &self.keys[0];
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the system gives random bytes");
        let ciphertext = cipher
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plaintext, aad })
            .expect("a value is far below the cipher's limit of 256 GB");
        let mut sealed = Vec::with_capacity(HEADER + ciphertext.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(key_id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Opens a value that was sealed for the same place.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (header, ciphertext) = sealed.split_at_checked(HEADER).ok_or(SealError::Damaged)?;
        if header[0] != FORMAT {
            return Err(SealError::Damaged);
        }
        let (key_id, nonce) = header[1..].split_at(ID_BYTES);
        let (_, cipher) = self
            .keys
            .iter()
            .find(|(id, _)| id == key_id)
            .ok_or_else(|| SealError::UnknownKey { key_id: hex(key_id) })?;
        cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg: ciphertext, aad })
            .map_err(|_| SealError::Damaged)
    }

    /// Returns whether the current key sealed the value.
    pub(crate) fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=ID_BYTES) == Some(self.keys[0].0.as_slice())
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.iter().map(|(id, _)| hex(id))).finish()
    }
}

/// Place of a sealed value. A value copied to another row, column or tenant does not open.
pub(crate) struct Place {
    pub table: &'static str,
    pub column: &'static str,
    pub row: Uuid,
    pub tenant: Option<Uuid>,
}

impl Place {
    pub(crate) fn aad(&self) -> Vec<u8> {
        let tenant = self.tenant.map_or_else(|| "global".to_owned(), |tenant| tenant.to_string());
        format!("{}/{}/{}/{tenant}", self.table, self.column, self.row).into_bytes()
    }
}

fn read_key(text: &str) -> Result<(KeyId, XChaCha20Poly1305), SealError> {
    let key = BASE64_STANDARD.decode(text.trim()).map_err(|_| SealError::InvalidKey)?;
    let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| SealError::InvalidKey)?;
    let digest = Sha256::new().chain_update(b"trunkline master key id").chain_update(&key).finalize();
    let mut id = KeyId::default();
    id.copy_from_slice(&digest[..ID_BYTES]);
    Ok((id, cipher))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_at_its_place_only() {
        let seal = Seal::from_key_texts(&Seal::generate(), &[]).unwrap();
        let sealed = seal.seal(b"here", b"hunter2");
        assert!(!sealed.windows(7).any(|bytes| bytes == b"hunter2"));
        assert_ne!(sealed, seal.seal(b"here", b"hunter2"));
        assert_eq!(seal.open(b"here", &sealed), Ok(b"hunter2".to_vec()));
        assert_eq!(seal.open(b"there", &sealed), Err(SealError::Damaged));
        for cut in 0..sealed.len() {
            assert!(seal.open(b"here", &sealed[..cut]).is_err());
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.open(b"here", &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_previous_key_opens_and_does_not_seal() {
        let (old, new) = (Seal::generate(), Seal::generate());
        let before = Seal::from_key_texts(&old, &[]).unwrap();
        let during = Seal::from_key_texts(&new, &[&old]).unwrap();
        let after = Seal::from_key_texts(&new, &[]).unwrap();
        let sealed = before.seal(b"", b"x");
        assert_eq!(during.open(b"", &sealed), Ok(b"x".to_vec()));
        assert!(!during.is_current(&sealed));
        assert!(matches!(after.open(b"", &sealed), Err(SealError::UnknownKey { .. })));
        assert_eq!(after.open(b"", &during.seal(b"", b"y")), Ok(b"y".to_vec()));
    }

    #[test]
    fn a_key_is_32_bytes_and_never_shown() {
        for bad in ["", "x", "AAAA", &"A".repeat(44)] {
            assert_eq!(Seal::from_key_texts(bad, &[]).unwrap_err(), SealError::InvalidKey, "{bad}");
        }
        let key = Seal::generate();
        assert!(!format!("{:?}", Seal::from_key_texts(&format!(" {key}\n"), &[]).unwrap()).contains(&key));
    }
}
