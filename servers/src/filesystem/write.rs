//! Tools `write_file`, `create_directory` and `delete_file`. A file is replaced as a whole: by a new file beside
//! it, which takes its name when all contents are on the disk.

use std::fs::Permissions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use framework::{Answer, Output};
use protocol::provider::{Cancellation, ProviderError, RequestContext};
use protocol::{Code, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::{Inside, unfinished};
use super::place::{Kind, check_wanted, etag};
use super::read::Encoding;
use super::{Files, Filesystem};

/// Value of `if_match` for a file that must not exist.
const ABSENT: &str = "absent";

/// Permissions that a replaced file keeps: no setuid, setgid or sticky bit.
const KEPT_MODE: u32 = 0o777;

/// Arguments of `write_file`.
#[derive(Deserialize, JsonSchema)]
pub struct WriteFile {
    /// File, as `root/relative/path`. Its directory exists.
    #[schemars(length(min = 1, max = 4096))]
    path: String,
    /// The whole new contents.
    content: String,
    /// Form of the contents.
    #[serde(default)]
    encoding: Encoding,
    /// Etag of the file that is replaced, as `read_file` shows it, or `absent` for a file that must not exist.
    /// Without it any file is replaced.
    #[schemars(regex(pattern = r"^([0-9a-f]{32}|absent)$"))]
    if_match: Option<String>,
}

/// Result of `write_file`.
#[derive(Serialize, JsonSchema)]
pub struct Written {
    path: String,
    size: u64,
    etag: String,
    /// False for a file that was replaced.
    created: bool,
}

/// Arguments of `create_directory`.
#[derive(Deserialize, JsonSchema)]
pub struct CreateDirectory {
    /// Directory, as `root/relative/path`. Missing directories above it are made too.
    #[schemars(length(min = 1, max = 4096))]
    path: String,
}

/// Result of `create_directory`.
#[derive(Serialize, JsonSchema)]
pub struct Created {
    path: String,
    /// False for a directory that was there.
    created: bool,
}

/// Arguments of `delete_file`.
#[derive(Deserialize, JsonSchema)]
pub struct DeleteFile {
    /// File, symbolic link or empty directory, as `root/relative/path`.
    #[schemars(length(min = 1, max = 4096))]
    path: String,
}

/// Result of `delete_file`.
#[derive(Serialize, JsonSchema)]
pub struct Deleted {
    path: String,
    kind: Kind,
}

impl Filesystem {
    pub async fn write_file(&self, context: &RequestContext<'_>, asked: WriteFile) -> Output<Written> {
        let written = self.run(context, move |files, cancellation| files.write(&asked, cancellation)).await?;
        let done = if written.created { "created" } else { "replaced" };
        let text = format!("{done} `{}`: {} bytes, etag {}", written.path, written.size, written.etag);
        Ok(Answer::with_text(written, text))
    }

    pub async fn create_directory(
        &self,
        context: &RequestContext<'_>,
        asked: CreateDirectory,
    ) -> Output<Created> {
        let made = self.run(context, move |files, _| files.make_directory(&asked)).await?;
        let text = match made.created {
            true => format!("created the directory `{}`", made.path),
            false => format!("the directory `{}` was there", made.path),
        };
        Ok(Answer::with_text(made, text))
    }

    pub async fn delete_file(&self, context: &RequestContext<'_>, asked: DeleteFile) -> Output<Deleted> {
        let deleted = self.run(context, move |files, _| files.delete(&asked)).await?;
        let text = format!("deleted `{}`", deleted.path);
        Ok(Answer::with_text(deleted, text))
    }
}

/// The directory of a file to be written, and its name there.
struct Target {
    place: Inside,
    parent: Dir,
    name: String,
}

/// A file that is replaced.
#[derive(Clone, PartialEq, Eq)]
struct Former {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Files {
    pub(super) fn write(
        &self,
        asked: &WriteFile,
        cancellation: &Cancellation,
    ) -> Result<Written, ProviderError> {
        let contents = match asked.encoding {
            Encoding::Text => asked.content.as_bytes().into(),
            Encoding::Base64 => std::borrow::Cow::from(STANDARD.decode(&asked.content).map_err(|error| {
                Refusal::new(Code::ValidationFailed, format!("`content` is not base64: {error}"))
                    .hint("send base64 of RFC 4648 with padding, or `encoding` `text`")
            })?),
        };
        let size = contents.len() as u64;
        if size > self.max_bytes {
            let reason = format!("`content` has {size} bytes, more than the limit of {}", self.max_bytes);
            return Err(Refusal::new(Code::BodyTooLarge, reason).into());
        }
        let target = self.target(self.inside(&asked.path)?)?;
        let (place, if_match) = (&target.place, asked.if_match.as_deref());
        let failed = |error: io::Error| self.failed(place, &error);
        let before = self.former(&target, if_match)?;
        // Opened first, so that a directory that cannot be synchronised is found before anything changes.
        let directory = target.parent.open(".").map_err(failed)?;
        let mut new = Unfinished::create(&target.parent, before.as_ref()).map_err(failed)?;
        new.keep(before.as_ref()).map_err(|error| self.not_kept(place, &error))?;
        new.file.write_all(&contents).and_then(|()| new.file.sync_all()).map_err(failed)?;
        {
            let _turn = self.replacing.lock();
            check_wanted(cancellation)?;
            let now = self.former(&target, if_match)?;
            if now != before {
                new.keep(now.as_ref()).map_err(|error| self.not_kept(place, &error))?;
            }
            new.take_name(&target.name).map_err(failed)?;
        }
        directory.sync_all().map_err(|error| {
            let kind = error.kind();
            ProviderError::Failed(format!(
                "`{}` was written, but may be lost in a power failure: its directory cannot be synchronised: {kind}",
                self.shown(place)
            ))
        })?;
        let etag = etag(&contents);
        Ok(Written { path: self.shown(place), size, etag, created: before.is_none() })
    }

    /// Opens the directory of a place. A link in the place itself leads to the file that is written.
    fn target(&self, place: Inside) -> Result<Target, ProviderError> {
        let root = self.root(&place);
        let place = match root.symlink_metadata(&place.relative) {
            Ok(found) if found.is_symlink() => {
                let target =
                    root.canonicalize(&place.relative).map_err(|error| self.failed(&place, &error))?;
                let relative = target.into_os_string().into_string().map_err(|_| {
                    let reason = format!("`{}` leads to a name that is not UTF-8", self.shown(&place));
                    Refusal::new(Code::ValidationFailed, reason)
                })?;
                Inside { root: place.root, relative }
            }
            _ => place,
        };
        let (above, name) = place.relative.rsplit_once('/').unwrap_or(("", &place.relative));
        if name.is_empty() {
            let reason = format!("`{}` is a root", self.shown(&place));
            return Err(Refusal::new(Code::ValidationFailed, reason)
                .hint("give the path of a file in it")
                .into());
        }
        let above = Inside { root: place.root, relative: above.to_owned() };
        let name = name.to_owned();
        Ok(Target { parent: self.open_directory(&above)?, name, place })
    }

    /// Looks at the file that is to be replaced.
    ///
    /// # Errors
    /// A file that `if_match` does not permit to replace, or that no tool may change.
    fn former(&self, target: &Target, if_match: Option<&str>) -> Result<Option<Former>, ProviderError> {
        let Target { place, parent, name } = target;
        let found = match parent.metadata(name) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return match if_match {
                    None | Some(ABSENT) => Ok(None),
                    Some(_) => Err(self.differs(place, "does not exist any more", None)),
                };
            }
            Err(error) => return Err(self.failed(place, &error)),
        };
        self.check_file(place, &found)?;
        // A replacement needs a permission of the directory only; that of the file counts too.
        let mut options = OpenOptions::new();
        options.write(true).nonblock(true);
        parent.open_with(name, &options).map_err(|error| self.failed(place, &error))?;
        match if_match {
            None => {}
            Some(ABSENT) => return Err(self.differs(place, "exists", None)),
            Some(expected) => {
                let current = self.etag_of(parent, name, place)?;
                if current.as_deref() != Some(expected) {
                    return Err(self.differs(place, "has other contents", current));
                }
            }
        }
        Ok(Some(Former { mode: found.mode() & KEPT_MODE, uid: found.uid(), gid: found.gid() }))
    }

    fn differs(&self, place: &Inside, how: &str, etag: Option<String>) -> ProviderError {
        let reason = format!("`{}` {how}", self.shown(place));
        Refusal::new(Code::VersionConflict, reason)
            .hint("read it again, and write with the etag of that answer")
            .fact("etag", etag)
            .into()
    }

    fn not_kept(&self, place: &Inside, error: &io::Error) -> ProviderError {
        let (shown, kind) = (self.shown(place), error.kind());
        let reason = format!("`{shown}` has an owner or group that its replacement cannot have: {kind}");
        Refusal::new(Code::ToolFailed, reason).hint("write to another path").into()
    }

    fn make_directory(&self, asked: &CreateDirectory) -> Result<Created, ProviderError> {
        let place = self.inside(&asked.path)?;
        let root = self.root(&place);
        let taken = || {
            let reason =
                format!("`{}` cannot be a directory: a file or link has that name", self.shown(&place));
            Refusal::new(Code::Conflict, reason).hint("choose another path").into()
        };
        let found = match place.relative.as_str() {
            "" => root.dir_metadata(),
            relative => root.metadata(relative),
        };
        let created = match found {
            Ok(found) if found.is_dir() => false,
            Ok(_) => return Err(taken()),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(self.failed(&place, &error)),
        };
        if created {
            root.create_dir_all(&place.relative).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => taken(),
                _ => self.failed(&place, &error),
            })?;
        }
        Ok(Created { path: self.shown(&place), created })
    }

    pub(super) fn delete(&self, asked: &DeleteFile) -> Result<Deleted, ProviderError> {
        let place = self.inside(&asked.path)?;
        let refused = |reason: &str| {
            let reason = format!("`{}` {reason}", self.shown(&place));
            Refusal::new(Code::ValidationFailed, reason)
        };
        if place.relative.is_empty() {
            return Err(refused("is a root, which no tool deletes").into());
        }
        let root = self.root(&place);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::DirectoryNotEmpty => refused("is not empty").hint("delete what is in it first").into(),
            _ => self.failed(&place, &error),
        };
        let found: Metadata = root.symlink_metadata(&place.relative).map_err(failed)?;
        let kind = Kind::from(found.file_type());
        match kind {
            Kind::Directory => root.remove_dir(&place.relative).map_err(failed)?,
            Kind::File | Kind::Link => root.remove_file(&place.relative).map_err(failed)?,
            Kind::Other => {
                return Err(refused("is a pipe, a socket or a device, which no tool deletes").into());
            }
        }
        Ok(Deleted { path: self.shown(&place), kind })
    }
}

