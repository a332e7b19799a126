//! The decoders by themselves, for fuzzing. No part of the API.

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures_util::FutureExt;

use super::error_body::ErrorBody;
use super::{BufferPool, Events, Wire};
use crate::retrieval::batch::Batch;

/// The records of an answer of `GetRecords`.
///
/// # Errors
/// What is wrong with it.
pub fn records(wire: Wire, body: Bytes) -> Result<Batch, String> {
    match super::decode(wire, body, &BufferPool::default()) {
        Ok(answer) => Ok(answer.batch),
        Err(error) => Err(error.to_string()),
    }
}

/// The records of each event of a subscription that says this, and why there are no more if it ends before its time.
#[must_use]
pub fn events(stream: Bytes) -> (Vec<Batch>, Option<String>) {
    let mut events = Events::new(SdkBody::from(stream), BufferPool::default());
    let mut batches = Vec::new();
    let all = async {
        while events.announced().await?.is_some() {
            batches.push(events.receive().await?.batch);
        }
        Ok(())
    };
    // All of it is there, so that nothing is waited for.
    let end = all.now_or_never();
    let error = end.and_then(|end: Result<(), super::EventError>| end.err());
    (batches, error.map(|error| error.to_string()))
}

/// Code and message of a failed call.
#[must_use]
pub fn error(wire: Wire, body: &[u8]) -> (Option<String>, Option<String>) {
    let error = match wire {
        Wire::Json => ErrorBody::from_json(body),
        Wire::Cbor => ErrorBody::from_cbor(body),
    };
    (error.code, error.message)
}
