//! How records come from Kinesis: answers of `GetRecords` and events of `SubscribeToShard`, decoded straight into batches.
//!
//! The AWS SDK makes, signs and sends requests and tells errors apart; what it does not do is decode records one by one.
//! [`KinesisWire`] is a client protocol of the SDK that hands a whole answer through it, as one [`Envelope`], and
//! [`decode`] makes a batch of that: in CBOR the answer's own bytes with a table of places, in JSON one buffer of decoded
//! payloads. Of a subscription the body is taken before the SDK reads it, and [`Events`] are read from that, frame by frame.

mod answer;
mod cbor;
mod cbor_head;
mod cbor_join;
mod cbor_reader;
mod columns;
mod decode_error;
mod envelope;
mod error_body;
mod events;
mod frame_headers;
mod frames;
#[cfg(feature = "internals")]
pub mod internals;
mod json;
mod json_reader;
mod json_text;
mod json_time;
mod members;
mod negotiation;
mod pool;
mod pooled_body;
mod protocol;
mod request;
#[cfg(test)]
mod tests;
mod unused;

pub(super) use answer::Answer;
use decode_error::DecodeError;
pub(super) use envelope::Envelope;
pub(super) use events::{EventError, Events};
pub(super) use negotiation::Negotiation;
pub(crate) use pool::BufferPool;
pub(super) use pooled_body::PoolBodies;
pub(super) use protocol::KinesisWire;

/// How answers with records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// JSON, with payloads in base64. Every server speaks it.
    #[default]
    Json,
    /// CBOR, with payloads as they are: smaller answers, less work. The Java SDK's default for Kinesis.
    ///
    /// Goes back to JSON by itself, for good and with one line in the log, when the server answers in JSON or refuses.
    /// Some imitations of Kinesis accept CBOR and corrupt payloads without any error (kinesalite); use it with the service
    /// itself.
    Cbor,
}

impl Wire {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    /// What an answer is written in, by its `Content-Type`; one without it counts as JSON.
    pub(super) fn of_answer(content_type: Option<&str>) -> Option<Self> {
        let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
        match essence {
            None | Some("application/json") => Some(Self::Json),
            Some(text) if text.starts_with("application/x-amz-json") => Some(Self::Json),
            Some("application/cbor") => Some(Self::Cbor),
            Some(text) if text.starts_with("application/x-amz-cbor") => Some(Self::Cbor),
            Some(_) => None,
        }
    }
}

/// Decodes an answer of `GetRecords`, or an event of `SubscribeToShard`. What is decoded out of it comes into a buffer from
/// `pool`.
pub(super) fn decode(
    wire: Wire,
    body: bytes::Bytes,
    pool: &BufferPool,
) -> Result<Answer, DecodeError> {
    match wire {
        Wire::Json => json::decode(&body, pool),
        Wire::Cbor => cbor::decode(body),
    }
}
