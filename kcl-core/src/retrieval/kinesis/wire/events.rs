//! The events of a subscription, read from the body of its answer: how large the next one is, before it comes, and what it says.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::Body;

use super::answer::Answer;
use super::decode_error::DecodeError;
use super::error_body::ErrorBody;
use super::frame_headers::{Content, Kind};
use super::frames::{FrameError, Frames, Head};
use super::pool::{BufferPool, Lent, Stay};
use super::{Negotiation, Wire, decode};

/// An event without records is smaller than this. So small ones are looked into before there is room for them, so that nothing
/// waits for room that takes none; a frame of HTTP/2, which comes as a whole, is larger.
const SMALL: usize = 4 << 10;
/// How much is made room for before anything came.
const MOST_AT_ONCE: usize = 2 << 20;
/// What an error may take to say why.
const LARGEST_EXCEPTION: usize = 64 << 10;

/// Why no more events come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    /// What came is no event stream, or a damaged one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An event that cannot be understood.
    #[error("{error}{}", of_type(.foreign.as_deref()))]
    Event {
        /// What is wrong with it.
        error: DecodeError,
        /// Its type, if that is none of Kinesis.
        foreign: Option<String>,
    },
    /// What the service says.
    #[error("{}", .message.as_deref().unwrap_or(.code))]
    Exception {
        /// As of a call that fails.
        code: String,
        /// Why.
        message: Option<String>,
    },
    /// The body ended, but not the event.
    #[error("the subscription ended within an event")]
    Cut,
    /// The connection broke.
    #[error("the connection of the subscription broke")]
    Connection(#[source] BoxError),
}

fn of_type(foreign: Option<&str>) -> String {
    foreign
        .map(|foreign| format!(", which is of type {foreign}"))
        .unwrap_or_default()
}

/// Reads the events of one subscription. After an error nothing comes.
pub(crate) struct Events {
    body: SdkBody,
    pool: BufferPool,
    negotiation: Option<Arc<Negotiation>>,
    frames: Frames,
    /// Of the frame that is not read to its end.
    head: Option<Head>,
    /// What came of its payload, if that is wanted.
    buffer: Option<Lent>,
    /// An event that was looked into.
    event: Option<Answer>,
}

/// Without payloads.
impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// What an event takes at most once it is decoded.
pub(super) fn most_memory(wire: Wire, payload: usize) -> u64 {
    let payload = payload as u64;
    match wire {
        // No base64, and a record's names are longer than its place in the tables.
        Wire::Json => payload,
        // All of it stays, and the tables are beside it: of the smallest records they take a little more.
        Wire::Cbor => payload.saturating_mul(17) / 8,
    }
}

impl Events {
    /// The events in the body of an answer.
    pub(crate) fn new(body: SdkBody, pool: BufferPool) -> Self {
        Self {
            body,
            pool,
            negotiation: None,
            frames: Frames::default(),
            head: None,
            buffer: None,
            event: None,
        }
    }

    /// Tells in what events came, and whether they could be read.
    pub(crate) fn telling(mut self, negotiation: &Arc<Negotiation>) -> Self {
        self.negotiation = Some(Arc::clone(negotiation));
        self
    }

    /// Whether a part of a frame came.
    pub(crate) fn is_within(&self) -> bool {
        self.frames.is_within()
    }

    /// Waits until something begins to come, or all is over.
    ///
    /// Safe to drop and to call again, as everything here.
    pub(crate) async fn begun(&mut self) -> Result<(), EventError> {
        let begun = self.next_head().await.map(drop);
        self.ended_by(begun)
    }

    /// Waits for an event, and returns about how many bytes it takes. `None`: there are no more.
    pub(crate) async fn announced(&mut self) -> Result<Option<u64>, EventError> {
        let announced = self.next_event().await;
        self.ended_by(announced)
    }

    /// Receives the event that was announced, or the next one.
    pub(crate) async fn receive(&mut self) -> Result<Answer, EventError> {
        let received = self.next_answer().await;
        self.ended_by(received)
    }

    fn ended_by<T>(&mut self, outcome: Result<T, EventError>) -> Result<T, EventError> {
        if outcome.is_err() {
            *self = Self::new(SdkBody::empty(), self.pool.clone());
        }
        outcome
    }

