//! HTTP message body that is read up to a limit, after gzip is decoded (RFC 9110, 8.4). Reading ends at the
//! limit, however far the coding would expand.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use proxy::egress::{EgressError, Response, header, next_chunk};

/// A body, or its beginning.
pub struct Body {
    pub bytes: Vec<u8>,
    /// True if the limit was reached before the end.
    pub cut: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("the answer has the content coding `{0}`, which was not asked for; only gzip is read")]
    Coding(String),
    #[error("the answer is said to be gzip and is not: {0}")]
    Gzip(io::Error),
}

/// Reads a body of at most `limit` bytes, before and after decoding.
pub async fn read(mut response: Response, limit: usize) -> Result<Body, BodyError> {
    let mut decoder = match coding(&response) {
        Coding::None => Decoder::Plain(Limited::new(limit)),
        Coding::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(Limited::new(limit)))),
        Coding::Other(name) => return Err(BodyError::Coding(name)),
    };
    let mut received = 0;
    while let Some(chunk) = next_chunk(&mut response).await? {
        received += chunk.len();
        let written = decoder.write(&chunk);
        if decoder.limited().cut || received > limit {
            return Ok(Body { bytes: decoder.into_bytes(), cut: true });
        }
        written.map_err(BodyError::Gzip)?;
    }
    decoder.finish().map_err(BodyError::Gzip)
}

enum Coding {
    None,
    Gzip,
    Other(String),
}

fn coding(response: &Response) -> Coding {
    let values = response.headers().get_all(header::CONTENT_ENCODING);
    let named: Vec<String> = values
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity")
        .collect();
    match named.as_slice() {
        [] => Coding::None,
        [one] if one == "gzip" || one == "x-gzip" => Coding::Gzip,
        some => Coding::Other(some.join(", ").chars().filter(|c| !c.is_control()).take(40).collect()),
    }
}

enum Decoder {
    Plain(Limited),
    Gzip(Box<MultiGzDecoder<Limited>>),
}

impl Decoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Decoder::Plain(limited) => limited.write_all(bytes),
            Decoder::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn limited(&self) -> &Limited {
        match self {
            Decoder::Plain(limited) => limited,
            Decoder::Gzip(decoder) => decoder.get_ref(),
        }
    }

    fn into_bytes(mut self) -> Vec<u8> {
        match &mut self {
            Decoder::Plain(limited) => std::mem::take(&mut limited.bytes),
            Decoder::Gzip(decoder) => std::mem::take(&mut decoder.get_mut().bytes),
        }
    }

    fn finish(mut self) -> io::Result<Body> {
        let ended = match &mut self {
            Decoder::Plain(_) => Ok(()),
            Decoder::Gzip(decoder) => decoder.try_finish(),
        };
        let cut = self.limited().cut;
        if !cut {
            ended?;
        }
        Ok(Body { bytes: self.into_bytes(), cut })
    }
}

/// Bytes up to a limit; a write beyond it fails.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
    cut: bool,
}

impl Limited {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, cut: false }
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.limit - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() {
            self.cut = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
