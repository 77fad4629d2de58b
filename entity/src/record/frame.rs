//! Binary framing of journal records. Knows bytes; does not know files.
//!
//! A frame is four bytes of magic, the payload's length (u32) and CRC-32 (u32), both little-endian, and the
//! payload: a tag, the begin and, under [`TAG_WHOLE`], the end. A reader skips a frame with a wrong
//! checksum and continues at the next magic.

use std::sync::Arc;

use jiff::Timestamp;
use protocol::caller::CallerKind;
use protocol::ids::{AgentId, CredentialId, ExecutionId, RequestId, ServerId, TenantId};
use protocol::outcome::Outcome;
use uuid::Uuid;

use super::{Begin, Finish, Kind, RecordedError};

const MAGIC: &[u8; 4] = b"\xe7TL1";
const HEADER: usize = 12;
const TAG_BEGIN: u8 = 1;
/// Tag of a begin with its end: a refused call, or an end that the database could not take yet.
const TAG_WHOLE: u8 = 2;

/// Appends the frame of a begin, with its end when known.
pub(super) fn write(out: &mut Vec<u8>, begin: &Begin, finish: Option<&Finish>) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[0; HEADER - MAGIC.len()]);
    out.push(if finish.is_some() { TAG_WHOLE } else { TAG_BEGIN });
    write_begin(out, begin);
    if let Some(finish) = finish {
        write_finish(out, finish);
    }
    let checksum = crc32fast::hash(&out[start + HEADER..]);
    let length = (out.len() - start - HEADER) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out[start + 8..start + HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads every whole frame.
pub(super) fn read_all(bytes: &[u8]) -> Contents {
    let mut contents = Contents { records: Vec::new(), damaged_bytes: 0 };
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some((record, after)) = read(rest) {
            contents.records.push(record);
            rest = after;
        } else {
            let next = memchr::memmem::find(&rest[1..], MAGIC).map_or(rest.len(), |at| at + 1);
            contents.damaged_bytes += next;
            rest = &rest[next..];
        }
    }
    contents
}

pub(super) struct Contents {
    pub records: Vec<Record>,
    /// Bytes in no whole frame: a write that a kill cut short, or damage.
    pub damaged_bytes: usize,
}

pub(super) type Record = (Begin, Option<Finish>);

fn read(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let mut header = Reader(header.strip_prefix(MAGIC)?);
    let length = u32::from_le_bytes(header.array()?) as usize;
    let checksum = u32::from_le_bytes(header.array()?);
    let (payload, after) = rest.split_at_checked(length)?;
    if crc32fast::hash(payload) != checksum {
        return None;
    }
    let mut reader = Reader(payload);
    let tag = reader.u8()?;
    let begin = reader.begin()?;
    let finish = match tag {
        TAG_BEGIN => None,
        TAG_WHOLE => Some(reader.finish()?),
        _ => return None,
    };
    Some(((begin, finish), after))
}

fn write_begin(out: &mut Vec<u8>, begin: &Begin) {
    out.extend_from_slice(begin.id.0.as_bytes());
    out.extend_from_slice(begin.request.0.as_bytes());
    out.extend_from_slice(begin.tenant.0.as_bytes());
    out.extend_from_slice(begin.server.0.as_bytes());
    out.extend_from_slice(&begin.digest);
    out.extend_from_slice(&begin.started_at.as_microsecond().to_le_bytes());
    out.extend_from_slice(&begin.argument_bytes.to_le_bytes());
    out.push(match begin.caller_kind {
        CallerKind::ApiKey => 0,
        CallerKind::Jwt => 1,
        CallerKind::Loopback => 2,
    });
    out.push(match begin.kind {
        Kind::ToolsCall => 0,
        Kind::ResourcesRead => 1,
        Kind::PromptsGet => 2,
    });
    optional(out, begin.trace_id.as_ref().map(|id| &id[..]));
    optional(out, begin.agent.as_ref().map(|id| &id.0.as_bytes()[..]));
    optional(out, begin.credential.as_ref().map(|id| &id.0.as_bytes()[..]));
    text(out, &begin.server_slug);
    text(out, &begin.tool);
    optional_text(out, begin.arguments.as_deref());
}

fn write_finish(out: &mut Vec<u8>, finish: &Finish) {
    text(out, finish.outcome.as_str());
    for number in [finish.duration_us, finish.queue_us, finish.upstream_us, finish.result_bytes] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&finish.tokens_in.to_le_bytes());
    out.extend_from_slice(&finish.tokens_out.to_le_bytes());
    out.push(finish.attempts);
    out.push(u8::from(finish.tokens_estimated));
    out.push(u8::from(finish.error.is_some()));
    if let Some(error) = &finish.error {
        text(out, &error.code);
        text(out, &error.message);
        optional_text(out, error.rule.as_deref());
    }
}

