//! What the policy decides about one request.

use std::time::Duration;

use super::Fault;
use crate::ApiError;

/// How one request fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// How long the request takes to arrive.
    pub delay: Duration,
    /// What becomes of it.
    pub outcome: Outcome,
    /// How many versions back a DynamoDB read that is not strongly consistent looks.
    pub stale_versions: u32,
    /// When the connection of a subscription breaks, counted from its begin.
    pub cut_after: Option<Duration>,
    /// When a subscription falls silent, counted from its begin.
    pub silence_after: Option<Duration>,
}

/// What becomes of a request once it has travelled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Outcome {
    /// It is carried out and answered.
    #[default]
    Proceed,
    /// It is refused with this error.
    Refuse(ApiError),
    /// It is lost; the connection breaks.
    LoseRequest,
    /// It is carried out; the connection breaks.
    LoseAnswer,
    /// It is carried out so much later, whether or not the caller waits; the connection breaks.
    ApplyLate(Duration),
    /// It never arrives and is never answered.
    Hang,
}

impl Plan {
    /// Whether the request can be answered at once, as if there were no faults.
    pub(crate) fn is_immediate(&self) -> bool {
        self.delay.is_zero() && !matches!(self.outcome, Outcome::ApplyLate(_) | Outcome::Hang)
    }

    /// Adds one more fault; of several outcomes the first one counts.
    pub(super) fn add(&mut self, fault: &Fault, denial: impl FnOnce() -> ApiError) {
        match fault {
            Fault::Delay { by } => self.delay = self.delay.saturating_add(*by),
            Fault::StaleRead { versions } => {
                self.stale_versions = self.stale_versions.max(*versions);
            }
            Fault::CutSubscription { after } => {
                self.cut_after.get_or_insert(*after);
            }
            Fault::SilenceSubscription { after } => {
                self.silence_after.get_or_insert(*after);
            }
            Fault::LoseRequest => self.settle(Outcome::LoseRequest),
            Fault::LoseAnswer => self.settle(Outcome::LoseAnswer),
            Fault::ApplyLate { by } => self.settle(Outcome::ApplyLate(*by)),
            Fault::Hang | Fault::Disconnect => self.settle(Outcome::Hang),
            Fault::Deny => self.settle(Outcome::Refuse(denial())),
            Fault::InternalError => self.refuse(500, "InternalFailure", INTERNAL),
            Fault::Throttle => self.refuse(400, "ThrottlingException", "Rate exceeded"),
            Fault::Unavailable => self.refuse(503, "ServiceUnavailable", UNAVAILABLE),
            Fault::ThroughputExceeded => {
                self.refuse(400, "ProvisionedThroughputExceededException", THROUGHPUT);
            }
            Fault::ExpiredIterator => self.refuse(400, "ExpiredIteratorException", EXPIRED),
            Fault::Error {
                status,
                code,
                message,
            } => self.refuse(*status, code, message),
        }
    }

    fn refuse(&mut self, status: u16, code: &str, message: &str) {
        self.settle(Outcome::Refuse(ApiError::with_status(
            status, code, message,
        )));
    }

    fn settle(&mut self, outcome: Outcome) {
        if self.outcome == Outcome::Proceed {
            self.outcome = outcome;
        }
    }
}

const INTERNAL: &str = "The request processing has failed because of an unknown error.";
const UNAVAILABLE: &str = "The request has failed due to a temporary failure of the server.";
const THROUGHPUT: &str = "Rate exceeded for the request.";
const EXPIRED: &str = "Iterator expired. Get a new iterator with GetShardIterator.";
