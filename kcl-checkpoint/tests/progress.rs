//! The checkpoint rules.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kcl_checkpoint::{Checkpoint, CheckpointRuleError, Position, Progress, SequenceNumber, Step};
use proptest::prelude::*;

fn position(number: u64) -> Position {
    // Ten sub-sequence numbers to each sequence number.
    let sequence_number = SequenceNumber::parse(&(number / 10).to_string()).unwrap();
    Position::new(sequence_number, number % 10)
}

fn at(number: u64) -> Checkpoint {
    Checkpoint::At(position(number))
}

#[test]
fn a_delivered_position_can_be_checkpointed() {
    let mut progress = Progress::new(Checkpoint::TrimHorizon);
    progress.deliver(&position(25));
    assert_eq!(progress.check(&at(25)), Ok(Step::Forward));
    assert_eq!(progress.store(&at(13)), Ok(Step::Forward));
    assert_eq!(progress.check(&at(13)), Ok(Step::Unchanged));
    assert_eq!(progress.last(), &at(13));
}

#[test]
fn a_checkpoint_never_goes_back() {
    let mut progress = Progress::new(at(20));
    progress.deliver(&position(30));
    let error = progress.store(&at(19)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot checkpoint at 1#9: the shard is already checkpointed at 2, which a checkpoint never moves back from"
    );
    assert_eq!(progress.last(), &at(20));
}

#[test]
fn a_record_that_was_not_delivered_cannot_be_checkpointed() {
    let mut progress = Progress::new(Checkpoint::Latest);
    progress.deliver(&position(30));
    let error = progress.check(&at(31)).unwrap_err();
    assert!(
        matches!(error, CheckpointRuleError::NotDelivered { .. }),
        "{error}"
    );
    // A batch that is delivered again does not lower the bound.
    progress.deliver(&position(12));
    assert_eq!(progress.check(&at(30)), Ok(Step::Forward));
}

#[test]
fn shard_end_is_last_and_needs_the_end() {
    let mut progress = Progress::new(at(20));
    progress.deliver(&position(30));
    let early = progress.check(&Checkpoint::ShardEnd).unwrap_err();
    assert!(
        matches!(early, CheckpointRuleError::NotEnded { .. }),
        "{early}"
    );
    progress.reach_end();
    // The end does not widen the bound for positions.
    assert!(progress.check(&at(31)).is_err());
    assert_eq!(progress.store(&at(30)), Ok(Step::Forward));
    assert_eq!(progress.store(&Checkpoint::ShardEnd), Ok(Step::Forward));
    assert_eq!(progress.check(&Checkpoint::ShardEnd), Ok(Step::Unchanged));
    assert!(progress.check(&at(30)).is_err());
    assert_eq!(
        Progress::new(Checkpoint::ShardEnd).check(&Checkpoint::ShardEnd),
        Ok(Step::Unchanged)
    );
}

#[test]
fn a_starting_sentinel_is_no_progress() {
    let mut progress = Progress::new(Checkpoint::TrimHorizon);
    progress.deliver(&position(30));
    let error = progress.check(&Checkpoint::Latest).unwrap_err();
    assert!(
        matches!(error, CheckpointRuleError::StartSentinel { .. }),
        "{error}"
    );
    // Nothing was completed yet: the row keeps what it says.
    assert_eq!(
        progress.check(&Checkpoint::TrimHorizon),
        Ok(Step::Unchanged)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stored_checkpoints_never_go_back_nor_beyond(
        start in 0_u64..50,
        steps in proptest::collection::vec((any::<bool>(), 0_u64..100), 0..60),
    ) {
        let mut progress = Progress::new(at(start));
        let (mut last, mut delivered) = (start, start);
        for (deliver, number) in steps {
            if deliver {
                progress.deliver(&position(number));
                delivered = delivered.max(number);
            } else {
                let accepted = progress.store(&at(number)).is_ok();
                prop_assert_eq!(accepted, last <= number && number <= delivered);
                if accepted {
                    last = number;
                }
            }
            prop_assert_eq!(progress.last(), &at(last));
            prop_assert_eq!(progress.delivered(), &at(delivered));
        }
    }
}
