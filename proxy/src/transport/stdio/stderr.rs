//! Log of a child's stderr, which never blocks the child and is cheap in a flood.

use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::logs::{LINE_BYTES, LogRing};

/// Reads until the child and all other holders of its stderr end.
pub async fn keep(mut stderr: pipe::Receiver, logs: Arc<LogRing>) {
    let mut buffer = vec![0; 2 * LINE_BYTES];
    let mut held = 0;
    while let Ok(read @ 1..) = stderr.read(&mut buffer[held..]).await {
        let end = held + read;
        let mut start = 0;
        while let Some(offset) = memchr::memchr(b'\n', &buffer[start..end]) {
            logs.stderr(&buffer[start..start + offset]);
            start += offset + 1;
        }
        if end - start >= LINE_BYTES {
            // A line without an end is kept in pieces.
            logs.stderr(&buffer[start..end]);
            start = end;
        }
        buffer.copy_within(start..end, 0);
        held = end - start;
    }
    logs.stderr(&buffer[..held]);
}
