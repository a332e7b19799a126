//! Which of both ways to write is in use: the one that was asked for, or JSON once a server turned out not to speak CBOR.

use std::sync::atomic::{AtomicU8, Ordering};

use super::Wire;
use crate::retrieval::kinesis::classify::is_known_code;

const JSON: u8 = 0;
/// CBOR is asked for and nothing came back in it yet.
const TRYING_CBOR: u8 = 1;
const CBOR: u8 = 2;

/// Shared by a client and its protocol. Goes from CBOR to JSON once and never back.
#[derive(Debug)]
pub(crate) struct Negotiation(AtomicU8);

impl Negotiation {
    pub(crate) fn new(wire: Wire) -> Self {
        Self(AtomicU8::new(match wire {
            Wire::Json => JSON,
            Wire::Cbor => TRYING_CBOR,
        }))
    }

    /// What the next request is written in.
    pub(crate) fn wire(&self) -> Wire {
        match self.0.load(Ordering::Relaxed) {
            JSON => Wire::Json,
            _ => Wire::Cbor,
        }
    }

    /// A call succeeded, with an answer in this that could be read.
    pub(crate) fn answered(&self, wire: Wire) {
        match wire {
            // The request was in CBOR if this is not yet JSON: nothing leads back.
            Wire::Json => self.fall_back("it answers in JSON", None),
            Wire::Cbor => {
                let (from, to) = (TRYING_CBOR, CBOR);
                let _is_news =
                    self.0
                        .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// A call succeeded, with an answer in this that could not be read.
    pub(crate) fn unreadable(&self, wire: Wire) {
        if wire == Wire::Cbor && self.0.load(Ordering::Relaxed) == TRYING_CBOR {
            self.fall_back("its CBOR cannot be read", None);
        }
    }

    /// A call failed with this status and error code. Before CBOR has worked even once, an error that Kinesis does not have
    /// means that the server could not read the request.
    pub(super) fn failed(&self, status: u16, code: Option<&str>) {
        if self.0.load(Ordering::Relaxed) == TRYING_CBOR && is_refusal(status, code) {
            self.fall_back("it refuses CBOR", Some((status, code.unwrap_or_default())));
        }
    }

    fn fall_back(&self, reason: &str, error: Option<(u16, &str)>) {
        if self.0.swap(JSON, Ordering::Relaxed) != JSON {
            let (status, code) = error.unzip();
            tracing::warn!(
                reason,
                status,
                code,
                "the Kinesis endpoint does not speak CBOR, reading in JSON from now on"
            );
        }
    }
}

fn is_refusal(status: u16, code: Option<&str>) -> bool {
    match code {
        Some("SerializationException" | "UnknownOperationException") => true,
        Some(code) => !is_known_code(code),
        // Not 401, 403, 408, 429, 502, 503, 504: those are said by what stands in front of a server, of any request.
        None => matches!(status, 400 | 404 | 405 | 406 | 415 | 500 | 501),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_json() {
        let negotiation = Negotiation::new(Wire::Json);
        negotiation.answered(Wire::Cbor);
        negotiation.failed(500, None);
        assert_eq!(negotiation.wire(), Wire::Json);
    }

    #[test]
    fn only_what_a_server_without_cbor_says_is_a_refusal() {
        for (status, code, wire) in [
            (400, Some("SerializationException"), Wire::Json),
            (400, Some("UnknownOperationException"), Wire::Json),
            (500, Some("SomethingElse"), Wire::Json),
            (415, None, Wire::Json),
            (500, None, Wire::Json),
            (400, None, Wire::Json),
            (400, Some("ExpiredIteratorException"), Wire::Cbor),
            (400, Some("AccessDeniedException"), Wire::Cbor),
            (400, Some("DryRunOperationException"), Wire::Cbor),
            (500, Some("InternalFailure"), Wire::Cbor),
            (403, None, Wire::Cbor),
            (429, None, Wire::Cbor),
            (503, None, Wire::Cbor),
        ] {
            let negotiation = Negotiation::new(Wire::Cbor);
            negotiation.failed(status, code);
            assert_eq!(negotiation.wire(), wire, "{status} {code:?}");
        }
    }

    #[test]
    fn cbor_that_never_could_be_read_leads_back() {
        let negotiation = Negotiation::new(Wire::Cbor);
        negotiation.unreadable(Wire::Json);
        assert_eq!(negotiation.wire(), Wire::Cbor);
        negotiation.unreadable(Wire::Cbor);
        assert_eq!(negotiation.wire(), Wire::Json);
        let proven = Negotiation::new(Wire::Cbor);
        proven.answered(Wire::Cbor);
        proven.unreadable(Wire::Cbor);
        assert_eq!(proven.wire(), Wire::Cbor);
    }

    #[test]
    fn after_one_answer_in_cbor_an_error_does_not_lead_back() {
        let negotiation = Negotiation::new(Wire::Cbor);
        negotiation.answered(Wire::Cbor);
        negotiation.failed(500, None);
        assert_eq!(negotiation.wire(), Wire::Cbor);
        negotiation.answered(Wire::Json);
        assert_eq!(negotiation.wire(), Wire::Json);
        negotiation.answered(Wire::Cbor);
        assert_eq!(negotiation.wire(), Wire::Json);
    }
}
