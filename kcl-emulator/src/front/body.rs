//! The body of an answer: all at once, or the events of a subscription as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::ConnectionLost;

/// The body of an answer. Dropping the body of a subscription ends the subscription.
#[derive(Debug)]
pub struct Body(Content);

#[derive(Debug)]
enum Content {
    Full(Option<Bytes>),
    Events(mpsc::Receiver<Result<Bytes, ConnectionLost>>),
}

impl Body {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Content::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    pub(super) fn events(frames: mpsc::Receiver<Result<Bytes, ConnectionLost>>) -> Self {
        Self(Content::Events(frames))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ConnectionLost;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionLost>>> {
        match &mut self.0 {
            Content::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Events(frames) => frames
                .poll_recv(context)
                .map(|frame| frame.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Full(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Content::Events(_) => SizeHint::default(),
        }
    }
}
