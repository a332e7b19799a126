//! The end of a shard, and of a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kcl_lease::{ListedShard, ShardId};

use super::{Setup, numbered};
use crate::retrieval::{
    Fetched, MemoryStream, PollEnd, ShardFilter, ShardIterator, ShardSource, SourceError,
    SourceErrorKind, StartPosition, StreamDescription,
};

#[tokio::test(start_paused = true)]
async fn a_closed_shard_delivers_its_records_and_then_its_children() {
    for name_children in [true, false] {
        let setup = Setup::new(2);
        setup.put("record", 3);
        setup.stream.name_children(name_children);
        let [left, right] = setup.stream.split(&setup.shard(0)).unwrap();
        let mut reading = setup.read(StartPosition::TrimHorizon, None);
        assert_eq!(reading.texts(3).await, numbered("record", 0..3));
        let last = reading.next().await;
        assert!(last.is_empty());
        let children: Vec<ShardId> = last
            .end
            .unwrap()
            .children
            .into_iter()
            .map(|child| child.shard_id)
            .collect();
        assert_eq!(children, [left, right]);
        assert!(matches!(reading.end().await, PollEnd::ShardEnd));
        let listings = usize::from(!name_children);
        assert_eq!(setup.stream.calls("ListShards"), listings);
    }
}

#[tokio::test(start_paused = true)]
async fn both_parents_of_a_merge_name_the_child() {
    let setup = Setup::new(2);
    let (left, right) = (setup.shard(0), setup.shard(1));
    let merged = setup.stream.merge(&left, &right).unwrap();
    for parent in [left, right] {
        let mut reading = setup.read_shard(parent, StartPosition::TrimHorizon, None);
        let end = reading.next().await.end.unwrap();
        assert_eq!(end.children.len(), 1);
        assert_eq!(end.children[0].shard_id, merged);
        assert_eq!(end.children[0].parents().count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_closes_while_it_is_read_ends() {
    let setup = Setup::new(1);
    setup.put("record", 1);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(1).await, ["record-0"]);
    setup.stream.split(&setup.shard(0)).unwrap();
    assert_eq!(reading.next().await.end.unwrap().children.len(), 2);
}

/// Says once that an open shard has no next iterator.
#[derive(Debug)]
struct SaysClosed {
    stream: MemoryStream,
    said: AtomicBool,
}

#[async_trait]
impl ShardSource for SaysClosed {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.stream.describe().await
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        self.stream.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.stream.iterator(shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        let mut fetched = self.stream.get_records(iterator, limit).await?;
        if !self.said.swap(true, Ordering::Relaxed) {
            fetched.next = None;
        }
        Ok(fetched)
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_listed_as_open_does_not_end() {
    let setup = Setup::new(1);
    let source = SaysClosed {
        stream: setup.stream.clone(),
        said: AtomicBool::new(false),
    };
    let setup = setup.with_source(Arc::new(source));
    setup.put("record", 2);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(2).await, numbered("record", 0..2));
    assert_eq!(reading.notes.of("failed"), ["failed 1 malformed"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_listing_at_the_end_is_repeated() {
    let setup = Setup::new(1);
    setup.stream.split(&setup.shard(0)).unwrap();
    setup.stream.name_children(false);
    setup
        .stream
        .fail_next("ListShards", SourceErrorKind::AccessDenied, 2);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.next().await.end.unwrap().children.len(), 2);
    assert_eq!(reading.notes.of("failed").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_and_a_forgotten_shard_are_told_apart() {
    let setup = Setup::new(1);
    let shard = setup.shard(0);
    setup.stream.split(&shard).unwrap();
    setup.stream.forget(&shard);
    let reading = setup.read_shard(shard.clone(), StartPosition::TrimHorizon, None);
    assert!(matches!(reading.end().await, PollEnd::ShardGone(_)));
    setup.stream.delete();
    let reading = setup.read_shard(shard, StartPosition::TrimHorizon, None);
    assert!(matches!(reading.end().await, PollEnd::StreamGone(_)));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_called_missing_but_listed_is_read_on() {
    let setup = Setup::new(1);
    setup.put("record", 1);
    setup
        .stream
        .fail_next("GetRecords", SourceErrorKind::StreamNotFound, 2);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(1).await, ["record-0"]);
    assert_eq!(reading.notes.of("failed").len(), 2);
}
