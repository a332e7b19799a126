//! Letting go of what a worker knew of others. The leader forgets what its scans do not find any more; nobody else scans,
//! and meets new workers all the time: leaders, givers, receivers, owners that died.

use super::driver::Driver;
use crate::runtime::Moment;

impl Driver {
    /// Forgets workers that were not heard of for ten lease durations, and what is over by itself. Whoever is met again
    /// starts with no age, so that nobody is taken for dead because of this.
    pub(super) fn forget_the_gone(&mut self, now: Moment) {
        let Some(running) = self.running().filter(|_| !self.leads() && !self.draining) else {
            return;
        };
        let undisturbed = running.session.undisturbed_since();
        for (worker, _) in self.liveness.long_dead(now, undisturbed) {
            self.liveness.forget_worker(&worker);
            self.roster.gone(&worker);
        }
        let long_ago = now.minus(self.options.lease_duration);
        self.view.forget_owners(long_ago);
        self.failed_reads
            .retain(|_, setback| setback.counts(long_ago));
        self.failed_takes
            .retain(|_, setback| setback.counts(long_ago));
        self.wanted.retain(|_, until| now < *until);
        self.not_before.retain(|_, until| now < *until);
    }
}
