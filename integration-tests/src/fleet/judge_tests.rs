//! Made-up histories in which each promise is kept, and in which it is broken.

use super::*;
use crate::fleet::deeds::Deed;
use crate::fleet::history::Put;
use crate::fleet::table_watch::Row;

/// A made-up history, told in milliseconds.
#[derive(Default)]
struct Tale(History);

fn ms(milliseconds: u64) -> At {
    Duration::from_millis(milliseconds)
}

impl Tale {
    /// A record of the shard's only key arrives; its sequence number is its own number.
    fn put(mut self, at: u64, shard: &str, number: u64) -> Self {
        self.0.put.push(Put {
            at: ms(at),
            shard: shard.to_owned(),
            sequence: number.to_string(),
        });
        self
    }

    fn told(mut self, at: u64, worker: &str, what: What) -> Self {
        self.0.told.push(Told {
            at: ms(at),
            worker: worker.to_owned(),
            what,
        });
        self
    }

    fn delivered(self, at: u64, worker: &str, epoch: u64, shard: &str, number: u64) -> Self {
        let record = RecordLine {
            shard: shard.to_owned(),
            epoch,
            sequence: number.to_string(),
            key: format!("key of {shard}"),
            number,
        };
        self.told(at, worker, What::Record(record))
    }

    fn started(self, at: u64, worker: &str, epoch: u64, shard: &str, checkpoint: &str) -> Self {
        let what = What::Started {
            shard: shard.to_owned(),
            epoch,
            checkpoint: checkpoint.to_owned(),
        };
        self.told(at, worker, what)
    }

    fn checkpointed(self, at: u64, worker: &str, epoch: u64, shard: &str, stored: &str) -> Self {
        let what = What::Checkpointed {
            shard: shard.to_owned(),
            epoch,
            checkpoint: stored.to_owned(),
        };
        self.told(at, worker, what)
    }

    fn ended(self, at: u64, worker: &str, shard: &str) -> Self {
        let shard = shard.to_owned();
        self.told(at, worker, What::ShardEnded { shard })
    }

    fn row(mut self, at: u64, shard: &str, owner: &str, checkpoint: &str) -> Self {
        let row = Row {
            sub_sequence_number: 0,
            owner: (!owner.is_empty()).then(|| owner.to_owned()),
            checkpoint: checkpoint.to_owned(),
            counter: at,
        };
        self.0.rows.push(RowSeen {
            at: ms(at),
            shard: shard.to_owned(),
            row: Some(row),
        });
        self
    }

    fn did(mut self, at: u64, what: Did) -> Self {
        self.0.deeds.push(Deed { at: ms(at), what });
        self
    }
}

fn two_put() -> Tale {
    Tale::default().put(0, "s", 1).put(10, "s", 2)
}

#[test]
fn whole_and_ordered_deliveries_have_no_fault() {
    let tale = two_put()
        .delivered(100, "a", 1, "s", 1)
        .delivered(200, "a", 1, "s", 2);
    let clean = Deliveries {
        put: 2,
        ..Deliveries::default()
    };
    assert_eq!(deliveries(&tale.0), clean);
}

#[test]
fn missing_doubled_and_unknown_records_are_counted() {
    let tale = two_put()
        .delivered(100, "a", 1, "s", 1)
        .delivered(200, "b", 2, "s", 1)
        .delivered(300, "b", 2, "s", 7);
    let figures = deliveries(&tale.0);
    assert_eq!(
        (figures.missing, figures.duplicates, figures.unknown),
        (1, 1, 1)
    );
    assert_eq!(figures.out_of_order, 0, "a new grant may step back");
}

#[test]
fn a_late_first_delivery_is_out_of_order() {
    let other_grant = two_put()
        .delivered(100, "a", 1, "s", 2)
        .delivered(200, "b", 2, "s", 1);
    assert_eq!(deliveries(&other_grant.0).out_of_order, 1);
}

#[test]
fn a_step_back_within_a_grant_is_out_of_order() {
    let same_grant = two_put()
        .delivered(100, "a", 1, "s", 1)
        .delivered(200, "a", 1, "s", 2)
        .delivered(300, "a", 1, "s", 1);
    let figures = deliveries(&same_grant.0);
    assert_eq!((figures.out_of_order, figures.duplicates), (1, 1));
}

#[test]
fn a_pause_is_counted_from_when_a_record_was_waiting() {
    // The first move waits from the last delivery on, the second only from the arrival of the record.
    let tale = two_put()
        .put(5000, "s", 3)
        .delivered(100, "a", 1, "s", 1)
        .delivered(1600, "b", 2, "s", 2)
        .delivered(5250, "c", 3, "s", 3);
    let lengths: Vec<Duration> = pauses(&tale.0, ms(0), ms(9000))
        .into_iter()
        .map(|pause| pause.length)
        .collect();
    assert_eq!(lengths, [ms(1500), ms(250)]);
    assert_eq!(pauses(&tale.0, ms(5000), ms(9000)).len(), 1);
    assert_eq!(longest_silence(&tale.0, ms(0), ms(9000)), ms(1500));
}

