//! What it means when the condition of a holder's write failed.
//!
//! Every write of ours adds one to the row's counter, and another worker that had the lease in between needs at least
//! two changes: away and back. So a counter that is one ahead under our own name means that exactly one of our own
//! writes was applied, whose answer we do not know (the *one-bump rule*).

use kcl_checkpoint::Checkpoint;

use crate::grant::LossReason;
use crate::item::Item;
use crate::key::WorkerId;
use crate::lease::{Lease, PendingCheckpoint};
use crate::mutant::{self, Mutant};
use crate::orders::Obeyed;

/// What a holder learns from the row that made its write fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One of the holder's own writes was applied: the lease is still its.
    Mine(Box<Mine>),
    /// The holder's own release or hand-over was applied, or the worker that should get the lease took it meanwhile. This is
    /// the progress that is stored.
    Released(Checkpoint),
    /// The lease is not the holder's any more.
    Lost(LossReason),
}

/// The row of a lease that is still the holder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mine {
    pub(crate) counter: u64,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) pending: Option<PendingCheckpoint>,
    pub(crate) obeyed: Obeyed,
}

/// What the holder sent under the counter whose outcome it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given<'a> {
    /// Nothing that ends its grant.
    No,
    /// A release.
    Up,
    /// A hand-over to this worker.
    To(&'a WorkerId),
}

/// Judges the row `found` that made a write under `counter` by `me` fail. `given` says whether a release or hand-over
/// was sent under this counter.
pub(crate) fn judge(
    found: Option<&Item>,
    me: &WorkerId,
    counter: u64,
    given: Given<'_>,
) -> Verdict {
    let Some(item) = found else {
        return Verdict::Lost(LossReason::RowMissing);
    };
    let Ok(Some(row)) = Lease::from_item(item) else {
        return Verdict::Lost(LossReason::RowUnreadable);
    };
    let one_bump = Some(row.counter) == counter.checked_add(1);
    let recovers =
        (one_bump || mutant::is(Mutant::RecoverOnOwnerOnly)) && !mutant::is(Mutant::NeverRecover);
    match row.owner {
        Some(owner) if one_bump && given == Given::To(&owner) => Verdict::Released(row.checkpoint),
        Some(owner) if owner == *me && recovers => Verdict::Mine(Box::new(Mine {
            counter: row.counter,
            checkpoint: row.checkpoint,
            pending: row.pending,
            obeyed: row.obeyed,
        })),
        None if one_bump && given == Given::Up => Verdict::Released(row.checkpoint),
        _ => Verdict::Lost(LossReason::Taken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Value, attribute};
    use crate::test_support::{lease, lease_item};

    fn row(owner: Option<&str>, counter: u64) -> Item {
        let mut lease = lease("shard-1");
        lease.owner = owner.map(WorkerId::from);
        lease.counter = counter;
        lease_item(&lease)
    }

    #[test]
    fn only_one_bump_under_my_name_is_mine() {
        let me = WorkerId::from("w/1");
        let lost = Verdict::Lost(LossReason::Taken);
        for (owner, counter, mine) in [
            (Some("w/1"), 8, true),
            (Some("w/1"), 9, false),
            (Some("w/1"), 7, false),
            (Some("w/1"), 6, false),
            (Some("w/2"), 8, false),
            (None, 8, false),
        ] {
            let verdict = judge(Some(&row(owner, counter)), &me, 7, Given::No);
            match mine {
                true => assert!(matches!(verdict, Verdict::Mine(mine) if mine.counter == 8)),
                false => assert_eq!(verdict, lost, "{owner:?} {counter}"),
            }
        }
    }

    #[test]
    fn a_row_without_owner_is_released_only_if_a_release_was_sent() {
        let me = WorkerId::from("w/1");
        assert_eq!(
            judge(Some(&row(None, 8)), &me, 7, Given::Up),
            Verdict::Released(lease("shard-1").checkpoint)
        );
        let other = WorkerId::from("w/2");
        for (counter, given) in [
            (8, Given::No),
            (8, Given::To(&other)),
            (9, Given::Up),
            (7, Given::Up),
        ] {
            assert_eq!(
                judge(Some(&row(None, counter)), &me, 7, given),
                Verdict::Lost(LossReason::Taken)
            );
        }
    }

    #[test]
    fn a_row_of_the_next_owner_is_handed_over_only_if_that_was_sent_and_nothing_else_happened() {
        let (me, next) = (WorkerId::from("w/1"), WorkerId::from("w/2"));
        let judge = |owner, counter, given| judge(Some(&row(Some(owner), counter)), &me, 7, given);
        let stored = lease("shard-1").checkpoint;
        assert_eq!(judge("w/2", 8, Given::To(&next)), Verdict::Released(stored));
        let lost = Verdict::Lost(LossReason::Taken);
        assert_eq!(judge("w/2", 8, Given::No), lost);
        assert_eq!(judge("w/2", 8, Given::Up), lost);
        assert_eq!(judge("w/3", 8, Given::To(&next)), lost);
        // Accepted already, or taken away and back: the holder cannot tell.
        assert_eq!(judge("w/2", 9, Given::To(&next)), lost);
    }

    #[test]
    fn a_missing_or_unreadable_row_is_lost() {
        let me = WorkerId::from("w/1");
        assert_eq!(
            judge(None, &me, 7, Given::Up),
            Verdict::Lost(LossReason::RowMissing)
        );
        let mut broken = row(Some("w/1"), 8);
        broken.insert(attribute::COUNTER.to_owned(), Value::text("8"));
        assert_eq!(
            judge(Some(&broken), &me, 7, Given::Up),
            Verdict::Lost(LossReason::RowUnreadable)
        );
        assert_eq!(
            judge(Some(&row(Some("w/1"), 0)), &me, u64::MAX, Given::Up),
            Verdict::Lost(LossReason::Taken)
        );
    }
}
