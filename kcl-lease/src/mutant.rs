//! Rules that a test can switch off, one at a time, to see whether anything notices.
//!
//! Without the feature `mutants` every question is answered with a constant `false` and the compiler removes it. With it
//! the answer belongs to the current thread, so that tests on several threads do not disturb one another: simulation and
//! model use one thread per run.

macro_rules! mutants {
    ($($name:ident, $kind:ident, $text:literal;)*) => {
        /// A rule that can be switched off.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Mutant {
            $(#[doc = $text] $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name on a command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What is wrong with it on.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Which kind of promise it breaks.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }
        }
    };
}

/// Which kind of promise a mutant breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Something wrong is done.
    Safety,
    /// Something right is done late or never.
    Liveness,
    /// Another rule of whole workers covers for it: a second line of defence. Most are caught by the model of the lease
    /// protocol, which leaves those other rules out.
    Redundant,
}

impl Mutant {
    /// What is switched off with it: where two rules cover for one another, one alone shows nothing.
    #[must_use]
    pub fn includes(self) -> &'static [Self] {
        match self {
            Self::OtherParentOvertaken => &[Self::MergeChildEarly, Self::AbsentParentIsDone],
            _ => &[],
        }
    }
}

mutants! {
    CheckpointUnconditional, Safety, "A holder's writes have no condition.";
    CheckpointWithoutCounter, Safety, "A holder's writes are conditioned on the owner only.";
    CheckpointWithoutOwner, Redundant, "A holder's writes are conditioned on the counter only.";
    TakeWithoutCounter, Safety, "A take is conditioned on the owner only.";
    TakeWithoutOwner, Redundant, "A take is conditioned on the counter only.";
    ReleaseWithoutCounter, Safety, "A release or hand-over is conditioned on the owner only.";
    ReleaseWithoutCheckpoint, Safety, "A release or hand-over does not store the final checkpoint.";
    NewRowCounterZero, Redundant, "The counter of a new row starts at 0.";
    DeleteWorkerUnconditional, Safety, "A worker's item is deleted whatever its heartbeat.";
    DeleteFinishedUnconditional, Redundant, "A row is deleted whether or not it is finished.";
    DeleteFinishedEarly, Safety, "The row of a finished shard is deleted before its children moved on.";
    NeverDeleteFinished, Liveness, "The rows of finished shards stay.";
    NeverDeleteWorkers, Liveness, "The items of dead workers stay.";

    RecoverOnOwnerOnly, Safety, "A failed condition counts as a lost answer whenever the row names me.";
    NeverRecover, Liveness, "A lost answer is taken for a lost lease.";
    DeliverWhileReleasing, Redundant, "A grant may be used while it is given away.";
    RecoveredConfirmsNow, Safety, "A recovered answer confirms from the last call's send time.";

    DeadlineIgnored, Safety, "A holder delivers after its own deadline.";
    DeadlineFromAnswer, Safety, "The deadline counts from the answer to a heartbeat.";
    DeadlineFromLastAttempt, Safety, "The deadline of a recovered heartbeat counts from its last attempt.";
    LapseUnnoticed, Safety, "A heartbeat answered after the deadline extends it silently.";
    NoRegrant, Safety, "After a lapse leases are used without a re-grant.";
    GrantAcrossLapse, Redundant, "A grant asked for before a lapse is used after it.";

    NoMargin, Safety, "An owner counts as expired after the lease duration alone.";
    ExpireEarly, Safety, "An owner counts as expired after half the lease duration.";
    OutageCounts, Liveness, "Ages count through an outage of the table.";
    ExpiredOnEventualRead, Safety, "The owner's heartbeat before a take is read eventually consistent.";
    CheckBeforeExpiry, Redundant, "A look at the owner's heartbeat from before it expired is enough for a take.";
    TakeWithoutOwnerCheck, Safety, "The owner's heartbeat is not read again before a take.";
    RowAfterHeartbeat, Safety, "The row may be read after the owner's heartbeat.";
    StartWithoutAccept, Safety, "A worker that a row names starts without the accept write.";
    NeverTakeExpired, Liveness, "The leases of dead workers are not taken.";
    NeverAccept, Liveness, "Leases whose rows name the worker are not accepted.";

    SeekAgain, Safety, "A seek that the row says was applied is applied again.";
    SeekKeepsCheckpoint, Redundant, "A checkpoint that was wanted before a seek is stored after it.";
    ObeyUnfenced, Safety, "That a command is obeyed, or a seek, is written whoever holds the lease.";
    DeliverBeforeOrders, Safety, "A grant delivers before it is known whether its lease is paused.";
    TidyObeyed, Safety, "A command that was obeyed is deleted.";
    DeliverWhilePaused, Safety, "Records of a paused shard are delivered.";
    PauseReportedEarly, Safety, "A pause is reported while a call still runs.";
    NeverRemind, Redundant, "A holder that does not know of a command is not told again.";

    GiveToDraining, Safety, "Leases are given to workers that stop.";
    NeverRebalance, Liveness, "Nobody is advised to give leases to workers that have fewer.";
    NeverHint, Liveness, "No worker is told what the table holds for it.";
    NeverSucceed, Liveness, "A leader that is gone is not followed by another one.";

    MergeChildEarly, Redundant, "A merge's child gets its row although the other parent has none.";
    AbsentParentIsDone, Redundant, "A parent without a row counts as finished.";
    OtherParentOvertaken, Safety, "A merge's child gets its row although the other parent has none, and starts: the two above at once.";
    ChildBeforeParents, Safety, "A child starts before its parents ended.";
    ShardEndBeforeChildren, Safety, "SHARD_END is stored without the children's rows.";

    CheckpointAhead, Safety, "The checkpoint covers what is being processed.";
    SkipFailedBatch, Safety, "A batch that the processor refused is skipped.";
    EndShardEarly, Safety, "Records that come with the news of the shard's end are not delivered.";
    SkipAfterExpiredIterator, Safety, "After an expired iterator one record too many is passed over.";
    TrustSilence, Liveness, "A subscription of which nothing comes is never given up.";
    EventsWithoutRoom, Safety, "Events of subscriptions are received without room for them.";
    SubscribeWhereItBegan, Redundant, "A new subscription begins where the first one did: what comes again is not delivered.";
    DeliverWithoutCheck, Safety, "Records are delivered without a look at the lease.";
    NewTaskBesideOld, Safety, "A new grant's task starts beside the old one of the same shard.";

    PanicCountsAsSuccess, Safety, "A call that panics counts as one that succeeded.";
    NamedRecordCompletes, Safety, "The record that a failure names counts as complete, like those before it.";
    GiveUpAtOnce, Safety, "A record is given up at its first failure, whatever the bounds.";
    GiveUpWithoutSearch, Safety, "All records of a call are given up together, whether or not each of them fails.";
    LetterAfterCheckpoint, Safety, "A record counts as complete before the dead-letter sink accepted it.";
    RefusedLetterCounts, Safety, "A letter that the dead-letter sink refused counts as accepted.";
    ParkedKeyFlows, Safety, "Later records of a parked key are given to the processor.";
    ParkedKeyBackwards, Safety, "Later records of a parked key go to the dead-letter sink in the wrong order.";

    DeferredCounts, Safety, "A record counts as complete as soon as it is deferred.";
    DroppedHandleCounts, Safety, "A handle that is dropped without an answer completes its record.";
    RejectionCounts, Safety, "An answer that says that a record failed completes it.";
    RejectionIgnored, Liveness, "An answer that says that a record failed changes nothing.";
    FailedCallKeepsDeferred, Safety, "The handles that a failed call left stay good, beside the records that come again.";
    AnswerAfterLoss, Safety, "A handle that is answered after the lease is lost completes its record.";
    EndBeforeAnswers, Safety, "A shard ends although deferred records are not complete.";
    InFlightUnbounded, Safety, "Records are delivered however many are in flight.";

    FastestLane, Safety, "The checkpoint follows the lane that is ahead of all others.";
    KeysSpread, Safety, "Records are shared out among lanes whatever their keys.";
}

#[cfg(not(feature = "mutants"))]
mod switch {
    use super::Mutant;

    /// Whether this rule is switched off: never, in a build without the feature `mutants`.
    #[must_use]
    #[inline(always)]
    pub const fn is(_mutant: Mutant) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this rule is switched off on the current thread.
    #[must_use]
    pub fn is(mutant: Mutant) -> bool {
        let active = ACTIVE.get();
        active.is_some_and(|active| active == mutant || active.includes().contains(&mutant))
    }

    /// Switches a rule off on the current thread, and every other one on.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }
}

pub use switch::*;
