//! DynamoDB: one table service for all callers, driven by the moments handed in.
//!
//! Rows, expressions and indexes are the store's (`backend`). Over it lie what depends on time or is a
//! fault: states of tables and indexes, throttling, idempotency tokens, backups, stale reads.

mod answer;
mod backend;
mod backups;
mod capacity;
mod control;
mod errors;
mod request;
mod rows;
mod status;
mod table;
mod tokens;
mod versions;

use std::time::Duration;

use crate::{ApiError, Caller, Timestamp};
use answer::Answer;
use backend::Store;
use capacity::Capacity;
use status::Tables;
use table::Throughput;
use tokens::Tokens;
use versions::Versions;

/// How the emulated DynamoDB behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DynamoDbConfig {
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
    /// How long a new table and its indexes are `CREATING`.
    pub table_creation: Duration,
    /// How long a changed table is `UPDATING`.
    pub table_update: Duration,
    /// How long a deleted table is `DELETING`.
    pub table_deletion: Duration,
    /// How long an index added to a table is `CREATING`: the first half the table is `UPDATING`, the
    /// second half the index is filled.
    pub index_creation: Duration,
    /// Whether calls beyond the throughput of a table are throttled.
    pub throttling: bool,
    /// Read and write units for each second that every on-demand table is capped at, if any.
    pub on_demand_cap: Option<(u32, u32)>,
    /// How many versions of each row are kept for stale reads; none switches them off.
    pub row_versions: usize,
    /// How many bytes the kept versions may take in all; the oldest ones go first.
    pub row_version_bytes: usize,
}

impl Default for DynamoDbConfig {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            table_creation: Duration::from_millis(100),
            table_update: Duration::from_millis(100),
            table_deletion: Duration::from_millis(100),
            index_creation: Duration::from_millis(200),
            throttling: true,
            on_demand_cap: None,
            row_versions: 64,
            row_version_bytes: 64 << 20,
        }
    }
}

/// What an eventually consistent read sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadView {
    /// The latest write.
    #[default]
    Current,
    /// Each row as it was some writes to it ago.
    Stale {
        /// How many versions of a row back; the oldest one kept if there are fewer.
        versions_back: usize,
    },
}

/// The emulated service.
#[derive(Debug)]
pub struct DynamoDb {
    config: DynamoDbConfig,
    store: Box<dyn Store>,
    tables: Tables,
    capacity: Capacity,
    tokens: Tokens,
    versions: Versions,
    /// What writes left of rows, if somebody wants to know.
    log: Option<Vec<RowWritten>>,
}

/// What one write left of one row.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RowWritten {
    /// Who wrote; empty for calls that name nobody.
    pub caller: String,
    /// The table.
    pub table: String,
    /// The row's key, in DynamoDB's JSON.
    pub key: serde_json::Map<String, serde_json::Value>,
    /// The row after the write, in DynamoDB's JSON; none if it was deleted.
    pub row: Option<serde_json::Value>,
}

impl DynamoDb {
    /// A service without tables.
    #[must_use]
    pub fn new(config: DynamoDbConfig) -> Self {
        let capacity = Capacity::new(
            config.throttling,
            config.on_demand_cap.map(|(read, write)| Throughput {
                read: read.into(),
                write: write.into(),
            }),
        );
        Self {
            store: backend::open(),
            tables: Tables::default(),
            capacity,
            tokens: Tokens::default(),
            versions: Versions::new(config.row_versions, config.row_version_bytes),
            log: None,
            config,
        }
    }

    /// Switches throttling of all tables on or off.
    pub fn set_throttling(&mut self, enabled: bool) {
        self.capacity.enabled = enabled;
    }

    /// Takes what was written since the last time, in the order of the commits. Nothing is kept before the first time.
    pub fn take_written(&mut self) -> Vec<RowWritten> {
        self.log.replace(Vec::new()).unwrap_or_default()
    }

    /// Answers one call: a JSON request in, a JSON answer out (awsJson1.0).
    ///
    /// # Errors
    ///
    /// What the service would answer, with its further members (`Item`, `CancellationReasons`).
    pub fn call(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        operation: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        self.call_with(now, caller, operation, body, ReadView::Current)
    }

    /// As [`call`](Self::call), but an eventually consistent `GetItem`, `Query` or `Scan` sees `view`.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_with(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        operation: &str,
        body: &[u8],
        view: ReadView,
    ) -> Result<Vec<u8>, ApiError> {
        self.tables.settle(now);
        let written = self.log.as_ref().map_or(0, Vec::len);
        let request = request::read(body)?;
        let answer = match rows::side(operation) {
            Some(side) => self.rows(now, operation, side, request, view),
            None => self.control(now, operation, request).map(Answer::from),
        };
        for row in self.log.iter_mut().flatten().skip(written) {
            row.caller.clone_from(&caller.0);
        }
        answer?.into_bytes()
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
