//! What the readers of all shards of a worker share, whatever their streams.

use std::sync::Arc;

use kcl_lease::runtime::Runtime;

use crate::config::Config;
use crate::retrieval::{
    Budget, Consumer, ConsumerOptions, FanOut, IdleShards, OutOfRange, PaceOptions, Polling,
    ReadLimit, Reader, ShardSource,
};

/// Makes a reader for each stream: memory, limits and the idle shards' reads are shared out among the shards of all of them.
#[derive(Debug)]
pub(crate) struct SharedReading {
    budget: Budget,
    idle_shards: IdleShards,
    pace: PaceOptions,
    limit: ReadLimit,
    max_records: u16,
    out_of_range: OutOfRange,
    runtime: Runtime,
}

impl SharedReading {
    pub(crate) fn new(config: &Config, budget: Budget, runtime: Runtime) -> Self {
        Self {
            budget,
            idle_shards: IdleShards::default(),
            pace: PaceOptions {
                max_idle_interval: config.idle_between_reads,
                idle_calls_per_second: config.idle_reads_per_second,
                calls_per_second: config.shard_reads_per_second,
            },
            limit: config.read_limit.map_or_else(ReadLimit::default, |bytes| {
                ReadLimit::new(bytes, runtime.clone())
            }),
            max_records: config.max_records,
            out_of_range: config.out_of_range,
            runtime,
        }
    }

    /// The reader of one stream, by the stream's consumer if there is to be one.
    pub(crate) fn reader(
        &self,
        source: &Arc<dyn ShardSource>,
        consumer: Option<ConsumerOptions>,
    ) -> Reader {
        let runtime = &self.runtime;
        Reader {
            polling: Polling {
                source: Arc::clone(source),
                budget: self.budget.clone(),
                idle_shards: self.idle_shards.clone(),
                pace: self.pace.clone(),
                limit: self.limit.clone(),
                max_records: self.max_records,
                out_of_range: self.out_of_range,
                runtime: runtime.clone(),
            },
            fan_out: consumer.map(|options| FanOut {
                consumer: Arc::new(Consumer::new(options, Arc::clone(source), runtime.clone())),
                source: Arc::clone(source),
                limit: self.limit.clone(),
                runtime: runtime.clone(),
            }),
        }
    }
}