fn optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn optional_text(out: &mut Vec<u8>, content: Option<&str>) {
    out.push(u8::from(content.is_some()));
    if let Some(content) = content {
        text(out, content);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn begin(&mut self) -> Option<Begin> {
        let id = ExecutionId(self.uuid()?);
        let request = RequestId(self.uuid()?);
        let tenant = TenantId(self.uuid()?);
        let server = ServerId(self.uuid()?);
        let digest = self.array()?;
        let started_at = Timestamp::from_microsecond(i64::from_le_bytes(self.array()?)).ok()?;
        let argument_bytes = u32::from_le_bytes(self.array()?);
        let caller_kind = match self.u8()? {
            0 => CallerKind::ApiKey,
            1 => CallerKind::Jwt,
            2 => CallerKind::Loopback,
            _ => return None,
        };
        let kind = match self.u8()? {
            0 => Kind::ToolsCall,
            1 => Kind::ResourcesRead,
            2 => Kind::PromptsGet,
            _ => return None,
        };
        let trace_id = if self.bool()? { Some(self.array()?) } else { None };
        let agent = if self.bool()? { Some(AgentId(self.uuid()?)) } else { None };
        let credential = if self.bool()? { Some(CredentialId(self.uuid()?)) } else { None };
        let server_slug = Arc::from(self.text()?);
        let tool = self.text()?.to_owned();
        let arguments = if self.bool()? { Some(Box::from(self.text()?)) } else { None };
        Some(Begin {
            id,
            request,
            trace_id,
            tenant,
            agent,
            credential,
            caller_kind,
            kind,
            server,
            server_slug,
            tool,
            started_at,
            arguments,
            digest,
            argument_bytes,
        })
    }

    fn finish(&mut self) -> Option<Finish> {
        Some(Finish {
            outcome: Outcome::parse(self.text()?)?,
            duration_us: u64::from_le_bytes(self.array()?),
            queue_us: u64::from_le_bytes(self.array()?),
            upstream_us: u64::from_le_bytes(self.array()?),
            result_bytes: u64::from_le_bytes(self.array()?),
            tokens_in: u32::from_le_bytes(self.array()?),
            tokens_out: u32::from_le_bytes(self.array()?),
            attempts: self.u8()?,
            tokens_estimated: self.bool()?,
            error: if self.bool()? { Some(Box::new(self.error()?)) } else { None },
        })
    }

    fn error(&mut self) -> Option<RecordedError> {
        Some(RecordedError {
            code: self.text()?.to_owned(),
            message: self.text()?.to_owned(),
            rule: if self.bool()? { Some(self.text()?.to_owned()) } else { None },
        })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn bool(&mut self) -> Option<bool> {
        self.u8().map(|byte| byte != 0)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(tool: &str) -> Begin {
        Begin {
            id: ExecutionId::new(),
            request: RequestId::new(),
            trace_id: Some([7; 16]),
            tenant: TenantId::new(),
            agent: Some(AgentId::new()),
            credential: None,
            caller_kind: CallerKind::Jwt,
            kind: Kind::PromptsGet,
            server: ServerId::new(),
            server_slug: "time".into(),
            tool: tool.to_owned(),
            started_at: Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
            arguments: Some("{}".into()),
            digest: [9; 32],
            argument_bytes: 2,
        }
    }

    fn written(tools: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for tool in tools {
            write(&mut bytes, &begin(tool), None);
        }
        bytes
    }

    fn tools(bytes: &[u8]) -> Vec<String> {
        read_all(bytes).records.into_iter().map(|(begin, _)| begin.tool).collect()
    }

    #[test]
    fn a_record_reads_back() {
        let begin = begin("a");
        let error = RecordedError::new("upstream_failed", "died", Some("rule 1".to_owned()));
        let finish =
            Finish { attempts: 2, error: Some(Box::new(error)), ..Finish::bare(Outcome::Unavailable, 5) };
        let mut bytes = Vec::new();
        write(&mut bytes, &begin, Some(&finish));
        let contents = read_all(&bytes);
        assert_eq!(format!("{:?}", contents.records), format!("{:?}", [(begin, Some(finish))]));
        assert_eq!(contents.damaged_bytes, 0);
    }

    #[test]
    fn a_torn_end_costs_the_last_frame_only() {
        let bytes = written(&["a", "b", "c"]);
        for length in bytes.len() * 2 / 3 + 1..bytes.len() {
            assert_eq!(tools(&bytes[..length]), ["a", "b"]);
        }
    }

    #[test]
    fn damage_costs_the_frame_it_hits_only() {
        let bytes = written(&["a", "b", "c"]);
        for at in 0..bytes.len() / 3 {
            let mut damaged = bytes.clone();
            damaged[at + bytes.len() / 3] ^= 0x55;
            assert_eq!(tools(&damaged), ["a", "c"], "byte {at} of the second frame");
        }
        assert!(tools(&[0; 4096]).is_empty());
    }
}
