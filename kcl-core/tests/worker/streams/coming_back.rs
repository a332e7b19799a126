//! A stream that comes back in the middle of its removal.

use std::sync::Arc;
use std::time::Duration;

use kcl_core::retrieval::MemoryStream;
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Streams, Worker, async_trait,
};
use tokio::sync::Semaphore;

use super::stage::{List, Stage, put};
use crate::fixture::{Call, Log, eventually, texts};

const GRACE: Duration = Duration::from_secs(300);

/// Does not end a call with a record that says so before it is let go on.
struct Blocker {
    shard: kcl_core::ShardId,
    log: Log,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl RecordProcessor for Blocker {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let data = texts(&input);
        if data.iter().any(|text| text == "blocks") {
            let _ = self.gate.acquire().await?;
        }
        let attempt = input.attempt();
        self.log.push(&self.shard, Call::Records { data, attempt });
        Ok(())
    }
}

fn put_to(stream: &MemoryStream, shard: usize, text: &str) {
    let shard = stream.shards()[shard].shard_id.clone();
    stream.put_to(&shard, "key", text.to_owned()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_back_after_some_of_its_leases_were_deleted_is_read_on() {
    let stage = Stage::new();
    stage.create("stays", 1);
    let goes = stage.create("goes", 2);
    let list = List::of(&["stays", "goes"]);
    let (log, gate) = (Log::default(), Arc::new(Semaphore::new(0)));
    let (logs, gates) = (log.clone(), Arc::clone(&gate));
    let builder = Worker::builder("app", Streams::tracked(list.clone()), move |shard| {
        Blocker {
            shard: shard.shard_id().clone(),
            log: logs.clone(),
            gate: Arc::clone(&gates),
        }
    });
    let builder = builder
        .retrieval(crate::retrieval())
        .runtime(stage.runtime.clone())
        .former_streams_after(GRACE);
    let worker = stage.start(builder);
    worker.handle.caught_up().await;
    let rows = || {
        let all = stage.rows("goes").into_iter();
        all.filter(|key| key.contains(":shardId-")).count()
    };
    assert_eq!(rows(), 2);
    put_to(&goes, 0, "blocks");
    put_to(&goes, 1, "before");
    list.set(&["stays"]);
    eventually("a part of the removal", || rows() == 1).await;
    list.set(&["stays", "goes"]);
    put_to(&goes, 0, "after 0");
    put_to(&goes, 1, "after 1");
    let has = |text: &str| log.delivered().iter().any(|read| read == text);
    eventually("the deleted one", || has("after 1")).await;
    assert!(has("before") && !has("after 0"));
    gate.add_permits(100);
    eventually("the other one", || has("blocks") && has("after 0")).await;
    // Nothing is removed any more.
    for _ in 0..30 {
        tokio::time::sleep(GRACE / 10).await;
        assert_eq!(rows(), 2);
    }
    assert_eq!(worker.told_removed("goes"), 0);
    assert_eq!(worker.handle.shards().len(), 3);
    put_to(&goes, 0, "last 0");
    put(&goes, &["last"]);
    eventually("the last ones", || has("last 0") && has("last")).await;
    worker.stop().await;
}
