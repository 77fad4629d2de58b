//! Timestamps of the tables: microseconds since the epoch, UTC.

use jiff::Timestamp;

/// Returns the present time in microseconds, so that a row reads back as it was made.
pub(crate) fn now() -> Timestamp {
    from_column(to_column(Timestamp::now()))
}

pub(crate) fn to_column(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// Converts a column; a number beyond the range of timestamps (year 9999) counts as the nearest end.
pub(crate) fn from_column(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(if microseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
