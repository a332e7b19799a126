//! Swarms that press on one spot: some bugs need several rare things within seconds.
//!
//! Each mutant that the ordinary swarm seldom notices has one, and one in four seeds of the ordinary swarm draws one too:
//! what shows a broken rule fastest is also where a real bug is most likely to show.

use kcl_lease::mutant::Mutant;

use super::draw::{between, fraction};
use super::practice::Habit;
use crate::reading::Reading;

/// This share of the ordinary seeds presses on some spot.
const SHARE_OF_SEEDS: f64 = 0.25;

/// The only faults of a run, and how often they happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Focus {
    /// Its name on a command line.
    pub name: &'static str,
    /// Kinds of faults, each with the mean time between two in seconds.
    pub kinds: &'static [(&'static str, u64)],
    /// Trouble with requests, each with the share of requests that meets it.
    pub weather: &'static [(&'static str, f64)],
    /// What the application does, and records and calls that fail for it; what the seed draws if there is none.
    pub habits: &'static [Habit],
}

impl Focus {
    /// The mean time between two faults of this kind in seconds, if it has them.
    #[must_use]
    pub fn mean_of(&self, kind: &str) -> Option<u64> {
        let found = self.kinds.iter().find(|(name, _)| *name == kind);
        found.map(|(_, mean)| *mean)
    }

    /// The largest share of requests that meets this trouble, if it has it.
    #[must_use]
    pub fn share_of(&self, trouble: &str) -> Option<f64> {
        let found = self.weather.iter().find(|(name, _)| *name == trouble);
        found.map(|(_, share)| *share)
    }
}

/// All that seeds draw, however they read.
pub const ALL: &[Focus] = &[
    Focus {
        name: "slow-table",
        kinds: &[("cut off from the table", 20), ("pause of a lease", 60)],
        weather: &[("slow table", 0.6), ("very slow table", 0.15)],
        habits: &[],
    },
    Focus {
        name: "lost-answers",
        kinds: &[("cut off from the table", 20), ("kill", 90)],
        weather: &[("answers lost", 0.5), ("late writes", 0.2)],
        habits: &[],
    },
    Focus {
        name: "revivals",
        kinds: &[("pause of a lease", 15)],
        weather: &[("slow table", 0.8)],
        habits: &[],
    },
    Focus {
        name: "long-pauses",
        kinds: &[("pause of an item's life", 60)],
        weather: &[("slow table", 0.8), ("very slow table", 0.1)],
        habits: &[],
    },
    Focus {
        name: "stale-reads",
        kinds: &[("kill", 60), ("pause of a lease", 60), ("restart", 60)],
        weather: &[("stale reads", 1.0)],
        habits: &[],
    },
    Focus {
        name: "outages",
        kinds: &[("outage", 75)],
        weather: &[],
        habits: &[],
    },
    Focus {
        name: "to-and-fro",
        kinds: &[("join", 12), ("leave", 12), ("cut off from the table", 30)],
        weather: &[("late writes", 0.4), ("answers lost", 0.2)],
        habits: &[],
    },
    Focus {
        name: "deaf",
        kinds: &[("deaf", 15)],
        weather: &[("slow table", 0.5)],
        habits: &[],
    },
    Focus {
        name: "stuck-rows",
        kinds: &[("pause of a lease", 20), ("row stuck", 6)],
        weather: &[],
        habits: &[],
    },
    Focus {
        name: "rolling",
        kinds: &[("restart", 10), ("join", 30), ("leave", 30)],
        weather: &[],
        habits: &[],
    },
    Focus {
        name: "resharding",
        kinds: &[
            ("split", 15),
            ("merge", 15),
            ("kill", 120),
            ("restart", 120),
        ],
        weather: &[("slow table", 0.3)],
        habits: &[],
    },
    Focus {
        name: "failures",
        kinds: &[("kill", 120)],
        weather: &[],
        habits: &[Habit::DeadLetters, Habit::Naming],
    },
    Focus {
        name: "parking",
        kinds: &[("kill", 300)],
        weather: &[],
        habits: &[Habit::Parking],
    },
    Focus {
        name: "skipping",
        kinds: &[("restart", 120)],
        weather: &[],
        habits: &[Habit::Skipping],
    },
    Focus {
        name: "answers",
        kinds: &[("restart", 60), ("kill", 120), ("pause of a lease", 120)],
        weather: &[],
        habits: &[Habit::Deferring],
    },
    Focus {
        name: "answers-at-the-end",
        kinds: &[("split", 30), ("merge", 30)],
        weather: &[],
        habits: &[Habit::Deferring, Habit::Lanes],
    },
    Focus {
        name: "lanes",
        kinds: &[("kill", 120), ("split", 120)],
        weather: &[],
        habits: &[Habit::Lanes],
    },
    Focus {
        name: "orders",
        kinds: &[
            ("paused by an operator", 25),
            ("resumed by an operator", 15),
            ("moved by an operator", 25),
            ("pause of a lease", 60),
            ("kill", 120),
            ("restart", 120),
        ],
        weather: &[("answers lost", 0.3), ("requests lost", 0.15)],
        habits: &[],
    },
];

