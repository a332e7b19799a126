//! From events and their errors to ours.

use kcl_checkpoint::SequenceNumber;

use super::super::classify::{by_code, innermost};
use super::super::fill::malformed;
use super::super::wire::{Answer, EventError};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::subscription::Pushed;

const OPERATION: &str = "SubscribeToShard";

pub(super) fn pushed(event: Answer) -> Result<Pushed, SourceError> {
    // Either says that the shard has ended; some servers leave the number in.
    let continuation = event.next.filter(|number| !number.is_empty());
    let continuation = continuation.filter(|_| event.children.is_empty());
    let continuation = continuation.map(|number| SequenceNumber::parse(&number));
    Ok(Pushed {
        batch: event.batch,
        continuation: continuation
            .transpose()
            .map_err(|invalid| malformed(OPERATION, invalid))?,
        children: event.children,
        behind: event.behind,
    })
}

/// Why the events end. `foreign` is the type of the answer if that is not an event stream's.
pub(super) fn failed(label: &str, foreign: Option<&str>, error: EventError) -> SourceError {
    let kind = match &error {
        EventError::Exception { code, .. } => by_code(code).unwrap_or(SourceErrorKind::Other),
        EventError::Frame(_) | EventError::Event { .. } => SourceErrorKind::Malformed,
        EventError::Cut if foreign.is_some() => SourceErrorKind::Malformed,
        EventError::Cut | EventError::Connection(_) => SourceErrorKind::Unavailable,
    };
    let detail = match (&error, foreign) {
        (EventError::Exception { .. }, _) => error.to_string(),
        (_, Some(foreign)) => format!(
            "an answer of type {foreign} is no event stream: {}",
            innermost(&error)
        ),
        (_, None) => innermost(&error),
    };
    SourceError::new(kind, OPERATION)
        .about(format!("stream {label}"))
        .with_detail(detail)
        .with_source(error)
}
