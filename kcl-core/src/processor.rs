//! The user's part: what happens with the records of one shard.

use async_trait::async_trait;

use crate::input::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ShardEndedInput,
    ShutdownRequestedInput,
};
use crate::shard_info::ShardInfo;

/// Any error of user code.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a record processor answers.
pub type ProcessorResult = Result<(), BoxError>;

/// Processes the records of one shard.
///
/// The framework makes one instance for each lease that it is granted and never calls it concurrently with itself:
/// [`initialize`](Self::initialize) once, [`process_records`](Self::process_records) batch by batch in sequence order,
/// then at most one of [`shard_ended`](Self::shard_ended), [`lease_lost`](Self::lease_lost) and
/// [`shutdown_requested`](Self::shutdown_requested).
///
/// # Errors and panics
/// An error from `process_records` keeps the batch: it is delivered again after a back-off until it succeeds, from the
/// first record that is not complete. (The Java library logs the error and skips the batch.) A
/// [`BatchFailure`](crate::BatchFailure) says which record failed; a [`FailurePolicy`](crate::FailurePolicy) bounds the
/// retries. A panic counts as an error; after it the instance is dropped and a new one is made by the factory and
/// initialized.
///
/// # Cancellation
/// A call is dropped at its next `await` when the drain budget of a shutdown has run out. A lost lease does not cancel
/// a running call: it can watch [`Grant::lost`](crate::Grant::lost).
#[async_trait]
#[doc(alias = "ShardRecordProcessor")]
pub trait RecordProcessor: Send + 'static {
    /// Prepares for the first batch. An error is retried after a back-off.
    async fn initialize(&mut self, _input: InitializationInput) -> ProcessorResult {
        Ok(())
    }

    /// Processes a batch of user records. `Ok` completes every record of the batch that was not
    /// [deferred](ProcessRecordsInput::defer).
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult;

    /// Called when every record of a closed shard is complete. After `Ok` the framework itself marks the shard as
    /// finished and starts its children; an error is retried after a back-off.
    async fn shard_ended(&mut self, _input: ShardEndedInput) -> ProcessorResult {
        Ok(())
    }

    /// Called when the worker stops or gives the shard away: the last chance to flush and to checkpoint. What is
    /// complete when it returns is stored before the lease is released. After it deferred records are waited for, until a
    /// fifth of the time to the deadline is left, at most 2 s. An error is reported and not retried.
    async fn shutdown_requested(&mut self, _input: ShutdownRequestedInput) -> ProcessorResult {
        Ok(())
    }

    /// Called when the lease was lost: another worker may hold it already, and nothing can be checkpointed any more.
    async fn lease_lost(&mut self, _input: LeaseLostInput) -> ProcessorResult {
        Ok(())
    }
}

/// Makes the record processor of a shard.
pub(crate) type ProcessorFactory =
    Box<dyn Fn(&ShardInfo) -> Box<dyn RecordProcessor> + Send + Sync>;
