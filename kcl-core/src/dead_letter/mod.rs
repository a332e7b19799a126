//! Where records go that were given up: the sink's trait, and the sinks that come with the library.

mod file;
mod letter;
mod stream;

use std::future::Future;

use async_trait::async_trait;

use crate::processor::BoxError;

pub use file::FileSink;
pub use letter::DeadLetter;
pub use stream::StreamSink;

/// Takes records that could not be processed.
///
/// One sink serves all shards of a worker, concurrently. A closure that takes a [`DeadLetter`] and returns a future is a
/// sink, too.
///
/// `Ok` means that the letter is stored for good: the checkpoint passes the record after it. An error is reported as
/// [`DeadLetterFailed`](crate::WorkerEvent::DeadLetterFailed), and the same letter comes again after a back-off, for ever;
/// until it is accepted the shard waits. A panic counts as an error, and so does a call of more than 60 seconds. The same
/// letter can come more than once, also from another worker: after a crash between the sink's acceptance and the stored
/// checkpoint.
///
/// # Cancellation
/// A call is dropped at its next `await` after 60 seconds, and when the lease of the shard is lost or wanted elsewhere, as in
/// a shutdown. The record is not complete then, and is delivered again, if need be by another worker.
#[async_trait]
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Stores a letter for good.
    ///
    /// # Errors
    /// Whatever kept it from being stored. The letter comes again.
    async fn accept(&self, letter: DeadLetter) -> Result<(), BoxError>;
}

#[async_trait]
impl<F, Fut> DeadLetterSink for F
where
    F: Fn(DeadLetter) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    async fn accept(&self, letter: DeadLetter) -> Result<(), BoxError> {
        self(letter).await
    }
}
