//! Queries of a tenant's execution records, newest first. Records still in the journal are missing; call
//! [`Recorder::flush`](super::Recorder::flush) first.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use protocol::caller::CallerKind;
use protocol::ids::{AgentId, CredentialId, ExecutionId, RequestId, ServerId, TenantId};
use protocol::outcome::Outcome;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use uuid::Uuid;

use super::row::{Column, Entity, Model};
use super::{Kind, RecordedError};
use crate::rows::servers;
use crate::{DbError, TenantScope};

/// The most items on a page.
const MAX_LIMIT: u64 = 200;

/// One recorded call.
#[derive(Clone, Debug)]
pub struct Execution {
    pub id: ExecutionId,
    pub tenant: TenantId,
    pub request: RequestId,
    pub trace_id: Option<[u8; 16]>,
    pub kind: Kind,
    pub server: ServerId,
    pub server_slug: String,
    pub tool: String,
    pub agent: Option<AgentId>,
    pub credential: Option<CredentialId>,
    pub caller_kind: CallerKind,
    pub outcome: Outcome,
    pub started_at: Timestamp,
    /// End; `None` while running, and when the end is unknown.
    pub finished_at: Option<Timestamp>,
    /// Microseconds, as the two after it.
    pub duration_us: Option<u64>,
    pub queue_us: Option<u64>,
    pub upstream_us: Option<u64>,
    pub attempts: Option<u8>,
    /// Arguments by [`Redaction`](super::Redaction): mostly JSON, but a cut text is none.
    pub arguments_redacted: Option<String>,
    /// SHA-256 of the arguments as they were sent.
    pub arguments_digest: [u8; 32],
    pub argument_bytes: u64,
    pub result_bytes: Option<u64>,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    pub tokens_estimated: Option<bool>,
    pub error: Option<RecordedError>,
}

/// Filter of executions; `None` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    pub server: Option<ServerKey>,
    pub tool: Option<String>,
    pub agent: Option<AgentId>,
    pub outcome: Option<Outcome>,
    pub kind: Option<Kind>,
    /// Earliest start, inclusive.
    pub started_after: Option<Timestamp>,
    /// Latest start, exclusive.
    pub started_before: Option<Timestamp>,
}

/// A server by its id, or by its slug at the time of the call.
#[derive(Clone, Debug)]
pub enum ServerKey {
    Id(ServerId),
    Slug(String),
}

/// A page of executions, newest first.
#[derive(Clone, Debug)]
pub struct ExecutionPage {
    pub items: Vec<Execution>,
    /// Cursor of the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

impl TenantScope<'_> {
    /// Returns the tenant's executions, newest first. Pages follow each other without a gap or a repetition
    /// however many rows are added meanwhile. `limit` is 1 to 200; other values count as the nearest end.
    ///
    /// # Errors
    /// `Invalid` for a cursor that no page of this tenant gave; the message says so.
    pub async fn executions(
        &self,
        filter: &ExecutionFilter,
        limit: u64,
        cursor: Option<&str>,
    ) -> Result<ExecutionPage, DbError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let mut query = Entity::find().filter(Column::TenantId.eq(self.tenant.0));
        if let Some(cursor) = cursor {
            query = query.filter(Column::Id.lt(read_cursor(self.tenant, cursor)?));
        }
        let query = narrow(query, filter).order_by_desc(Column::Id).limit(limit + 1);
        let mut rows = query.all(self.db.reader()).await?;
        let more = rows.len() as u64 > limit;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| more).map(|row| write_cursor(self.tenant, row.id));
        let items = rows.into_iter().map(Execution::of).collect::<Result<_, _>>()?;
        Ok(ExecutionPage { items, next_cursor })
    }

    /// # Errors
    /// `NotFound` when the tenant has no such execution.
    pub async fn find_execution(&self, id: ExecutionId) -> Result<Execution, DbError> {
        let row = Entity::find_by_id((self.tenant.0, id.0)).one(self.db.reader()).await?;
        Execution::of(row.ok_or(DbError::NotFound)?)
    }
}

