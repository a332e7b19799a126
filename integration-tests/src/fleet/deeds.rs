//! What the harness did to the fleet, and when.

use std::sync::{Arc, Mutex, PoisonError};

use super::clock::{At, now};

/// One thing that the harness did or saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) at: At,
    pub(super) what: Did,
}

/// What the harness did or saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Did {
    Started(String),
    Killed(String),
    Terminated(String),
    /// A process ended, with this exit code unless a signal ended it.
    Exited(String, Option<i32>),
    Paused(String),
    Resumed(String),
    OutageBegan,
    OutageEnded,
    /// Everything is at rest and what follows is measured.
    Measure,
    /// What follows is not measured any more.
    Finish,
}

/// The deeds so far. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Deeds(Arc<Mutex<Vec<Deed>>>);

impl Deeds {
    /// Notes a deed that is done now; returns when that is.
    pub(super) fn note(&self, what: Did) -> At {
        let at = now();
        tracing::info!(?what, "harness");
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Deed { at, what });
        at
    }

    pub(super) fn all(&self) -> Vec<Deed> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
