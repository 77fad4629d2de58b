//! Time as the tables keep it: microseconds since the epoch, UTC.

use jiff::Timestamp;

/// This moment, cut to what a column holds, so that a row reads back as it was made.
pub(crate) fn now() -> Timestamp {
    from_column(to_column(Timestamp::now()))
}

pub(crate) fn to_column(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A number outside what a timestamp can be (year 9999) reads as the nearest end.
pub(crate) fn from_column(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(if microseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
