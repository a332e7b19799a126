//! How often each caller called each operation.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::{Caller, Service};

/// So many different (caller, operation) pairs are counted; calls beyond are not, so that made-up
/// names cannot exhaust the memory.
const MAX_COUNTERS: usize = 100_000;

/// Who called what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey {
    /// Who called.
    pub caller: Caller,
    /// The service that was called.
    pub service: Service,
    /// The operation, for example `GetRecords`.
    pub operation: String,
}

/// Counts of calls, also of those that were refused or lost by a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<CallKey, u64>);

impl Calls {
    /// Calls of one operation, by all callers.
    #[must_use]
    pub fn of(&self, service: Service, operation: &str) -> u64 {
        self.sum(|key| key.service == service && key.operation == operation)
    }

    /// Calls of one operation by one caller.
    #[must_use]
    pub fn by(&self, caller: &str, service: Service, operation: &str) -> u64 {
        self.sum(|key| {
            key.caller.0 == caller && key.service == service && key.operation == operation
        })
    }

    /// All calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    /// Every count, in the order of caller, service and operation.
    pub fn iter(&self) -> impl Iterator<Item = (&CallKey, u64)> {
        self.0.iter().map(|(key, count)| (key, *count))
    }

    fn sum(&self, wanted: impl Fn(&CallKey) -> bool) -> u64 {
        let counts = self.0.iter();
        counts
            .filter(|(key, _)| wanted(key))
            .map(|(_, count)| count)
            .sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct CallCounters(Mutex<Calls>);

impl CallCounters {
    pub(crate) fn count(&self, key: CallKey) {
        let Calls(counts) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MAX_COUNTERS || counts.contains_key(&key) {
            *counts.entry(key).or_default() += 1;
        }
    }

    pub(crate) fn snapshot(&self) -> Calls {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
