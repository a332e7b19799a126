//! Where the next subscription begins: pure.

use std::time::Duration;

use kcl_checkpoint::SequenceNumber;
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Moment;

use crate::retrieval::error::SourceError;
use crate::retrieval::source::StartPosition;

/// Retention is a day at least, so what is younger than this cannot have been lost.
const HARMLESS_AGE: Duration = Duration::from_secs(3600);

/// Where one shard's subscriptions begin.
#[derive(Debug)]
pub(super) struct Resume {
    start: StartPosition,
    last: Option<LastEvent>,
    /// The service refused to begin at this number: the oldest record is tried instead.
    refused: Option<(SequenceNumber, SourceError)>,
}

#[derive(Debug)]
struct LastEvent {
    at: Moment,
    continuation: SequenceNumber,
    /// How far it lay behind the tip.
    behind: Duration,
}

impl Resume {
    pub(super) fn new(start: StartPosition) -> Self {
        Self {
            start,
            last: None,
            refused: None,
        }
    }

    /// Notes an event. Without a continuation the shard ended, and what came before holds: the end is told again.
    pub(super) fn after(
        &mut self,
        at: Moment,
        continuation: Option<SequenceNumber>,
        behind: Option<Duration>,
    ) {
        if let Some(continuation) = continuation {
            self.last = Some(LastEvent {
                at,
                continuation,
                behind: behind.unwrap_or_default(),
            });
        }
    }

    /// Where to subscribe now.
    pub(super) fn from(&self, now: Moment, came_through: Option<&SequenceNumber>) -> StartPosition {
        match self.refused {
            Some(_) => StartPosition::TrimHorizon,
            None => self.wanted(now, came_through),
        }
    }

    /// Where the next subscription should begin, when this is the last record that came: after what the last event said.
    ///
    /// When what follows may be so old that retention has taken it, *at* the last record instead: only where that is missing
    /// can anybody tell that more may be gone.
    pub(super) fn wanted(
        &self,
        now: Moment,
        came_through: Option<&SequenceNumber>,
    ) -> StartPosition {
        let last = self.last.as_ref();
        let last = last.filter(|_| !mutant::is(Mutant::SubscribeWhereItBegan));
        let Some(last) = last else {
            return self.start.clone();
        };
        let age = now.since(last.at).saturating_add(last.behind);
        match came_through {
            Some(record) if age >= HARMLESS_AGE => StartPosition::AtSequenceNumber(record.clone()),
            _ => StartPosition::AfterSequenceNumber(last.continuation.clone()),
        }
    }

    /// Notes that the service accepted. The number that it had refused before, and how, if the oldest record stands for one.
    pub(super) fn accepted(&mut self) -> Option<(SequenceNumber, SourceError)> {
        self.refused.take()
    }

    /// Notes that the service calls the position invalid. If it was a number, the oldest record is tried next; else the error
    /// comes back.
    pub(super) fn invalid(
        &mut self,
        from: &StartPosition,
        error: SourceError,
    ) -> Option<SourceError> {
        match from {
            StartPosition::AtSequenceNumber(number)
            | StartPosition::AfterSequenceNumber(number) => {
                self.refused = Some((number.clone(), error));
                None
            }
            StartPosition::TrimHorizon | StartPosition::AtTimestamp(_) => {
                self.refused = None;
                Some(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::error::SourceErrorKind;

    fn number(text: &str) -> SequenceNumber {
        SequenceNumber::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_after_the_last_event_or_at_the_last_record_when_more_may_be_gone() {
        let now = kcl_lease::runtime::Runtime::virtual_time(1).now();
        let mut resume = Resume::new(StartPosition::TrimHorizon);
        assert_eq!(resume.from(now, None), StartPosition::TrimHorizon);
        let after = StartPosition::AfterSequenceNumber(number("9"));
        let at = StartPosition::AtSequenceNumber(number("7"));
        let (minute, record) = (Duration::from_secs(60), number("7"));
        resume.after(now, Some(number("9")), Some(minute));
        resume.after(now, None, None);
        assert_eq!(resume.from(now, Some(&record)), after);
        assert_eq!(resume.from(now.plus(HARMLESS_AGE), Some(&record)), at);
        assert_eq!(resume.from(now.plus(HARMLESS_AGE), None), after);
        resume.after(now, Some(number("9")), Some(HARMLESS_AGE));
        assert_eq!(resume.from(now, Some(&record)), at);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_number_that_is_refused_is_replaced_and_only_until_that_fails_too() {
        let now = kcl_lease::runtime::Runtime::virtual_time(1).now();
        let start = StartPosition::AtSequenceNumber(number("5"));
        let mut resume = Resume::new(start.clone());
        let error = || SourceError::new(SourceErrorKind::InvalidArgument, "SubscribeToShard");
        assert!(resume.invalid(&start, error()).is_none());
        let oldest = StartPosition::TrimHorizon;
        assert_eq!(resume.from(now, None), oldest);
        assert_eq!(resume.wanted(now, None), start);
        assert!(resume.invalid(&oldest, error()).is_some());
        assert_eq!(resume.from(now, None), start);
        assert!(resume.invalid(&start, error()).is_none());
        let (refused, _) = resume.accepted().unwrap();
        assert_eq!(refused, number("5"));
        assert!(resume.accepted().is_none());
    }
}
