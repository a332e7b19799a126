//! The ways to consume. Every one looks at each record in the same way.

pub(super) mod fan_out;
pub(super) mod framework;
pub(super) mod official;
pub(super) mod official_fan_out;
pub(super) mod pace;
pub(super) mod raw;
pub(super) mod source;

use std::error::Error;

use aws_types::SdkConfig;
use futures_util::future::select_all;
use kcl_core::Runtime;
use tokio_util::task::AbortOnDropHandle;

/// A loop ends only when it cannot go on.
type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// A consumer that the null Kinesis knows, as it knows all others.
const CONSUMER: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/null/consumer/bench:1";

/// What all of them call themselves.
pub(super) const CALLER: &str = "AKIDEXAMPLE";

pub(super) fn aws(endpoint: &str) -> SdkConfig {
    crate::aws::at(endpoint, CALLER)
}

/// Runs a loop for each shard until the first of them ends.
async fn for_each_shard<F>(runtime: &Runtime, shards: usize, run: impl Fn(usize) -> F) -> Ended
where
    F: Future<Output = Ended> + Send + 'static,
{
    let loops: Vec<AbortOnDropHandle<Ended>> =
        (0..shards).map(|shard| runtime.spawn(run(shard))).collect();
    let (first, _, _others) = select_all(loops).await;
    first?
}