/// What befalls subscriptions, and what makes new ones: for whoever reads by enhanced fan-out.
pub const SUBSCRIPTIONS: Focus = Focus {
    name: "subscriptions",
    kinds: &[
        ("subscriptions silent", 100),
        ("subscriptions cut", 150),
        ("consumer removed", 600),
        ("split", 300),
        ("restart", 400),
    ],
    weather: &[],
    habits: &[],
};
/// This share of the seeds presses on subscriptions where there are any.
const SHARE_OF_SUBSCRIPTIONS: f64 = 0.2;

/// The one under which a mutant is looked for, if it needs one.
#[must_use]
pub fn of(mutant: Mutant) -> Option<&'static Focus> {
    let name = match mutant {
        Mutant::DeadlineFromAnswer | Mutant::GrantAcrossLapse => "slow-table",
        Mutant::RecoveredConfirmsNow => "deaf",
        Mutant::RecoverOnOwnerOnly => "stuck-rows",
        Mutant::DeadlineFromLastAttempt => "lost-answers",
        Mutant::RowAfterHeartbeat => "revivals",
        Mutant::DeleteWorkerUnconditional => "long-pauses",
        Mutant::ExpiredOnEventualRead => "stale-reads",
        Mutant::OutageCounts => "outages",
        Mutant::ReleaseWithoutCounter => "to-and-fro",
        Mutant::GiveToDraining => "rolling",
        Mutant::TrustSilence | Mutant::SubscribeWhereItBegan => "subscriptions",
        Mutant::OtherParentOvertaken
        | Mutant::MergeChildEarly
        | Mutant::AbsentParentIsDone
        | Mutant::EndShardEarly
        | Mutant::ShardEndBeforeChildren => "resharding",
        Mutant::NamedRecordCompletes
        | Mutant::GiveUpAtOnce
        | Mutant::GiveUpWithoutSearch
        | Mutant::LetterAfterCheckpoint
        | Mutant::RefusedLetterCounts => "failures",
        Mutant::ParkedKeyFlows | Mutant::ParkedKeyBackwards => "parking",
        Mutant::DeferredCounts
        | Mutant::DroppedHandleCounts
        | Mutant::RejectionCounts
        | Mutant::RejectionIgnored
        | Mutant::FailedCallKeepsDeferred
        | Mutant::AnswerAfterLoss
        | Mutant::InFlightUnbounded => "answers",
        Mutant::SeekAgain
        | Mutant::SeekKeepsCheckpoint
        | Mutant::ObeyUnfenced
        | Mutant::DeliverBeforeOrders
        | Mutant::TidyObeyed
        | Mutant::DeliverWhilePaused
        | Mutant::PauseReportedEarly
        | Mutant::NeverRemind => "orders",
        Mutant::EndBeforeAnswers => "answers-at-the-end",
        Mutant::PanicCountsAsSuccess | Mutant::FastestLane | Mutant::KeysSpread => "lanes",
        _ => return None,
    };
    named(name)
}

fn all() -> impl Iterator<Item = &'static Focus> {
    ALL.iter().chain([&SUBSCRIPTIONS])
}

/// The one with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Focus> {
    all().find(|focus| focus.name == name)
}

/// The one that an ordinary seed draws, if it draws one.
#[must_use]
pub fn drawn(seed: u64, reading: Reading) -> Option<&'static Focus> {
    if reading.subscribes() && fraction(seed, "subscriptions", 0) < SHARE_OF_SUBSCRIPTIONS {
        return Some(&SUBSCRIPTIONS);
    }
    let which = between(seed, "focus", 1, 0..ALL.len() as u64);
    let drawn = fraction(seed, "focus", 0) < SHARE_OF_SEEDS;
    ALL.get(usize::try_from(which).ok()?).filter(|_| drawn)
}

/// Reads a name.
///
/// # Errors
/// When there is none of that name; the message lists all.
pub fn parse(name: &str) -> Result<&'static Focus, String> {
    named(name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|focus| focus.name).collect();
        format!("there is no such focus; use one of {}", names.join(", "))
    })
}
