//! Calls to the table that fail: telling it once, telling it again while it lasts, telling that it is over.

use std::time::Duration;

use super::calls::CallError;
use super::driver::Driver;
use super::event::{CoordinatorError, CoordinatorEvent};
use crate::runtime::Moment;

/// Calls must succeed for this long before trouble counts as over.
const HEALED_AFTER: Duration = Duration::from_secs(1);
/// How often lasting trouble is told again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Calls to the table have been failing.
#[derive(Debug)]
pub(super) struct Trouble {
    since: Moment,
    last: Moment,
    told: Moment,
}

impl Trouble {
    fn is_over(&self, now: Moment) -> bool {
        now.since(self.last) >= HEALED_AFTER
    }

    /// Notes a failure; returns for how long there have been failures if that should be told.
    fn heard(trouble: &mut Option<Self>, now: Moment) -> Option<Duration> {
        let Some(known) = trouble else {
            *trouble = Some(Self {
                since: now,
                last: now,
                told: now,
            });
            return Some(Duration::ZERO);
        };
        known.last = now;
        if now.since(known.told) < TOLD_AGAIN_AFTER {
            return None;
        }
        known.told = now;
        Some(now.since(known.since))
    }
}

impl Driver {
    /// Notes whether a call succeeded, and tells when that changes.
    pub(super) fn heard<T>(&mut self, result: &Result<T, CallError>, now: Moment) {
        match result {
            Ok(_) => {
                if self.trouble.as_ref().is_some_and(|t| t.is_over(now)) {
                    self.trouble = None;
                    self.tell(CoordinatorEvent::TableHealed);
                }
            }
            Err(error) if error.is_table_missing() && self.is_cut_off(now) => {
                self.fail(CoordinatorError::TableDeleted);
            }
            Err(error) => {
                let told = Trouble::heard(&mut self.trouble, now);
                if let Some(since) = told {
                    self.tell(CoordinatorEvent::TableTrouble {
                        operation: error.operation(),
                        error: error.reason(),
                        since,
                    });
                }
            }
        }
    }
}