#[test]
fn percentiles_take_the_nearest_rank() {
    let values: Vec<Duration> = (1..=100).map(ms).collect();
    assert_eq!(percentile(values.clone(), 99), Some(ms(99)));
    assert_eq!(percentile(values, 50), Some(ms(50)));
    assert_eq!(percentile(vec![ms(3), ms(9)], 99), Some(ms(9)));
    assert_eq!(percentile(Vec::new(), 99), None);
}

#[test]
fn a_takeover_ends_with_the_first_delivery_of_somebody_else() {
    let tale = Tale::default()
        .row(0, "s", "a", "1")
        .row(0, "t", "a", "1")
        .row(0, "u", "b", "1")
        .row(0, "done", "a", "SHARD_END")
        .delivered(1005, "a", 1, "s", 1)
        .delivered(9000, "b", 2, "s", 2)
        .delivered(9900, "b", 2, "s", 3);
    let taken = takeovers(&tale.0, "a", ms(1000));
    let expected = [("s", Some(ms(8000))), ("t", None)];
    let expected = expected.map(|(shard, taken)| (shard.to_owned(), taken));
    assert_eq!(taken, BTreeMap::from(expected));
}

#[test]
fn a_shard_that_stays_silent_after_an_outage_is_told() {
    let tale = Tale::default()
        .put(2000, "s", 1)
        .put(2000, "t", 1)
        .delivered(900, "a", 1, "t", 1)
        .delivered(2500, "a", 1, "s", 1);
    let resumed = resumed_after(&tale.0, ms(1000));
    assert_eq!(resumed.get("s"), Some(&Some(ms(1500))));
    assert_eq!(resumed.get("t"), Some(&None));
}

#[test]
fn a_move_is_a_change_of_owner_also_through_a_release() {
    let tale = Tale::default()
        .row(0, "s", "a", "1")
        .row(10, "s", "a", "2")
        .row(20, "s", "", "3")
        .row(30, "s", "b", "3")
        .row(40, "s", "a", "3");
    assert_eq!(moves(&tale.0, ms(0), ms(100)), 2);
    assert_eq!(moves(&tale.0, ms(0), ms(40)), 1);
}

#[test]
fn a_lease_given_to_a_leaving_worker_is_counted_but_not_one_under_way() {
    let tale = Tale::default()
        .row(0, "s", "a", "1")
        .row(0, "t", "b", "1")
        .did(1000, Did::Terminated("b".to_owned()))
        .row(1200, "s", "b", "1")
        .row(2000, "t", "b", "2");
    assert_eq!(gifts_to_the_leaving(&tale.0), 0);
    let tale = tale.row(2500, "s", "a", "2").row(3000, "s", "b", "2");
    assert_eq!(gifts_to_the_leaving(&tale.0), 1);
    let dead = Tale::default()
        .did(0, Did::Killed("b".to_owned()))
        .row(900, "s", "b", "1");
    assert_eq!(gifts_to_the_leaving(&dead.0), 1);
}

#[test]
fn an_exit_is_timed_from_the_signal() {
    let tale = Tale::default()
        .did(1000, Did::Terminated("a".to_owned()))
        .did(1500, Did::Exited("b".to_owned(), None))
        .did(1700, Did::Exited("a".to_owned(), Some(3)));
    assert_eq!(exits(&tale.0), [("a".to_owned(), ms(700), Some(3))]);
}

#[test]
fn a_child_waits_for_its_last_parent() {
    let parents = |child: &str, parents: &[&str]| {
        let parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
        (child.to_owned(), parents)
    };
    let family = BTreeMap::from([parents("c", &["p", "q"]), parents("d", &["p"])]);
    let tale = Tale::default()
        .ended(1000, "a", "p")
        .ended(3000, "b", "q")
        .started(3400, "b", 1, "c", "TRIM_HORIZON");
    let starts = child_starts(&tale.0, &family);
    assert_eq!(starts.get("c"), Some(&Some(ms(400))));
    assert_eq!(starts.get("d"), Some(&None));
}

#[test]
fn a_checkpoint_that_goes_back_is_stale() {
    let tale = Tale::default()
        .row(0, "s", "a", "TRIM_HORIZON")
        .row(10, "s", "a", "9")
        .row(20, "s", "b", "10");
    assert_eq!(stale_checkpoints(&tale.0), 0);
    assert_eq!(stale_checkpoints(&tale.row(30, "s", "b", "9").0), 1);
}

#[test]
fn a_checkpoint_of_an_old_grant_is_stale_unless_it_was_there_before() {
    let tale = Tale::default()
        .started(0, "a", 1, "s", "TRIM_HORIZON")
        .started(20, "b", 2, "s", "10")
        .checkpointed(30, "a", 1, "s", "10")
        .checkpointed(40, "b", 2, "s", "12");
    assert_eq!(stale_checkpoints(&tale.0), 0);
    let tale = tale.checkpointed(50, "a", 1, "s", "11");
    assert_eq!(stale_checkpoints(&tale.0), 1);
}

#[test]
fn a_delivery_of_an_old_grant_is_overtaken() {
    let tale = Tale::default()
        .started(0, "a", 1, "s", "1")
        .delivered(10, "a", 1, "s", 1)
        .started(20, "b", 2, "s", "1");
    assert_eq!(overtaken_deliveries(&tale.0), 0);
    assert_eq!(
        overtaken_deliveries(&tale.delivered(30, "a", 1, "s", 2).0),
        1
    );
}
