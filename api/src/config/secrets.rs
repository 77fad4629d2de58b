//! Secrets the gateway makes for itself: files under `DATA_DIR` with mode 0600, never a default.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use entity::Seal;

use crate::authn;
use crate::config::Auth;

/// Files of generated secrets.
pub struct SecretFiles {
    dir: PathBuf,
}

const MASTER: &str = "master.key";
const JWT: &str = "jwt.secret";
const OPERATOR: &str = "operator.key";
const PREVIOUS: &str = ".previous";

impl SecretFiles {
    pub fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.to_owned() }
    }

    /// Returns the key that seals secrets in the database: `MASTER_KEY`, or a file made at first boot.
    pub fn seal(&self, auth: &Auth) -> Result<Seal, String> {
        let (current, previous) =
            self.pair(MASTER, &auth.master_key, &auth.master_key_previous, Seal::generate)?;
        let previous: Vec<&str> = previous.iter().map(String::as_str).collect();
        Seal::from_key_texts(&current, &previous).map_err(|error| {
            format!(
                "the master key (MASTER_KEY, or {}) cannot be used: {error}",
                self.dir.join(MASTER).display()
            )
        })
    }

    /// Returns the secrets of HS256 tokens: `JWT_SECRET`, or a file made at first boot.
    pub fn jwt(&self, auth: &Auth) -> Result<authn::Secrets, String> {
        let (current, previous) = self.pair(JWT, &auth.jwt_secret, &auth.jwt_secret_previous, random)?;
        Ok(authn::Secrets { current, previous })
    }

    /// Returns the path of the first operator's key.
    pub fn operator_key(&self) -> PathBuf {
        self.dir.join(OPERATOR)
    }

    /// Stores the first operator's key.
    pub fn write_operator_key(&self, secret: &str) -> Result<(), String> {
        write_private(&self.operator_key(), secret).map_err(|error| unwritable(&self.operator_key(), &error))
    }

    /// Makes a new secret current, and keeps the last one as previous.
    pub fn rotate_jwt(&self) -> Result<(), String> {
        self.rotate(JWT, random).map(drop)
    }

    /// Rotates the master key; sealed values must be sealed again before `forget_previous_master`.
    pub fn rotate_master(&self) -> Result<(), String> {
        self.rotate(MASTER, Seal::generate).map(drop)
    }

    pub fn forget_previous_master(&self) -> Result<(), String> {
        let path = self.dir.join(format!("{MASTER}{PREVIOUS}"));
        std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))
    }

    fn pair(
        &self,
        file: &str,
        set: &str,
        set_previous: &str,
        make: impl Fn() -> String,
    ) -> Result<(String, Vec<String>), String> {
        let mut previous: Vec<String> =
            (!set_previous.is_empty()).then(|| set_previous.to_owned()).into_iter().collect();
        if !set.is_empty() {
            return Ok((set.to_owned(), previous));
        }
        let path = self.dir.join(file);
        let current = match read(&path)? {
            Some(text) => text,
            None => {
                let text = make();
                write_private(&path, &text).map_err(|error| unwritable(&path, &error))?;
                text
            }
        };
        previous.extend(read(&self.dir.join(format!("{file}{PREVIOUS}")))?);
        Ok((current, previous))
    }

    fn rotate(&self, file: &str, make: impl Fn() -> String) -> Result<String, String> {
        let (path, last) = (self.dir.join(file), self.dir.join(format!("{file}{PREVIOUS}")));
        if file == MASTER && last.exists() {
            // An earlier rotation stopped half-way: both keys are needed, and a third would lose one.
            return read(&path)?
                .ok_or_else(|| format!("{} is missing; restore it from a backup", path.display()));
        }
        if let Some(current) = read(&path)? {
            write_private(&last, &current).map_err(|error| unwritable(&last, &error))?;
        }
        let text = make();
        write_private(&path, &text).map_err(|error| unwritable(&path, &error))?;
        Ok(text)
    }
}

fn random() -> String {
    let mut bytes = [0u8; 48];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    STANDARD.encode(bytes)
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            Err(format!("{} is empty; restore it from a backup or remove it", path.display()))
        }
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Writes a new file and renames it, so that a stop in the middle leaves the old secret.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be written (DATA_DIR): {error}", path.display())
}
