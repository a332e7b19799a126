//! The decoders by themselves, for fuzzing. No part of the API.

use bytes::Bytes;

use super::Wire;
use super::error_body::ErrorBody;
use crate::retrieval::batch::Batch;

/// The records of an answer of `GetRecords`.
///
/// # Errors
/// What is wrong with it.
pub fn records(wire: Wire, body: Bytes) -> Result<Batch, String> {
    match super::decode(wire, body) {
        Ok(answer) => Ok(answer.batch),
        Err(error) => Err(error.to_string()),
    }
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
