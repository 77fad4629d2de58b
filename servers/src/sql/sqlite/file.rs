//! A SQLite database file for several requests at the same time: guarded connections that are used again, on
//! threads that may block.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::{Guarded, Limits};
use crate::sql::{Bounds, Kind, SqlError};

/// Most statements at the same time.
const MOST: usize = 4;

/// Extra time for a statement to notice its deadline.
const GRACE: Duration = Duration::from_millis(250);

/// A database file.
pub struct SqliteFile {
    path: PathBuf,
    limits: Limits,
    idle: Arc<Mutex<Vec<Idle>>>,
    places: Arc<Semaphore>,
}

/// A connection that nobody uses, to the file that had this device and number.
struct Idle {
    identity: (u64, u64),
    guarded: Guarded,
}

impl SqliteFile {
    /// Names a file; nothing is opened yet.
    pub fn new(path: PathBuf, limits: Limits) -> Self {
        Self { path, limits, idle: Arc::default(), places: Arc::new(Semaphore::new(MOST)) }
    }

    /// Does something with a connection, on a thread of its own.
    ///
    /// # Errors
    /// Those of the work; too many statements that run already; a deadline that the work does not notice, since a
    /// single step of it takes so long. It still holds its place then.
    pub async fn with<T: Send + 'static>(
        &self,
        bounds: &Bounds,
        work: impl FnOnce(&mut Guarded, &Bounds) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let place = timeout_at(bounds.deadline.into(), Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let message = format!("{MOST} statements run on this database already");
            return Err(SqlError::new(Kind::Unavailable, message));
        };
        let (path, limits, idle, bounds) =
            (self.path.clone(), self.limits, Arc::clone(&self.idle), bounds.clone());
        let until = bounds.deadline + GRACE;
        let worked = tokio::task::spawn_blocking(move || {
            let file = std::fs::metadata(&path).map_err(|error| {
                SqlError::new(Kind::Unavailable, format!("the database file cannot be opened: {error}"))
            })?;
            let identity = (file.dev(), file.ino());
            // A file that took the place of another has another number.
            let kept = {
                let mut idle = idle.lock();
                idle.retain(|idle| idle.identity == identity);
                idle.pop()
            };
            let mut guarded = match kept {
                Some(kept) => kept.guarded,
                None => Guarded::open(&path, limits)?,
            };
            let result = work(&mut guarded, &bounds);
            idle.lock().push(Idle { identity, guarded });
            drop(place);
            result
        });
        match timeout_at(until.into(), worked).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(SqlError::new(Kind::Failed, "the statement failed inside")),
            Err(_) => Err(SqlError::new(Kind::TimedOut, "the statement took too long")),
        }
    }
}
