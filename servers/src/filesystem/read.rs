//! Tool `read_file`: a regular file, or a part of one, as text or base64.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use framework::{Answer, Output};
use protocol::provider::{Cancellation, ProviderError, RequestContext};
use protocol::{Code, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::Inside;
use super::place::{check_wanted, etag, timestamp};
use super::{Files, Filesystem};

/// Form of contents in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// UTF-8; positions are lines.
    #[default]
    Text,
    /// Base64 (RFC 4648) with padding; positions are bytes.
    Base64,
}

/// Arguments of `read_file`.
#[derive(Deserialize, JsonSchema)]
pub struct ReadFile {
    /// File, as `root/relative/path`.
    #[schemars(length(min = 1, max = 4096))]
    path: String,
    /// Form of the contents.
    #[serde(default)]
    encoding: Encoding,
    /// Lines to skip, or bytes with base64.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    offset: u64,
    /// Most lines to return, or bytes with base64; all without it.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    limit: Option<u64>,
}

/// Result of `read_file`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    path: String,
    encoding: Encoding,
    content: String,
    /// Bytes of the whole file.
    size: u64,
    /// Lines or bytes before the content.
    offset: u64,
    /// Lines or bytes of the content.
    count: u64,
    /// Lines of the whole file, when it was read as text and in whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_lines: Option<u64>,
    /// Offset of what follows; absent at the end of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
    /// Etag of the whole file, for `if_match`; absent for a file over the size limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// Time of the last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
}

impl Filesystem {
    pub async fn read_file(&self, context: &RequestContext<'_>, asked: ReadFile) -> Output<Contents> {
        let read = self.run(context, move |files, cancellation| files.read(&asked, cancellation)).await?;
        let text = text(&read);
        Ok(Answer::with_text(read, text))
    }
}

#[cfg(test)]
impl Contents {
    pub(super) fn content(&self) -> &str {
        &self.content
    }
}

/// Returns the content, and how to go on where it is not all.
fn text(read: &Contents) -> String {
    let Contents { content, offset, count, next_offset, .. } = read;
    let unit = match read.encoding {
        Encoding::Text => "lines",
        Encoding::Base64 => "bytes",
    };
    match next_offset {
        None => content.clone(),
        Some(next) => {
            let line_end = if content.ends_with('\n') { "" } else { "\n" };
            format!(
                "{content}{line_end}[{count} {unit} after the first {offset}; there is more at offset {next}]"
            )
        }
    }
}

/// A part of a file: its bytes, its lines or bytes, and whether more follows.
struct Part {
    bytes: Vec<u8>,
    count: u64,
    has_more: bool,
}

impl Files {
    pub(super) fn read(
        &self,
        asked: &ReadFile,
        cancellation: &Cancellation,
    ) -> Result<Contents, ProviderError> {
        let place = self.inside(&asked.path)?;
        let (file, found) = self.open_file(&place)?;
        let failed = |error: io::Error| match cancellation.is_cancelled() {
            true => check_wanted(cancellation).err().unwrap_or(ProviderError::NotFound),
            false => self.failed(&place, &error),
        };
        let mut file = Wanted { inner: file.into_std(), cancellation };
        let is_whole = found.len() <= self.max_bytes;
        let (mut size, mut total_lines, mut tag) = (found.len(), None, None);
        let part = if is_whole {
            let mut contents = Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default() + 1);
            (&mut file).take(self.max_bytes + 1).read_to_end(&mut contents).map_err(failed)?;
            size = contents.len() as u64;
            if size > self.max_bytes {
                return Err(self.too_large(&place, size));
            }
            tag = Some(etag(&contents));
            if asked.encoding == Encoding::Text {
                total_lines = Some(contents.split_inclusive(|byte| *byte == b'\n').count() as u64);
            }
            match asked.encoding {
                Encoding::Text => self.lines(&place, &contents[..], asked, failed)?,
                Encoding::Base64 => {
                    bytes(io::Cursor::new(contents), asked, self.max_bytes).map_err(failed)?
                }
            }
        } else if asked.limit.is_none() {
            return Err(self.too_large(&place, size));
        } else {
            match asked.encoding {
                Encoding::Text => {
                    self.lines(&place, BufReader::with_capacity(1 << 16, file), asked, failed)?
                }
                Encoding::Base64 => bytes(file, asked, self.max_bytes).map_err(failed)?,
            }
        };
        let Part { bytes, count, has_more } = part;
        let content = match asked.encoding {
            Encoding::Base64 => STANDARD.encode(bytes),
            Encoding::Text => String::from_utf8(bytes).map_err(|_| {
                let reason = format!("`{}` is not text in UTF-8", self.shown(&place));
                Refusal::new(Code::ValidationFailed, reason).hint("read it with `encoding` `base64`")
            })?,
        };
        Ok(Contents {
            path: self.shown(&place),
            encoding: asked.encoding,
            content,
            size,
            offset: asked.offset,
            count,
            total_lines,
            next_offset: has_more.then(|| asked.offset + count),
            etag: tag,
            modified: timestamp(found.modified()),
        })
    }

    /// Reads lines, each with its end.
    fn lines(
        &self,
        place: &Inside,
        mut reader: impl BufRead,
        asked: &ReadFile,
        failed: impl Fn(io::Error) -> ProviderError,
    ) -> Result<Part, ProviderError> {
        for _ in 0..asked.offset {
            if reader.skip_until(b'\n').map_err(&failed)? == 0 {
                break;
            }
        }
        let (mut bytes, mut count) = (Vec::new(), 0);
        while count < asked.limit.unwrap_or(u64::MAX) {
            let most = self.max_bytes + 1 - bytes.len() as u64;
            if (&mut reader).take(most).read_until(b'\n', &mut bytes).map_err(&failed)? == 0 {
                break;
            }
            if bytes.len() as u64 > self.max_bytes {
                let (shown, most) = (self.shown(place), self.max_bytes);
                let reason = format!("the lines of `{shown}` have more than {most} bytes");
                return Err(Refusal::new(Code::BodyTooLarge, reason)
                    .hint("ask for fewer lines with `limit`, or for bytes with `encoding` `base64`")
                    .into());
            }
            count += 1;
        }
        let has_more = !reader.fill_buf().map_err(&failed)?.is_empty();
        Ok(Part { bytes, count, has_more })
    }
}

/// Reads bytes, at most `most`.
fn bytes(mut file: impl Read + Seek, asked: &ReadFile, most: u64) -> io::Result<Part> {
    file.seek(SeekFrom::Start(asked.offset))?;
    let most = asked.limit.unwrap_or(most).min(most);
    let mut bytes = Vec::new();
    (&mut file).take(most).read_to_end(&mut bytes)?;
    let has_more = file.read(&mut [0])? > 0;
    Ok(Part { count: bytes.len() as u64, bytes, has_more })
}

/// A reader that fails when nobody waits for the request any more.
struct Wanted<'a, R> {
    inner: R,
    cancellation: &'a Cancellation,
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.cancellation.is_cancelled() {
            true => Err(ErrorKind::Other.into()),
            false => self.inner.read(into),
        }
    }
}

impl<R: Seek> Seek for Wanted<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
