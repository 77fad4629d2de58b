//! Typed ids: a UUIDv7 (RFC 9562) with a prefix for the kind, `srv_0190…`. Ids sort by time of creation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not an id of the expected kind.
#[derive(Debug, thiserror::Error)]
#[error("not an id of the form {prefix}_ and 32 hexadecimal digits")]
pub struct InvalidId {
    pub prefix: &'static str,
}

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// Returns a new id, later than all that this process made before.
            #[expect(clippy::new_without_default, reason = "an id that appears by default is a mistake")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = Uuid::encode_buffer();
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(self.0.simple().encode_lower(&mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or(InvalidId { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

typed_ids! {
    /// A tenant: the boundary of isolation.
    TenantId "ten";
    /// A named, non-human client of a tenant.
    AgentId "agt";
    /// A registered MCP server.
    ServerId "srv";
    /// Settings of one server for a tenant or one of its agents.
    ConfigId "cfg";
    /// An API key.
    CredentialId "key";
    /// One recorded call.
    ExecutionId "exe";
    /// One recorded change by an operator or tenant.
    AuditId "aud";
    /// One HTTP request.
    RequestId "req";
}

impl ExecutionId {
    /// Returns a new id of a call that started then: ids sort by it within 250 ns, wherever the clock was set (RFC
    /// 9562, section 6.2, method 3).
    pub fn at(start: jiff::Timestamp) -> Self {
        let millis = start.as_millisecond().clamp(0, (1 << 48) - 1) as u128;
        let below = (start.subsec_nanosecond().rem_euclid(1_000_000)) as u128;
        let fraction = (below << 12) / 1_000_000;
        let random = Uuid::new_v4().as_u128() & ((1 << 62) - 1);
        Self(Uuid::from_u128(millis << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_calls_sort_by_their_start() {
        let start: jiff::Timestamp = "2026-01-31T12:00:00.123456789Z".parse().unwrap();
        let later = start.checked_add(std::time::Duration::from_nanos(500)).unwrap();
        let (id, next) = (ExecutionId::at(start), ExecutionId::at(later));
        assert!(id < next);
        let (seconds, nanos) = id.0.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds as i64, nanos / 1_000_000), (start.as_second(), 123));
        assert_eq!((id.0.get_version_num(), id.0.get_variant()), (7, uuid::Variant::RFC4122));
    }

    #[test]
    fn an_id_reads_back_and_refuses_another_kind() {
        let id = ServerId::new();
        assert_eq!(id.to_string().parse::<ServerId>().unwrap(), id);
        assert!(id.to_string().parse::<AgentId>().is_err());
        assert!("srv_12".parse::<ServerId>().is_err());
    }
}
