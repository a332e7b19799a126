//! The task of a shard of one of several streams: finds out how the stream is read, and then works like any other.

use std::sync::Arc;
use std::time::Duration;

use kcl_lease::{Grant, Recall};

use super::book::StreamBook;
use crate::context::Context;
use crate::event::WorkerEvent;
use crate::shard_task::{self, Outcome};
use crate::stream_reading::StreamReading;

/// How often it is tried to read a stream that cannot be read as it is given.
const AGAIN: Duration = Duration::from_secs(60);

/// Runs one shard until it ends, is lost or is drained.
pub(crate) async fn run(context: Arc<Context>, book: Arc<StreamBook>, grant: Grant) -> Outcome {
    // A tracker may take long, and many shards ask one after the other.
    let left = tokio::select! {
        biased;
        stream = find(&context, &book, &grant) => return shard_task::run(context, stream, grant).await,
        _ = grant.lost() => Outcome::Lost,
        recall = grant.recalled() => leave(&grant, recall).await,
    };
    context.board.gone(grant.lease_key());
    left
}

/// Tries until it is known how the stream is read.
async fn find(context: &Context, book: &Arc<StreamBook>, grant: &Grant) -> Arc<StreamReading> {
    let key = grant.lease_key().stream_key();
    loop {
        let error = match book.reading(&key, grant.stream()).await {
            Ok(stream) => return stream,
            Err(error) => error,
        };
        context.events.emit(WorkerEvent::StreamUnavailable {
            stream: grant.stream().stream_arn.clone(),
            error: error.to_string(),
        });
        tokio::time::sleep(AGAIN).await;
    }
}

/// Gives the lease away with the progress that it came with.
async fn leave(grant: &Grant, recall: Recall) -> Outcome {
    while grant.release(None).await.is_err() {
        if grant.loss().is_some() {
            return Outcome::Lost;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    match recall {
        Recall::Rebalance | Recall::StreamRemoved => Outcome::Moved,
        _ => Outcome::Drained,
    }
}
