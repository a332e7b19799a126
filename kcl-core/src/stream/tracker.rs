//! Finding out which streams an application reads while it runs.

use async_trait::async_trait;

use super::config::StreamConfig;
use crate::processor::BoxError;

/// Says which streams an application reads, again and again: streams may come and go while its workers run.
///
/// The worker that leads asks when it comes to lead, and each minute. Streams that are new are read from their
/// [initial position](StreamConfig::initial_position); what is not in the list any more is read on for
/// [`former_streams_after`](crate::WorkerBuilder::former_streams_after), and then its leases are deleted. A worker that does not
/// lead asks, at most every 5 s, when it is given a shard of a stream that it does not know; one that the list does not have is read
/// by its ARN with the worker's own client.
///
/// ```
/// use kcl_core::{BoxError, StreamConfig, StreamTracker, async_trait};
///
/// struct OnePerTenant { directory: std::path::PathBuf }
///
/// #[async_trait]
/// impl StreamTracker for OnePerTenant {
///     async fn streams(&self) -> Result<Vec<StreamConfig>, BoxError> {
///         let tenants = std::fs::read_to_string(self.directory.join("tenants"))?;
///         Ok(tenants.lines().map(|tenant| StreamConfig::new(format!("orders-{tenant}"))).collect())
///     }
/// }
/// ```
#[async_trait]
#[doc(alias = "MultiStreamTracker")]
pub trait StreamTracker: Send + Sync + 'static {
    /// All streams that are to be read now.
    ///
    /// # Errors
    /// When that cannot be found out now. [`StreamListFailed`](crate::WorkerEvent::StreamListFailed) tells of it, and what is
    /// read stays as it is. A call that takes longer than 30 s is dropped, and failed.
    async fn streams(&self) -> Result<Vec<StreamConfig>, BoxError>;
}
