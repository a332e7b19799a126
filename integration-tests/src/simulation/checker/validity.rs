//! Whether whoever delivers was surely allowed to, by its own writes alone: no other worker has to interfere for a broken
//! rule to show.
//!
//! Needs to know when each write was sent, so runs past the world (through the SDK) are not judged here.

use super::{Checker, LEASE};
use crate::simulation::history::ShardNo;
use crate::simulation::world::Process;

/// The lease duration on a clock that runs too slow by 1 %, in milliseconds of the world.
const DEADLINE: u64 = LEASE * 100 / 99 + 2;
/// A dead worker's item is deleted after ten lease durations, on clocks that run too fast by at most 1 %.
const ITEM_STAYS: u64 = 10 * LEASE * 99 / 100;

/// What a session's own heartbeats allow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Validity {
    /// Its own deadline has passed surely after this moment. Not known before a heartbeat whose send time is known.
    deadline: Option<u64>,
    /// It surely lapsed after this moment: grants that were asked for earlier need a write that was sent later.
    chain_start: u64,
}

impl Validity {
    /// A heartbeat that was sent at `sent` was applied `now`.
    pub(super) fn beat(&mut self, sent: u64, now: u64) {
        if self.deadline.is_some_and(|deadline| deadline < now) {
            self.chain_start = now;
        }
        self.deadline = self.deadline.max(Some(sent + DEADLINE));
    }
}

impl Checker {
    /// V1 and V2, at the moment at which a call begins.
    pub(super) fn judge_validity(&mut self, process: Process, shard: ShardNo) {
        let now = self.now;
        let Some(row) = self.table.rows.get(&shard) else {
            return;
        };
        let owner = row.state.as_ref().and_then(|state| state.owner.as_deref());
        let session = owner.and_then(|owner| self.table.sessions.get(owner));
        // Of a lease that belongs to somebody else T1 speaks.
        let Some(session) = session.filter(|session| session.process == process) else {
            return;
        };
        let (validity, confirmed) = (session.validity, row.confirmed);
        let Some(deadline) = validity.deadline else {
            return;
        };
        if now > deadline {
            let text = format!(
                "process {process} delivers shard {shard} at {now} ms, its deadline was at {deadline} ms at the latest"
            );
            self.violate("V1 deadline", text);
        }
        if confirmed.is_some_and(|sent| sent < validity.chain_start) {
            let text = format!(
                "process {process} delivers shard {shard} by a grant it asked for at {confirmed:?}, it lapsed until {} ms",
                validity.chain_start
            );
            self.violate("V2 re-grant after a lapse", text);
        }
    }

    /// T3: an item of a worker goes by its own hand, or long after it was heard for the last time.
    pub(super) fn judge_item_deleted(&mut self, by: Process, id: &str, heard: Option<u64>) {
        let Some(heard) = heard else {
            return;
        };
        if by != super::NOBODY && heard + ITEM_STAYS > self.now {
            let text = format!("process {by} deleted {id}, whose heartbeat moved at {heard} ms");
            self.violate("T3 no live worker's item deleted", text);
        }
    }
}
