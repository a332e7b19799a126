//! P10: what the lease table costs at rest.

use super::Checker;

/// Calls to the lease table in a stretch of time in which nothing happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Writes of any kind.
    pub writes: u64,
    /// Reads by key.
    pub reads: u64,
    /// Pages of scans.
    pub scans: u64,
}

/// A heartbeat each third of the lease duration.
const HEARTBEATS_PER_MINUTE: u64 = 18;
/// The leader item, written each second.
const LEADER_PER_MINUTE: u64 = 60;
/// Own inbox, the leader item, the leader's heartbeat and, for leader and deputy, everybody's, each second.
const READS_PER_MINUTE: u64 = 3 * 60;
/// The whole table each 10 s.
const SCANS_PER_MINUTE: u64 = 6;
/// What tidying up after the last faults may still take.
const TIDYING: u64 = 60;

impl Checker {
    /// Judges `calls` of so many minutes of rest. At rest leases cost nothing: only workers and the leader call.
    pub fn judge_cost(&mut self, minutes: u64, pages: u64, calls: Calls) {
        let alive = self.processes.values().filter(|p| p.is_alive()).count() as u64;
        // Leader and deputy look at everybody, each of the workers at most once a second more.
        let watching = READS_PER_MINUTE * alive + 2 * 60 * alive;
        let most = Calls {
            writes: minutes * (HEARTBEATS_PER_MINUTE * alive + LEADER_PER_MINUTE) * 11 / 10
                + TIDYING,
            reads: minutes * watching * 11 / 10 + TIDYING * 4,
            scans: minutes * SCANS_PER_MINUTE * alive * pages * 11 / 10 + TIDYING,
        };
        if calls.writes > most.writes || calls.reads > most.reads || calls.scans > most.scans {
            let text = format!("{minutes} minutes of rest took {calls:?}, allowed are {most:?}");
            self.violate("P10 cost", text);
        }
    }
}
