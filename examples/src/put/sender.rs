//! Sends queued records until the service has stored them.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use tokio::time::Instant;

use super::entry::{Entry, Stored};
use super::queue::Queue;
use crate::aws_error::{explain, is_transient};
use crate::stream_name::StreamName;

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why records were not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The service refuses the request; trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// One record can never be stored. All others are unharmed.
    #[error(transparent)]
    Record(#[from] kcl_aggregation::PackError),
    /// Nothing could be stored for too long.
    #[error("gave up after {waited:?} without a stored record; the last answer was: {last}")]
    GaveUp {
        /// How long nothing was stored.
        waited: Duration,
        /// What the service said last.
        last: String,
    },
}

/// Puts records into a stream, in order within each group, and repeats what the service refuses.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    stream: StreamName,
    patience: Duration,
    queue: Queue,
    stored: Stored,
    shards: BTreeSet<String>,
    refusals_in_a_row: u32,
    last_success: Instant,
}

impl Sender {
    /// A sender that gives up when nothing was stored for as long as `patience`.
    #[must_use]
    pub fn new(client: Client, stream: StreamName, patience: Duration) -> Self {
        Self {
            client,
            stream,
            patience,
            queue: Queue::default(),
            stored: Stored::default(),
            shards: BTreeSet::new(),
            refusals_in_a_row: 0,
            last_success: Instant::now(),
        }
    }

    /// What was stored so far.
    #[must_use]
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// User records that wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.queue.user_records()
    }

    /// The shards that records were stored in since the last time this was asked.
    #[must_use]
    pub fn take_shards(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.shards)
    }

    /// Queues a record. When the queue is full, sends until it is not.
    ///
    /// # Errors
    /// See [`PutError`]; what was not stored still waits.
    pub async fn put(&mut self, entry: Entry) -> Result<(), PutError> {
        if self.queue.is_empty() {
            self.last_success = Instant::now();
        }
        self.queue.push(entry);
        while self.queue.is_full() {
            self.send_request().await?;
        }
        Ok(())
    }

    /// Sends everything that waits.
    ///
    /// # Errors
    /// See [`PutError`]; what was not stored still waits.
    pub async fn flush(&mut self) -> Result<(), PutError> {
        while !self.queue.is_empty() {
            self.send_request().await?;
        }
        Ok(())
    }

    async fn send_request(&mut self) -> Result<(), PutError> {
        let request = self.queue.next_request();
        let records = request
            .iter()
            .map(to_request_entry)
            .collect::<Result<Vec<_>, _>>();
        let records = match records {
            Ok(records) => records,
            Err(error) => {
                self.queue.give_back(request);
                return Err(error);
            }
        };
        let call = self.client.put_records().set_records(Some(records));
        let call = call
            .set_stream_name(self.stream.name())
            .set_stream_arn(self.stream.arn());
        match call.send().await {
            Ok(answer) => self.on_answer(request, &answer.records).await,
            Err(error) => {
                self.queue.give_back(request);
                if is_transient(&error) {
                    self.wait(explain(&error)).await
                } else {
                    Err(PutError::Refused(explain(&error)))
                }
            }
        }
    }

    async fn on_answer(
        &mut self,
        request: Vec<Entry>,
        results: &[PutRecordsResultEntry],
    ) -> Result<(), PutError> {
        let mut refused = Vec::new();
        let mut reason = "the answer has fewer results than the request has records".to_owned();
        for (index, entry) in request.into_iter().enumerate() {
            match results.get(index) {
                Some(result) if result.error_code.is_none() => {
                    self.stored += &entry;
                    self.shards.extend(result.shard_id.clone());
                    self.last_success = Instant::now();
                }
                result => {
                    refused.push(entry);
                    if let Some(result) = result {
                        reason = refusal(result);
                    }
                }
            }
        }
        if refused.is_empty() {
            self.refusals_in_a_row = 0;
            return Ok(());
        }
        self.queue.give_back(refused);
        self.wait(reason).await
    }

    async fn wait(&mut self, reason: String) -> Result<(), PutError> {
        let waited = self.last_success.elapsed();
        if waited >= self.patience {
            return Err(PutError::GaveUp {
                waited,
                last: reason,
            });
        }
        let doubled = 2u32.saturating_pow(self.refusals_in_a_row);
        let wait = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
        self.refusals_in_a_row += 1;
        tracing::debug!(reason, ?wait, "records were refused and are put again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn to_request_entry(entry: &Entry) -> Result<PutRecordsRequestEntry, PutError> {
    PutRecordsRequestEntry::builder()
        .partition_key(&entry.partition_key)
        .set_explicit_hash_key(entry.explicit_hash_key.clone())
        .data(Blob::new(entry.data.as_ref()))
        .build()
        .map_err(|error| PutError::Refused(error.to_string()))
}

fn refusal(result: &PutRecordsResultEntry) -> String {
    let code = result.error_code.as_deref().unwrap_or_default();
    let message = result.error_message.as_deref().unwrap_or_default();
    format!("{code}: {message}")
}
