//! The streams of a running worker: how the shards of each are read, and what has to be done for the streams themselves.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use kcl_lease::{CoordinatorHandle, Grant, StreamIdentity, StreamKey};
use tokio::sync::Notify;

use crate::context::Context;
use crate::error::WorkerError;
use crate::many::{self, Keeper, StreamBook};
use crate::shard_task::{self, Outcome};
use crate::startup::{OpenStream, Startup};
use crate::stream_reading::StreamReading;

/// One stream, or several.
pub(crate) enum Upkeep {
    One(OnlyStream),
    Several(Box<Keeper>, Arc<StreamBook>),
}

/// The application's only stream.
pub(crate) struct OnlyStream {
    pub(crate) reading: Arc<StreamReading>,
    pub(crate) opened: OpenStream,
    pub(crate) listing_wanted: Notify,
}

impl Upkeep {
    /// Looks after the streams as coordination wants it. Ends only with what makes the worker end.
    pub(crate) async fn run(
        &self,
        context: &Context,
        coordinator: &CoordinatorHandle,
    ) -> WorkerError {
        match self {
            Self::Several(keeper, _) => keeper.run().await,
            Self::One(only) => {
                let startup = Startup {
                    stream: &only.reading.name,
                    config: &context.config,
                    source: only.reading.source.as_ref(),
                    coordinator,
                    events: &context.events,
                    runtime: &context.runtime,
                };
                let checked = only.opened.checked;
                startup.keep_listing(&only.listing_wanted, checked).await
            }
        }
    }

    /// The task of a shard that was granted.
    pub(crate) fn shard_task(
        &self,
        context: &Arc<Context>,
        grant: Grant,
    ) -> BoxFuture<'static, Outcome> {
        let context = Arc::clone(context);
        match self {
            Self::One(only) => Box::pin(shard_task::run(context, Arc::clone(&only.reading), grant)),
            Self::Several(_, book) => Box::pin(many::run(context, Arc::clone(book), grant)),
        }
    }

    /// `identity` is what is stored of one of several streams.
    pub(crate) fn listing_wanted(&self, stream: &StreamKey, identity: Option<Box<StreamIdentity>>) {
        match self {
            Self::One(only) => only.listing_wanted.notify_one(),
            Self::Several(keeper, _) => keeper.listing_wanted(stream, identity),
        }
    }

    pub(crate) fn streams_wanted(&self, anew: bool) {
        if let Self::Several(keeper, _) = self {
            keeper.streams_wanted(anew);
        }
    }

    pub(crate) fn removed(&self, stream: StreamKey) {
        if let Self::Several(keeper, _) = self {
            keeper.removed(stream);
        }
    }

    /// What the stream of a worker that ends because it is gone is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::One(only) => only.opened.arn.clone(),
            Self::Several(..) => "one of several".to_owned(),
        }
    }
}
