//! Named secret values (environment, headers) of which only the names are shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::seal::{Place, Seal, SealError};

/// Secret values by name, opened from a sealed column. `Debug` and `Serialize` show names only.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, String>")]
pub struct Secrets(Result<BTreeMap<String, String>, SealError>);

impl Secrets {
    /// Returns the values. An error means that the column could not be opened (a lost or wrong master key):
    /// code that needs the values must stop then.
    pub fn expose(&self) -> Result<&BTreeMap<String, String>, &SealError> {
        self.0.as_ref()
    }

    /// Returns the names, in order; none when the column could not be opened.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|values| values.keys().map(String::as_str))
    }

    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_ok_and(BTreeMap::is_empty)
    }

    /// Opens a sealed column; a null column holds no secrets.
    pub(crate) fn open(seal: &Seal, place: &Place, sealed: Option<&[u8]>) -> Self {
        let Some(sealed) = sealed else { return Self::default() };
        Self(
            seal.open(&place.aad(), sealed)
                .and_then(|plain| serde_json::from_slice(&plain).map_err(|_| SealError::Damaged)),
        )
    }

    /// Seals the values for a column; no secrets give a null column.
    pub(crate) fn seal(values: &BTreeMap<String, String>, seal: &Seal, place: &Place) -> Option<Vec<u8>> {
        let plain = || serde_json::to_vec(values).expect("a map of texts is JSON");
        (!values.is_empty()).then(|| seal.seal(&place.aad(), &plain()))
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self(Ok(BTreeMap::new()))
    }
}

impl From<BTreeMap<String, String>> for Secrets {
    fn from(values: BTreeMap<String, String>) -> Self {
        Self(Ok(values))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(values) => f.debug_set().entries(values.keys()).finish(),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}

/// Serializes as REST shows secrets: `{"TZ": {"set": true}}`.
impl Serialize for Secrets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for name in self.names() {
            map.serialize_entry(name, &BTreeMap::from([("set", true)]))?;
        }
        map.end()
    }
}

/// A change of secret values. Clients never read values back, so a change can name single ones.
#[derive(Clone)]
pub enum SecretsPatch {
    Replace(BTreeMap<String, String>),
    /// JSON merge patch (RFC 7396): a value sets, `None` removes, the rest stays.
    Merge(BTreeMap<String, Option<String>>),
}

impl SecretsPatch {
    pub(crate) fn apply(self, current: &Secrets) -> Result<BTreeMap<String, String>, SealError> {
        match self {
            SecretsPatch::Replace(values) => Ok(values),
            SecretsPatch::Merge(changes) => {
                let mut values = current.0.clone()?;
                for (name, value) in changes {
                    match value {
                        Some(value) => values.insert(name, value),
                        None => values.remove(&name),
                    };
                }
                Ok(values)
            }
        }
    }
}

impl fmt::Debug for SecretsPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretsPatch::Replace(values) => f.debug_tuple("Replace").field(&values.keys()).finish(),
            SecretsPatch::Merge(changes) => f.debug_tuple("Merge").field(&changes.keys()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_nowhere() {
        let secrets = Secrets::from(BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]));
        let shown = format!("{secrets:?} {}", serde_json::to_string(&secrets).unwrap());
        assert_eq!(shown, r#"{"TOKEN"} {"TOKEN":{"set":true}}"#);
    }

    #[test]
    fn a_merge_sets_removes_and_keeps() {
        let current = Secrets::from(BTreeMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "2".to_owned()),
        ]));
        let patch = SecretsPatch::Merge(BTreeMap::from([
            ("A".to_owned(), None),
            ("C".to_owned(), Some("3".to_owned())),
        ]));
        let expected = BTreeMap::from([("B".to_owned(), "2".to_owned()), ("C".to_owned(), "3".to_owned())]);
        assert_eq!(patch.apply(&current), Ok(expected));
    }
}
