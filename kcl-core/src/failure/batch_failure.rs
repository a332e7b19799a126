//! An error that says which record failed.

use kcl_checkpoint::Position;

use crate::processor::BoxError;

/// Says which record of a batch could not be processed: what a processor may return instead of any other error.
///
/// The records before it are complete at once, and the next delivery begins with it. It is retried and, once the
/// [failure policy](crate::FailurePolicy)'s bounds are reached, given up without a search for the failing record.
///
/// It is also found as the source of another error. A position that is not one of the batch's is no help: the error then
/// counts as one of the whole batch, and nothing is complete.
///
/// ```
/// use kcl_core::{BatchFailure, ProcessRecordsInput, ProcessorResult};
///
/// fn process(input: &ProcessRecordsInput) -> ProcessorResult {
///     for record in input {
///         std::str::from_utf8(record.data())
///             .map_err(|error| BatchFailure::at(record.position(), error))?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("the record at {position} failed: {source}")]
pub struct BatchFailure {
    position: Position,
    source: BoxError,
}

impl BatchFailure {
    /// The record at `position` failed because of `source`; everything before it in the batch is complete.
    #[must_use]
    pub fn at(position: Position, source: impl Into<BoxError>) -> Self {
        Self {
            position,
            source: source.into(),
        }
    }

    /// The position of the record that failed.
    #[must_use]
    pub fn failed_at(&self) -> &Position {
        &self.position
    }

    /// The one in `error` or behind it.
    pub(crate) fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        // Chains of errors are short; one that a mistake made endless is not followed for ever.
        std::iter::successors(Some(error), |error| error.source())
            .take(64)
            .find_map(|error| error.downcast_ref())
    }
}
