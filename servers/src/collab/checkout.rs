//! Workspaces as directories, `TENANT/TASK/PATH`: copies of current files, in which a stdio server can work.
//! Such a server may change them and put links there, so no link is ever followed.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cap_fs_ext::{DirExt, FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use entity::Turns;
use protocol::{Code, Refusal, TenantId};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

/// Precision of times in the database.
const PRECISION: Duration = Duration::from_micros(1);

pub struct Checkouts {
    root: Arc<Dir>,
    turns: Turns,
}

/// The place of a copy as it is now.
pub enum Place {
    Missing,
    /// A regular file and the time of its last change.
    File(SystemTime),
}

impl Checkouts {
    /// Opens the directory of all checkouts, and makes it when it is not there.
    pub fn open(dir: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let root = Dir::open_ambient_dir(dir, ambient_authority())
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self { root: Arc::new(root), turns: Turns::default() })
    }

    /// Waits until no other call changes copies of this task.
    pub async fn turn(&self, tenant: TenantId, task: &str) -> OwnedMutexGuard<()> {
        self.turns.of((tenant, task)).await
    }

    /// Looks at a copy.
    pub async fn place(&self, tenant: TenantId, task: &str, path: &str) -> Result<Place, String> {
        self.run(tenant, task, path, |root, place| {
            let (dir, name) = match enter(root, &place, false) {
                Ok(found) => found,
                Err(Stop::Missing) => return Ok(Place::Missing),
                Err(Stop::Reason(reason)) => return Err(reason),
            };
            match dir.symlink_metadata(name) {
                Ok(found) if found.is_file() => Ok(Place::File(found.modified().map_err(plain)?.into_std())),
                Ok(_) => Err(format!("`{name}` is not a regular file")),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Place::Missing),
                Err(error) => Err(plain(error)),
            }
        })
        .await
    }

    /// Writes a copy with the time of its version. A link in its place is replaced, one on the way refused.
    pub async fn write(
        &self,
        tenant: TenantId,
        task: &str,
        path: &str,
        contents: Bytes,
        version_of: SystemTime,
    ) -> Result<(), String> {
        self.run(tenant, task, path, move |root, place| {
            let (dir, name) = enter(root, &place, true).map_err(Stop::reason)?;
            let temporary = format!(".trunkline-{}", Uuid::new_v4().simple());
            let mut options = OpenOptions::new();
            let options = options.write(true).create_new(true);
            let written = (|| {
                let mut file = dir.open_with(&temporary, options)?;
                file.write_all(&contents)?;
                file.into_std().set_modified(version_of)?;
                dir.rename(&temporary, &dir, name)
            })();
            written.map_err(|error| {
                // What is left over is only the copy of a copy.
                dir.remove_file(&temporary).ok();
                plain(error)
            })
        })
        .await
    }

    /// Removes a copy and the directories that become empty.
    pub async fn remove(&self, tenant: TenantId, task: &str, path: &str) -> Result<(), String> {
        self.run(tenant, task, path, |root, mut place| {
            match enter(root, &place, false) {
                Ok((dir, name)) => match dir.remove_file(name) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(plain(error)),
                },
                Err(Stop::Missing) => return Ok(()),
                Err(Stop::Reason(reason)) => return Err(reason),
            }
            while place.pop().is_some() && place.len() > 2 {
                // One that is not empty stays, with all above it.
                let emptied = enter(root, &place, false).map(|(dir, name)| dir.remove_dir(name));
                if !matches!(emptied, Ok(Ok(()))) {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes all copies of a task.
    pub async fn remove_task(&self, tenant: TenantId, task: &str) -> Result<(), String> {
        self.run(tenant, task, "", |root, mut place| {
            place.pop();
            match enter(root, &place, false) {
                Ok((dir, name)) => match dir.remove_dir_all(name) {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(plain(error)),
                    _ => Ok(()),
                },
                Err(Stop::Missing) => Ok(()),
                Err(Stop::Reason(reason)) => Err(reason),
            }
        })
        .await
    }

    /// Reads what a stdio server has left in the place of a file.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::ValidationFailed`] for anything but a regular file with one name (a second,
    /// hard link could be that of a file outside); [`Code::BodyTooLarge`].
    pub async fn read(
        &self,
        tenant: TenantId,
        task: &str,
        path: &str,
        most: usize,
    ) -> Result<Bytes, Refusal> {
        let shown = path.to_owned();
        let read =
            self.run(tenant, task, path, move |root, place| Ok(read(root, &place, most, &shown))).await;
        read.unwrap_or_else(|reason| Err(Refusal::new(Code::Internal, reason)))
    }

    /// Returns the tasks that have a directory.
    pub async fn tasks(&self) -> Result<Vec<(TenantId, String)>, String> {
        let root = Arc::clone(&self.root);
        let list = move || -> std::io::Result<Vec<(TenantId, String)>> {
            let mut found = Vec::new();
            for tenant in root.entries()? {
                let tenant = tenant?;
                let name = tenant.file_name();
                let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
                if !tenant.file_type()?.is_dir() {
                    continue;
                }
                for task in root.open_dir_nofollow(&name)?.entries()? {
                    let task = task?;
                    if task.file_type()?.is_dir() {
                        found.extend(task.file_name().into_string().ok().map(|task| (id, task)));
                    }
                }
            }
            Ok(found)
        };
        tokio::task::spawn_blocking(list).await.map_err(|error| error.to_string())?.map_err(plain)
    }

    async fn run<T: Send + 'static>(
        &self,
        tenant: TenantId,
        task: &str,
        path: &str,
        work: impl FnOnce(&Dir, Vec<String>) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let root = Arc::clone(&self.root);
        let place =
            [tenant.to_string(), task.to_owned()].into_iter().chain(path.split('/').map(str::to_owned));
        let place: Vec<String> = place.collect();
        tokio::task::spawn_blocking(move || work(&root, place)).await.map_err(|error| error.to_string())?
    }
}

/// Returns whether a copy with this time is that of the version, or was changed after it.
pub fn is_current(copy: SystemTime, version_of: SystemTime) -> bool {
    copy + PRECISION > version_of
}

enum Stop {
    Missing,
    Reason(String),
}

impl Stop {
    fn reason(self) -> String {
        match self {
            Stop::Missing => "a directory of it is missing".into(),
            Stop::Reason(reason) => reason,
        }
    }
}

/// Opens the directory of a path, name by name, and returns it with the last name.
fn enter<'p>(root: &Dir, place: &'p [String], create: bool) -> Result<(Dir, &'p str), Stop> {
    let Some((last, above)) = place.split_last() else { return Err(Stop::Missing) };
    let mut dir = root.try_clone().map_err(|error| Stop::Reason(plain(error)))?;
    for name in above {
        dir = match dir.open_dir_nofollow(name) {
            Err(error) if error.kind() == ErrorKind::NotFound && create => match dir.create_dir(name) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => dir.open_dir_nofollow(name),
            },
            opened => opened,
        }
        .map_err(|error| match dir.symlink_metadata(name) {
            Ok(found) if found.is_symlink() => Stop::Reason(format!("`{name}` is a symbolic link")),
            Ok(found) if found.is_file() => Stop::Reason(format!("`{name}` is a file, and no directory")),
            _ if error.kind() == ErrorKind::NotFound => Stop::Missing,
            _ => Stop::Reason(plain(error)),
        })?;
    }
    Ok((dir, last))
}