pub(super) fn narrow(
    mut query: sea_orm::Select<Entity>,
    filter: &ExecutionFilter,
) -> sea_orm::Select<Entity> {
    match &filter.server {
        // Slugs never change, and the index has them.
        Some(ServerKey::Id(id)) => {
            let slug = servers::Entity::find_by_id(id.0).select_only().column(servers::Column::Slug);
            query = query
                .filter(Column::ServerId.eq(id.0))
                .filter(Column::ServerSlug.in_subquery(slug.into_query()));
        }
        Some(ServerKey::Slug(slug)) => query = query.filter(Column::ServerSlug.eq(slug)),
        None => {}
    }
    if let Some(tool) = &filter.tool {
        query = query.filter(Column::Tool.eq(tool));
    }
    if let Some(agent) = filter.agent {
        query = query.filter(Column::AgentId.eq(agent.0));
    }
    if let Some(outcome) = filter.outcome {
        query = query.filter(Column::Outcome.eq(outcome.as_str()));
        // The index of the other outcomes is used only where the statement says that it is one of them.
        if outcome != Outcome::Ok {
            query = query.filter(Expr::cust("outcome <> 'ok'"));
        }
    }
    if let Some(kind) = filter.kind {
        query = query.filter(Column::Kind.eq(kind.as_str()));
    }
    // An id has the time of the start, so the key's order finds the time range; the exact bounds are the
    // column's.
    if let Some(after) = filter.started_after {
        query = query
            .filter(Column::Id.gte(first_id_at(after, -ID_SLACK_MS)))
            .filter(Column::StartedAt.gte(after.as_microsecond()));
    }
    if let Some(before) = filter.started_before {
        query = query
            .filter(Column::Id.lt(first_id_after(before)))
            .filter(Column::StartedAt.lt(before.as_microsecond()));
    }
    query
}

/// More than the difference between an execution's start and the time in its id, which has milliseconds.
const ID_SLACK_MS: i64 = 1_000;

/// Returns an id after all executions that started before a time.
pub(crate) fn first_id_after(at: Timestamp) -> Uuid {
    first_id_at(at, ID_SLACK_MS)
}

/// Returns the smallest UUIDv7 of a moment (RFC 9562, section 5.7: 48 bits of milliseconds come first).
fn first_id_at(at: Timestamp, slack_ms: i64) -> Uuid {
    let ms = at.as_millisecond().saturating_add(slack_ms).clamp(0, (1 << 48) - 1) as u64;
    Uuid::from_u64_pair(ms << 16, 0)
}

impl Execution {
    fn of(row: Model) -> Result<Execution, DbError> {
        let corrupt = |what: &str| DbError::Corrupt(format!("execution {}: {what}", row.id));
        let error = row.error_code.map(|code| RecordedError {
            code,
            message: row.error_message.unwrap_or_default(),
            rule: row.error_rule,
        });
        let started_at = crate::time::from_column(row.started_at);
        let finished_at =
            row.duration_us.map(|duration| crate::time::from_column(row.started_at.saturating_add(duration)));
        Ok(Execution {
            id: ExecutionId(row.id),
            tenant: TenantId(row.tenant_id),
            request: RequestId(row.request_id),
            trace_id: row.trace_id.map(Uuid::into_bytes),
            kind: Kind::parse(&row.kind).ok_or_else(|| corrupt("kind"))?,
            server: ServerId(row.server_id),
            server_slug: row.server_slug,
            tool: row.tool,
            agent: row.agent_id.map(AgentId),
            credential: row.credential_id.map(CredentialId),
            caller_kind: caller_kind(&row.caller_kind).ok_or_else(|| corrupt("caller kind"))?,
            outcome: Outcome::parse(&row.outcome).ok_or_else(|| corrupt("outcome"))?,
            started_at,
            finished_at,
            duration_us: row.duration_us.map(unsigned),
            queue_us: row.queue_us.map(unsigned),
            upstream_us: row.upstream_us.map(unsigned),
            attempts: row.attempts.map(|attempts| u8::try_from(attempts).unwrap_or(u8::MAX)),
            arguments_redacted: row.arguments,
            arguments_digest: row.arguments_digest.try_into().map_err(|_| corrupt("digest"))?,
            argument_bytes: unsigned(row.arguments_bytes),
            result_bytes: row.result_bytes.map(unsigned),
            tokens_in: row.tokens_in.map(unsigned),
            tokens_out: row.tokens_out.map(unsigned),
            tokens_estimated: row.tokens_estimated,
            error,
        })
    }
}

fn caller_kind(text: &str) -> Option<CallerKind> {
    [CallerKind::ApiKey, CallerKind::Jwt, CallerKind::Loopback].into_iter().find(|kind| kind.as_str() == text)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Writes the id of the page's last row and a checksum that ties the id to the tenant.
fn write_cursor(tenant: TenantId, last: Uuid) -> String {
    let mut bytes = last.as_bytes().to_vec();
    bytes.extend_from_slice(&checksum(tenant, last).to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(tenant: TenantId, text: &str) -> Result<Uuid, DbError> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (id, sum) = bytes.split_at_checked(16)?;
        let id = Uuid::from_slice(id).ok()?;
        (sum == checksum(tenant, id).to_le_bytes()).then_some(id)
    };
    read().ok_or_else(|| {
        DbError::Invalid("the cursor is not one that an earlier page gave as `nextCursor`".to_owned())
    })
}

fn checksum(tenant: TenantId, id: Uuid) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(tenant.0.as_bytes());
    hasher.update(id.as_bytes());
    hasher.finalize()
}
