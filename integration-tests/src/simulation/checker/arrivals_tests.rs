//! Records that do not reach their processor.

use super::tests::*;
use super::*;
use crate::simulation::history::Stored;

/// A record is put while its holder is idle; `then` happens, and the rest of the run is quiet.
fn after_a_record(then: impl Fn(&mut Checker)) -> Vec<&'static str> {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    deliver(&mut checker, 1_200, A, &[0, 1, 2, 3]);
    complete(&mut checker, 1_200, A);
    for second in 2..100 {
        heartbeat(&mut checker, second * 1_000, A, second - 1);
    }
    let put = Event::Put {
        shard: 0,
        sequence: "4".to_owned(),
        key: 0,
        arrived: 40,
    };
    checker.follow(100_000, put);
    then(&mut checker);
    for second in 101..120 {
        heartbeat(&mut checker, second * 1_000, A, second - 2);
    }
    broken(&checker)
}

#[test]
fn a_record_that_is_put_to_an_idle_shard_is_delivered_in_time() {
    assert_eq!(after_a_record(|_| ()), ["R1 prompt delivery"]);
    let delivered = after_a_record(|checker| deliver(checker, 100_500, A, &[4]));
    assert_eq!(delivered, Vec::<&str>::new());
}

#[test]
fn whoever_is_cut_off_is_excused() {
    let process = A;
    let cut_off = after_a_record(|checker| {
        checker.follow(100_100, Event::CutOff { process, cut: true });
        let cut = false;
        checker.follow(100_200, Event::CutOff { process, cut });
    });
    assert_eq!(cut_off, Vec::<&str>::new());
}
