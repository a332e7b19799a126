//! Scripts drawn from a seed: each seed has some kinds of faults, each as strong as it draws.

use std::time::Duration;

use super::{Fault, FaultScript, Rule, draw};
use crate::Service;

/// A kind of fault is in about half of the seeds: faults hide one another when all are always there.
const SHARE_OF_KINDS: f64 = 0.5;
/// At most this share of the requests meets one kind of fault.
const MAX_PROBABILITY: f64 = 0.1;
const MAX_DELAY: Duration = Duration::from_secs(5);

impl FaultScript {
    /// Draws a script: which kinds of faults there are, how often and how strong.
    /// With `until` they stop after so long and all is well again.
    #[must_use]
    pub fn swarm(seed: u64, until: Option<Duration>) -> Self {
        let rules = kinds(seed)
            .into_iter()
            .filter(|(name, _)| draw::fraction(seed, draw::key([*name]), 0) < SHARE_OF_KINDS)
            .map(|(name, mut rule)| {
                let share = draw::fraction(seed, draw::key([name]), 1) * MAX_PROBABILITY;
                rule.until = until;
                rule.named(name).probability(share)
            })
            .collect();
        Self { rules }
    }
}

fn kinds(seed: u64) -> Vec<(&'static str, Rule)> {
    let length = |name| MAX_DELAY.mul_f64(draw::fraction(seed, draw::key([name]), 2));
    let everywhere = [
        ("internal error", Fault::InternalError),
        ("unavailable", Fault::Unavailable),
        ("throttle", Fault::ThroughputExceeded),
        ("lose request", Fault::LoseRequest),
        ("lose answer", Fault::LoseAnswer),
        (
            "delay",
            Fault::Delay {
                by: length("delay"),
            },
        ),
    ];
    let in_service = [
        (
            "late",
            Service::DynamoDb,
            Fault::ApplyLate { by: length("late") },
        ),
        ("stale", Service::DynamoDb, Fault::StaleRead { versions: 2 }),
        ("expired", Service::Kinesis, Fault::ExpiredIterator),
        (
            "cut",
            Service::Kinesis,
            Fault::CutSubscription {
                after: length("cut"),
            },
        ),
    ];
    let everywhere = everywhere
        .into_iter()
        .map(|(name, fault)| (name, Rule::new(fault)));
    let in_service = in_service
        .into_iter()
        .map(|(name, service, fault)| (name, Rule::new(fault).service(service)));
    everywhere.chain(in_service).collect()
}
