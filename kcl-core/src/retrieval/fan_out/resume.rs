//! Where the next subscription begins: pure.

use std::time::Duration;

use kcl_checkpoint::SequenceNumber;
use kcl_lease::runtime::Moment;

use crate::retrieval::source::StartPosition;

/// Retention is a day at least, so nothing is lost in a break as short as this.
const HARMLESS_BREAK: Duration = Duration::from_secs(3600);

/// Where one shard's subscriptions begin.
#[derive(Debug)]
pub(super) struct Resume {
    start: StartPosition,
    /// What the last event said, and when it came.
    last: Option<(Moment, SequenceNumber)>,
}

impl Resume {
    pub(super) fn new(start: StartPosition) -> Self {
        Self { start, last: None }
    }

    /// Notes an event. Without a continuation the shard ended, and what came before holds: the end is told again.
    pub(super) fn after(&mut self, now: Moment, continuation: Option<SequenceNumber>) {
        if let Some(continuation) = continuation {
            self.last = Some((now, continuation));
        }
    }

    /// Where to subscribe now, when this is the last record that came.
    ///
    /// After what the last event said. After a long break *at* the last record instead: only where it is missing can anybody
    /// tell that what followed it may be gone, too.
    pub(super) fn from(&self, now: Moment, came_through: Option<&SequenceNumber>) -> StartPosition {
        match &self.last {
            None => self.start.clone(),
            Some((at, continuation)) => match came_through {
                Some(record) if now.since(*at) >= HARMLESS_BREAK => {
                    StartPosition::AtSequenceNumber(record.clone())
                }
                _ => StartPosition::AfterSequenceNumber(continuation.clone()),
            },
        }
    }

    /// Begins anew at the oldest record, as the service does not know the number. Returns it; `None` if the next subscription
    /// would not name one.
    pub(super) fn restart_at_trim_horizon(&mut self) -> Option<SequenceNumber> {
        let unknown = match (self.last.take(), &self.start) {
            (Some((_, continuation)), _) => continuation,
            (
                None,
                StartPosition::AtSequenceNumber(number)
                | StartPosition::AfterSequenceNumber(number),
            ) => number.clone(),
            (None, _) => return None,
        };
        self.start = StartPosition::TrimHorizon;
        Some(unknown)
    }
}