    async fn next_answer(&mut self) -> Result<Answer, EventError> {
        if self.next_event().await?.is_none() {
            return Err(EventError::Cut);
        }
        match self.event.take() {
            Some(event) => Ok(event),
            None => self.read_event().await,
        }
    }

    async fn next_event(&mut self) -> Result<Option<u64>, EventError> {
        loop {
            if let Some(event) = &self.event {
                return Ok(Some(event.batch.resident_bytes()));
            }
            let Some(head) = self.next_head().await? else {
                return Ok(None);
            };
            match &head.kind {
                Kind::Event if head.payload > SMALL => {
                    return Ok(Some(most_memory(head.content.wire, head.payload)));
                }
                Kind::Event => self.event = Some(self.read_event().await?),
                Kind::Other => self.pass().await?,
                Kind::Exception { code, message } => {
                    let (code, message) = (code.clone(), message.clone());
                    return Err(self.read_exception(code, message).await?);
                }
            }
        }
    }

    /// What the next frame is, or the one that was begun. `None`: there is none.
    async fn next_head(&mut self) -> Result<Option<&Head>, EventError> {
        while self.head.is_none() {
            self.head = self.frames.head()?;
            if self.head.is_none() && !self.more().await? {
                return match self.frames.is_within() {
                    true => Err(EventError::Cut),
                    false => Ok(None),
                };
            }
        }
        Ok(self.head.as_ref())
    }

    async fn read_event(&mut self) -> Result<Answer, EventError> {
        let (payload, Content { wire, foreign }) = self.read_payload().await?;
        let event = decode(wire, payload, &self.pool);
        if let Some(negotiation) = &self.negotiation {
            match &event {
                Ok(_) => negotiation.answered(wire),
                Err(_) => negotiation.unreadable(wire),
            }
        }
        event.map_err(|error| EventError::Event { error, foreign })
    }

    async fn read_exception(
        &mut self,
        code: String,
        message: Option<String>,
    ) -> Result<EventError, EventError> {
        let len = self.head.as_ref().map_or(0, |head| head.payload);
        if message.is_some() || len > LARGEST_EXCEPTION {
            // Whether it is true is known at its end.
            self.pass().await?;
            return Ok(EventError::Exception { code, message });
        }
        let (payload, content) = self.read_payload().await?;
        let ErrorBody { message, .. } = match content.wire {
            Wire::Json => ErrorBody::from_json(&payload),
            Wire::Cbor => ErrorBody::from_cbor(&payload),
        };
        Ok(EventError::Exception { code, message })
    }

    /// The payload of the frame that was begun, and what it is written in.
    async fn read_payload(&mut self) -> Result<(Bytes, Content), EventError> {
        // There is one, so this is a matter of form.
        let head = self.head.as_ref().ok_or(EventError::Cut)?;
        let (content, len) = (head.content.clone(), head.payload);
        // As of `GetRecords`: records in CBOR stay in the body, those in JSON are decoded out of it.
        let stay = match content.wire {
            Wire::Cbor => Stay::Long,
            Wire::Json => Stay::Short,
        };
        loop {
            let pool = &self.pool;
            let buffer = self
                .buffer
                .get_or_insert_with(|| pool.take(len.min(MOST_AT_ONCE), stay));
            if self.frames.payload(|bytes| buffer.append(bytes))? {
                self.head = None;
                let buffer = self.buffer.take();
                let whole = buffer.map_or_else(Bytes::new, |buffer| buffer.into_bytes(stay));
                return Ok((whole, content));
            }
            self.more_of_frame().await?;
        }
    }

    /// Passes over a frame, without keeping anything of it.
    async fn pass(&mut self) -> Result<(), EventError> {
        while !self.frames.payload(|_| ())? {
            self.more_of_frame().await?;
        }
        self.head = None;
        Ok(())
    }

    async fn more_of_frame(&mut self) -> Result<(), EventError> {
        match self.more().await? {
            true => Ok(()),
            false => Err(EventError::Cut),
        }
    }

    /// Whether more came, or all is over.
    async fn more(&mut self) -> Result<bool, EventError> {
        loop {
            let body = &mut self.body;
            let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            match frame.await {
                None => return Ok(false),
                Some(Err(error)) => return Err(EventError::Connection(error)),
                Some(Ok(frame)) => {
                    // Trailers say nothing that is used.
                    if let Ok(data) = frame.into_data() {
                        self.frames.push(data);
                        return Ok(true);
                    }
                }
            }
        }
    }
}
