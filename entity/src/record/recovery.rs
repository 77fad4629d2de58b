//! Recovery of execution records after a killed process: every begin in its journal gets a row, and its
//! running rows become `unknown`.

use std::path::Path;

use super::feed::{Feed, Row, State};
use super::frame::{self, Record};
use super::{RecordError, journal};

/// Rows per transaction.
const BATCH: usize = 2_000;

/// Stores the journal's files in the database and deletes them. Returns the number for the next file.
pub(super) fn recover(dir: &Path, feed: &mut dyn Feed) -> Result<u64, RecordError> {
    let failed = |doing| {
        let dir = dir.to_owned();
        move |source| RecordError::Journal { doing, dir, source }
    };
    let database = |error: super::feed::FeedError| RecordError::Database(error.to_string());
    let closed = feed.close_previous_life().map_err(database)?;
    let mut next_number = 1;
    let mut records = 0;
    for (number, path) in journal::files(dir).map_err(failed("list"))? {
        let bytes = std::fs::read(&path).map_err(failed("read"))?;
        let contents = frame::read_all(&bytes);
        if contents.damaged_bytes > 0 {
            let bytes = contents.damaged_bytes;
            tracing::warn!(path = %path.display(), bytes, "a part of the journal could not be read");
        }
        store(feed, &contents.records).map_err(database)?;
        std::fs::remove_file(&path).map_err(failed("delete a file of"))?;
        records += contents.records.len();
        next_number = number + 1;
    }
    if closed > 0 || records > 0 {
        tracing::info!(closed, records, "the record of a previous life was completed");
    }
    Ok(next_number)
}

/// Stores begins first, so that an end known for one of them wins.
fn store(feed: &mut dyn Feed, records: &[Record]) -> Result<(), super::feed::FeedError> {
    let begun = records.iter().filter(|(_, finish)| finish.is_none());
    let ended = records.iter().filter(|(_, finish)| finish.is_some());
    for records in [begun.collect::<Vec<_>>(), ended.collect()] {
        for batch in records.chunks(BATCH) {
            let rows: Vec<Row<'_>> = batch
                .iter()
                .map(|(begin, finish)| {
                    let state = finish.as_ref().map_or(State::Unknown, State::Finished);
                    Row { begin, state, counted: None, first_attempt: false }
                })
                .collect();
            feed.store(&rows)?;
        }
    }
    Ok(())
}
