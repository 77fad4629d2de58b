//! Statistics of a tenant's executions: counts, tokens and latencies by group, in one pass over the rows.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use protocol::ids::{AgentId, ServerId};
use protocol::outcome::Outcome;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DbBackend, EntityTrait, IdenStatic, QueryFilter, QuerySelect, QueryTrait, Select,
};
use uuid::Uuid;

use super::query::{ExecutionFilter, narrow};
use super::row::{Column, Entity};
use super::{stats_postgres, stats_sqlite};
use crate::{DbError, TenantScope};

/// Most groups of one answer.
pub const MAX_GROUPS: usize = 1_000;

/// Longest time that the rows are read.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Parts of a group's key; without any, everything is one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupBy {
    pub server: bool,
    pub tool: bool,
    pub agent: bool,
    pub outcome: bool,
    /// Length of a time bucket, which begins at a multiple of it since 1970 (UTC).
    pub bucket: Option<Bucket>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bucket {
    Minute,
    Hour,
    Day,
}

impl Bucket {
    pub(super) fn micros(self) -> i64 {
        let seconds = match self {
            Bucket::Minute => 60,
            Bucket::Hour => 3_600,
            Bucket::Day => 86_400,
        };
        seconds * 1_000_000
    }
}

/// Figures of one group of executions.
#[derive(Clone, Debug)]
pub struct Group {
    pub start: Option<Timestamp>,
    /// Id and slug at the time of the call.
    pub server: Option<(ServerId, String)>,
    pub tool: Option<String>,
    /// Agent; the inner `None` is a caller without one.
    pub agent: Option<Option<AgentId>>,
    pub outcome: Option<Outcome>,
    pub figures: Figures,
}

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub calls: u64,
    /// Number of calls of each outcome that occurs.
    pub outcomes: BTreeMap<&'static str, u64>,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub result_bytes: u64,
    pub last_started_at: Option<Timestamp>,
    pub latency: Latencies,
}

impl Figures {
    /// Returns the number of calls that ended otherwise than `ok`.
    pub fn failures(&self) -> u64 {
        let count = |outcome: Outcome| self.outcomes.get(outcome.as_str()).copied().unwrap_or(0);
        self.calls - count(Outcome::Ok) - count(Outcome::Running)
    }

    fn add(&mut self, part: Part) {
        self.calls += part.calls;
        *self.outcomes.entry(part.outcome.as_str()).or_insert(0) += part.calls;
        self.tokens_in += part.tokens_in;
        self.tokens_out += part.tokens_out;
        self.result_bytes += part.result_bytes;
        self.last_started_at = self.last_started_at.max(Some(crate::time::from_column(part.last_started_at)));
        if let Some(bin) = part.bin {
            self.latency.add(bin, part.calls);
        }
    }
}

/// Executions of one outcome whose durations are in one bin.
pub(super) struct Part {
    pub(super) outcome: Outcome,
    pub(super) calls: u64,
    /// Bin of the durations; `None` for calls that were not delivered, or are not finished.
    pub(super) bin: Option<i32>,
    pub(super) tokens_in: u64,
    pub(super) tokens_out: u64,
    pub(super) result_bytes: u64,
    pub(super) last_started_at: i64,
}

/// Durations in bins that are 2^(1/32) wide, of which the middle is answered: within 2 %.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    bins: BTreeMap<i32, u64>,
    count: u64,
}

/// Bins for each factor of e: 32 / ln 2.
pub(super) const BINS: f64 = 46.166_241_308_446_83;

impl Latencies {
    fn add(&mut self, bin: i32, calls: u64) {
        *self.bins.entry(bin).or_insert(0) += calls;
        self.count += calls;
    }

    /// Returns the duration, in microseconds, that this part (0 to 1) of the calls did not exceed (nearest rank);
    /// `None` without calls.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.bins.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map(|(bin, _)| middle(*bin))
    }
}

/// Returns the bin of a duration in microseconds.
pub(super) fn bin(micros: i64) -> i32 {
    ((micros as f64 + 1.0).ln() * BINS).round() as i32
}

fn middle(bin: i32) -> u64 {
    ((f64::from(bin) / BINS).exp() - 1.0).round() as u64
}

/// Key of a group. The parts that are not asked for are `None`.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) start: Option<i64>,
    pub(super) server: Option<(String, Uuid)>,
    pub(super) tool: Option<String>,
    pub(super) agent: Option<Option<Uuid>>,
    pub(super) outcome: Option<&'static str>,
}