fn read(root: &Dir, place: &[String], most: usize, shown: &str) -> Result<Bytes, Refusal> {
    let missing =
        || Refusal::new(Code::NotFound, format!("there is no `{shown}` in the directory of this workspace"));
    let refused = |reason: &str| {
        Refusal::new(
            Code::ValidationFailed,
            format!("`{shown}` in the directory of this workspace is refused: {reason}"),
        )
        .hint("only regular files without links are taken over")
    };
    let (dir, name) = enter(root, place, false).map_err(|stop| match stop {
        Stop::Missing => missing(),
        Stop::Reason(reason) => refused(&reason),
    })?;
    let mut options = OpenOptions::new();
    // A pipe without a writer does not hold the call up.
    let options = options.read(true).follow(FollowSymlinks::No).nonblock(true);
    let file = match dir.open_with(name, options) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
        Err(error) => {
            let link = dir.symlink_metadata(name).is_ok_and(|found| found.is_symlink());
            return Err(refused(&if link { "it is a symbolic link".to_owned() } else { plain(error) }));
        }
    };
    let found = file.metadata().map_err(|error| refused(&plain(error)))?;
    if !found.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if found.nlink() != 1 {
        return Err(refused("it has a second name (a hard link)"));
    }
    let mut contents = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut contents).map_err(|error| refused(&plain(error)))?;
    if contents.len() > most {
        return Err(super::too_large(usize::try_from(found.len()).unwrap_or(usize::MAX), most));
    }
    Ok(contents.into())
}

/// Returns an error of the file system, which has no path in it.
fn plain(error: std::io::Error) -> String {
    error.to_string()
}
