//! Striking a worker at its n-th call of the table: it is killed there, or asked to stop.

use super::*;

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// Killed before the call reaches the table.
    KilledBefore,
    /// Killed after the table has carried the call out, before its answer arrives.
    KilledAfter,
    /// Asked to stop, with all the time it needs.
    Stopped,
}

/// A blow against one worker of a fleet, at its n-th call after the strike was armed.
pub(super) struct Strike(Mutex<State>);

struct State {
    blow: Blow,
    /// Calls of the victim that still pass.
    left: u32,
    armed: Option<Instant>,
    struck: Option<Instant>,
    /// What the victim called since the strike was armed.
    calls: Vec<&'static str>,
    /// What everybody did.
    trace: Vec<String>,
}

impl Strike {
    pub(super) fn new(nth: u32, blow: Blow) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            blow,
            left: nth - 1,
            armed: None,
            struck: None,
            calls: Vec::new(),
            trace: Vec::new(),
        })))
    }

    /// From now on calls count.
    pub(super) fn arm(&self) {
        let mut state = self.0.lock().unwrap();
        state.armed.get_or_insert_with(Instant::now);
    }

    /// When the victim was struck, if it made so many calls.
    pub(super) fn struck(&self) -> Option<Instant> {
        self.0.lock().unwrap().struck
    }

    /// The victim's calls since the strike was armed.
    pub(super) fn calls(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().calls.clone()
    }

    /// What all workers called since the strike was armed.
    pub(super) fn trace(&self) -> String {
        self.0.lock().unwrap().trace.join("\n")
    }

    /// Follows a worker's calls. A hint for `receiver` arms the strike.
    pub(super) fn follow(
        self: &Arc<Self>,
        worker: &Worker,
        is_victim: bool,
        receiver: Option<WorkerId>,
    ) {
        let (strike, handle) = (Arc::clone(self), worker.handle.clone());
        worker.path.rule(move |seen| {
            let hint = receiver.as_ref().is_some_and(|id| id.as_str() == seen.key);
            if hint && seen.operation == "write" && handle.worker().as_str() != seen.key {
                strike.arm();
            }
            strike.0.lock().unwrap().act(seen, is_victim, &handle)
        });
    }
}

impl State {
    fn act(&mut self, seen: &Seen, is_victim: bool, handle: &CoordinatorHandle) -> Act {
        let Some(armed) = self.armed else {
            return Act::Pass;
        };
        let (at, worker) = (armed.elapsed().as_millis(), handle.worker());
        let name = worker.as_str().split('/').next().unwrap_or_default();
        let call = format!("{at:>6} ms {name}: {} {}", seen.operation, seen.key);
        self.trace.push(call);
        if is_victim {
            self.calls.push(seen.operation);
        }
        match (is_victim, self.struck) {
            (false, _) => return Act::Pass,
            (true, Some(_)) if self.blow == Blow::Stopped => return Act::Pass,
            (true, Some(_)) => return Act::Swallow,
            (true, None) if self.left > 0 => {
                self.left -= 1;
                return Act::Pass;
            }
            (true, None) => {}
        }
        self.struck = Some(Instant::now());
        self.trace.push(format!("       {:?}", self.blow));
        match self.blow {
            Blow::KilledBefore => Act::Swallow,
            Blow::KilledAfter => Act::LoseAnswer,
            Blow::Stopped => {
                handle.shutdown(Duration::from_secs(25));
                Act::Pass
            }
        }
    }
}

/// The calls at which to strike, and how, given all calls of a run without a blow. A read has no effect that could be
/// there or not; without optimisation only some of the reads are tried.
pub(super) fn kills(calls: &[&'static str]) -> Vec<(u32, Blow)> {
    let mut blows = Vec::new();
    for (nth, operation) in (1..).zip(calls) {
        let is_read = matches!(*operation, "get" | "scan");
        if !is_read || nth % READS_TRIED_EACH == 0 {
            blows.push((nth, Blow::KilledBefore));
        }
        if !is_read {
            blows.push((nth, Blow::KilledAfter));
        }
    }
    blows
}

/// The same for a stop.
pub(super) fn stops(calls: &[&'static str]) -> Vec<(u32, Blow)> {
    let kills = kills(calls).into_iter();
    let before = kills.filter(|(_, blow)| *blow == Blow::KilledBefore);
    before.map(|(nth, _)| (nth, Blow::Stopped)).collect()
}

const READS_TRIED_EACH: u32 = match cfg!(debug_assertions) {
    true => 10,
    false => 1,
};

/// Plays a scenario on a runtime of its own: nothing of it goes on behind the next one.
pub(super) fn play<T>(scenario: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(scenario)
}