/// Figures by group, bounded in number.
#[derive(Default)]
pub(super) struct Groups(HashMap<Key, Figures>);

impl Groups {
    pub(super) fn add(&mut self, key: Key, part: Part) -> Result<(), DbError> {
        self.0.entry(key).or_default().add(part);
        if self.0.len() <= MAX_GROUPS {
            return Ok(());
        }
        Err(DbError::Invalid(format!(
            "these are more than {MAX_GROUPS} groups; narrow the filters, or group by less"
        )))
    }
}

impl TenantScope<'_> {
    /// Returns the figures of the executions that the filter lets through, by group: by time, then the most calls
    /// first. Rows still in the journal are missing.
    ///
    /// # Errors
    /// `Busy` while others' statistics take their time; `Invalid` for more than [`MAX_GROUPS`] groups, and for a range that takes longer than 30 s; the message says
    /// how to narrow it.
    pub async fn execution_stats(
        &self,
        filter: &ExecutionFilter,
        by: GroupBy,
    ) -> Result<Vec<Group>, DbError> {
        // Two at the same time leave SQLite, which has four connections for reads, some for others.
        let _turn = self.db.turn(("execution statistics", self.tenant.0.as_u128() % 2)).await?;
        match tokio::time::timeout(PATIENCE, self.gather(filter, by)).await {
            Ok(groups) => groups,
            Err(_) => Err(DbError::Invalid(format!(
                "the statistics of so many executions take longer than {} s; narrow `startedAfter` and `startedBefore`",
                PATIENCE.as_secs()
            ))),
        }
    }

    async fn gather(&self, filter: &ExecutionFilter, by: GroupBy) -> Result<Vec<Group>, DbError> {
        let query = narrow(Entity::find().filter(Column::TenantId.eq(self.tenant.0)), filter).select_only();
        let groups = match self.db.sqlite_path() {
            Some(path) => {
                let query = stats_sqlite::columns(query, by).build(DbBackend::Sqlite);
                let path = path.to_owned();
                let read = tokio::task::spawn_blocking(move || stats_sqlite::read(&path, query, by));
                read.await.map_err(|error| DbError::Unavailable(error.to_string()))??
            }
            None => stats_postgres::read(query, by, self.db.reader()).await?,
        };
        let mut groups: Vec<(Key, Figures)> = groups.0.into_iter().collect();
        groups.sort_by(|(a, of_a), (b, of_b)| {
            a.start.cmp(&b.start).then(of_b.calls.cmp(&of_a.calls)).then_with(|| a.cmp(b))
        });
        Ok(groups.into_iter().map(group).collect())
    }
}

/// Adds the columns of the key; those that are not asked for are NULL, so that no text is read in vain.
pub(super) fn key_columns(query: Select<Entity>, by: GroupBy) -> Select<Entity> {
    let columns = [
        (Column::ServerId, by.server),
        (Column::ServerSlug, by.server),
        (Column::Tool, by.tool),
        (Column::AgentId, by.agent),
    ];
    columns.into_iter().fold(query, |query, (column, needed)| match needed {
        true => query.column(column),
        false => query.column_as(Expr::cust("NULL"), column.as_str()),
    })
}

/// Reads an outcome.
pub(super) fn outcome(text: &str) -> Result<Outcome, DbError> {
    Outcome::parse(text).ok_or_else(|| crate::rows::unknown_word("outcome", text))
}

pub(super) fn unsigned(value: Option<i64>) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

fn group((key, figures): (Key, Figures)) -> Group {
    Group {
        start: key.start.map(crate::time::from_column),
        server: key.server.map(|(slug, id)| (ServerId(id), slug)),
        tool: key.tool,
        agent: key.agent.map(|agent| agent.map(AgentId)),
        outcome: key.outcome.and_then(Outcome::parse),
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_is_within_two_percent_of_its_durations() {
        for micros in (0..2_000).chain([4_095, 4_096, 1_000_003, 59_999_999, i64::from(u32::MAX), 1 << 52]) {
            let answered = middle(bin(micros));
            let off = answered.abs_diff(micros as u64) as f64;
            assert!(off <= micros as f64 * 0.02, "{micros} became {answered}");
        }
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for micros in 1..=20 {
            latencies.add(bin(micros), 1);
        }
        let quantiles = [0.0, 0.5, 0.95, 0.99, 1.0].map(|part| latencies.quantile(part));
        assert_eq!(quantiles, [1, 10, 19, 20, 20].map(Some));
    }
}
