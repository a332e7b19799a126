//! Handles of deferred records: whoever has one says when the records are complete.

use kcl_checkpoint::DeliveryId;
use kcl_lease::mutant::{self, Mutant};

use crate::call::CallFailure;
use crate::checkpointer::Checkpointer;
use crate::processor::BoxError;

/// Completes one deferred record; made by [`ProcessRecordsInput::defer`](crate::ProcessRecordsInput::defer).
///
/// It outlives the call, and may be sent anywhere. Handles can be answered in any order: the checkpoint follows up to the
/// first record that is not complete. Dropping a handle without an answer is a failure of its record.
///
/// Answers in the call that deferred the record count at once. If that call fails nevertheless, delivery goes on at the first
/// of its records that is not complete: what was acknowledged before that one does not come again, what was acknowledged
/// after it does, and to defer it again has no effect ([`AckError::Over`]).
#[derive(Debug)]
#[must_use = "a handle that is dropped makes its record fail"]
pub struct Ack(Handle);

/// Completes all records that a call deferred together; made by
/// [`ProcessRecordsInput::defer_all`](crate::ProcessRecordsInput::defer_all). As [`Ack`] otherwise.
#[derive(Debug)]
#[must_use = "a handle that is dropped makes its records fail"]
pub struct BatchAck(Handle);

/// Why an answer for deferred records changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The lease is over. Whoever holds it next delivers the record again, unless it was complete and stored.
    #[error("the lease is over: the record is delivered again by its next holder")]
    LeaseLost,
    /// The record is not one of the call in which it was deferred, or that call had returned. A mistake of the caller.
    #[error(
        "the record cannot be deferred: it is not one of this call's, or the call had returned; defer records of the call's own input before it returns"
    )]
    NotInCall,
    /// The record is not in flight under this handle: it was complete or deferred when it was deferred again, a checkpoint
    /// by hand has declared it complete, or the call that deferred it failed, which delivers all of its records again.
    #[error(
        "the record is not in flight under this handle: it is complete, deferred already, or delivered again because its call failed"
    )]
    Over,
}

impl Ack {
    pub(crate) fn new(checkpointer: Checkpointer, deferred: Result<DeliveryId, AckError>) -> Self {
        Self(Handle::new(checkpointer, deferred))
    }

    /// The record is complete. The checkpoint may pass it from now on.
    ///
    /// # Errors
    /// See [`AckError`]; nothing changed then.
    pub fn done(self) -> Result<(), AckError> {
        self.0.done()
    }

    /// The record failed. It is delivered again after a back-off, as the [failure policy](crate::FailurePolicy) says, on
    /// its own and possibly after later records of its key.
    ///
    /// # Errors
    /// See [`AckError`]; nothing changed then.
    pub fn fail(self, error: impl Into<BoxError>) -> Result<(), AckError> {
        self.0.fail(error.into())
    }
}

impl BatchAck {
    pub(crate) fn new(checkpointer: Checkpointer, deferred: Result<DeliveryId, AckError>) -> Self {
        Self(Handle::new(checkpointer, deferred))
    }

    /// All of the records are complete. The checkpoint may pass them from now on.
    ///
    /// # Errors
    /// See [`AckError`]; nothing changed then.
    pub fn done(self) -> Result<(), AckError> {
        self.0.done()
    }

    /// The records failed. They are delivered again after a back-off, as the [failure policy](crate::FailurePolicy) says,
    /// possibly after later ones. With a [`BatchFailure`](crate::BatchFailure) those before the one that it names are
    /// complete.
    ///
    /// # Errors
    /// See [`AckError`]; nothing changed then.
    pub fn fail(self, error: impl Into<BoxError>) -> Result<(), AckError> {
        self.0.fail(error.into())
    }
}

/// What both kinds of handles are.
#[derive(Debug)]
struct Handle {
    checkpointer: Checkpointer,
    deferred: Result<DeliveryId, AckError>,
    is_answered: bool,
}

impl Handle {
    fn new(checkpointer: Checkpointer, deferred: Result<DeliveryId, AckError>) -> Self {
        Self {
            checkpointer,
            deferred,
            is_answered: false,
        }
    }

    fn done(mut self) -> Result<(), AckError> {
        self.is_answered = true;
        self.checkpointer.acknowledge(self.deferred?)
    }

    fn fail(mut self, error: BoxError) -> Result<(), AckError> {
        self.is_answered = true;
        self.checkpointer
            .reject(self.deferred?, CallFailure::error(error))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let (Ok(deferred), false) = (self.deferred, self.is_answered) {
            if mutant::is(Mutant::DroppedHandleCounts) {
                let _over = self.checkpointer.acknowledge(deferred);
            }
            let dropped = CallFailure::text("its handle was dropped without an answer");
            // Nobody is there to hear that it was over anyway.
            let _over = self.checkpointer.reject(deferred, dropped);
        }
    }
}