/// A file without its name yet. It is locked, by which others see that somebody writes it, and removed unless
/// it takes its name.
struct Unfinished<'a> {
    parent: &'a Dir,
    temporary: String,
    file: std::fs::File,
    has_name: bool,
}

impl<'a> Unfinished<'a> {
    /// Creates the file. What replaces another is its owner's alone until it has the permissions of that one.
    fn create(parent: &'a Dir, former: Option<&Former>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(if former.is_some() { 0o600 } else { 0o666 });
        loop {
            let temporary = unfinished();
            let file = parent.open_with(&temporary, &options)?.into_std();
            let new = Self { parent, temporary, file, has_name: false };
            new.file.lock()?;
            // A process that starts may have removed the file before it was locked.
            if new.file.metadata()?.nlink() > 0 {
                return Ok(new);
            }
        }
    }

    /// Takes owner and permissions over from the file that is replaced.
    fn keep(&self, former: Option<&Former>) -> io::Result<()> {
        let Some(Former { mode, uid, gid }) = former else { return Ok(()) };
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) != (*uid, *gid) {
            fchown(&self.file, Some(*uid), Some(*gid))?;
        }
        self.file.set_permissions(Permissions::from_mode(*mode))
    }

    fn take_name(&mut self, name: &str) -> io::Result<()> {
        self.parent.rename(&self.temporary, self.parent, name)?;
        self.has_name = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.has_name {
            return;
        }
        if let Err(error) = self.parent.remove_file(&self.temporary)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, "an unfinished file stays until the next start");
        }
    }
}
