use proptest::prelude::*;

use super::*;
use crate::test_support::{at, lease};

fn id(name: &str) -> ShardId {
    ShardId::from(name)
}

/// A shard that covers `start..=end` of 32 equal parts of the hash keys.
fn shard(name: &str, parents: &[&str], start: u128, end: u128, open: bool) -> ListedShard {
    let part = u128::MAX / 32 + 1;
    ListedShard {
        shard_id: id(name),
        parent: parents.first().map(|p| id(p)),
        adjacent_parent: parents.get(1).map(|p| id(p)),
        hash_range: HashKeyRange {
            start: start * part,
            end: match end {
                31 => u128::MAX,
                end => (end + 1) * part - 1,
            },
        },
        open,
    }
}

/// The Java library's example: 0+1 became 6, 2+3 became 7, 6+7 became 8; 4 lives on; 5 was split into 9 and 10.
fn example() -> Vec<ListedShard> {
    vec![
        shard("0", &[], 0, 3, false),
        shard("1", &[], 4, 7, false),
        shard("2", &[], 8, 11, false),
        shard("3", &[], 12, 15, false),
        shard("4", &[], 16, 23, true),
        shard("5", &[], 24, 31, false),
        shard("6", &["0", "1"], 0, 7, false),
        shard("7", &["2", "3"], 8, 15, false),
        shard("8", &["6", "7"], 0, 15, true),
        shard("9", &["5"], 24, 27, true),
        shard("10", &["5"], 28, 31, true),
    ]
}

const LATEST: StreamStart = StreamStart::Latest { moment_ms: 1 };
const TIMESTAMP: StreamStart = StreamStart::AtTimestamp { moment_ms: 1 };

fn names(leases: &[NewLease]) -> Vec<(String, Checkpoint)> {
    let pair = |lease: &NewLease| (lease.key.as_str().to_owned(), lease.checkpoint.clone());
    leases.iter().map(pair).collect()
}

fn missing(
    listing: &[ListedShard],
    rows: &[(&str, Leased)],
    start: StreamStart,
) -> Vec<(String, Checkpoint)> {
    let rows = rows
        .iter()
        .map(|(name, state)| (id(name), *state))
        .collect();
    names(&missing_leases(&StreamKey::ONLY, listing, &rows, &BTreeSet::new(), start).unwrap())
}

fn expect(leases: &[(&str, Checkpoint)]) -> Vec<(String, Checkpoint)> {
    leases
        .iter()
        .map(|(name, c)| ((*name).to_owned(), c.clone()))
        .collect()
}

#[test]
fn the_java_librarys_worked_example() {
    use Checkpoint::{AtTimestamp, Latest, TrimHorizon};
    let rows = [
        ("4", Leased::Unfinished),
        ("5", Leased::Unfinished),
        ("7", Leased::Unfinished),
    ];
    assert_eq!(
        missing(&example(), &rows, LATEST),
        expect(&[("0", Latest), ("1", Latest)])
    );
    assert_eq!(
        missing(&example(), &rows, StreamStart::TrimHorizon),
        expect(&[("0", TrimHorizon), ("1", TrimHorizon)])
    );
    assert_eq!(
        missing(&example(), &rows, TIMESTAMP),
        expect(&[("0", AtTimestamp), ("1", AtTimestamp)])
    );
}

#[test]
fn a_table_that_covers_everything_lacks_nothing() {
    let rows = ["4", "8", "9", "10"].map(|name| (name, Leased::Unfinished));
    assert_eq!(missing(&example(), &rows, LATEST), []);
    let ancestors = ["0", "1", "2", "3", "4", "5"].map(|name| (name, Leased::Unfinished));
    assert_eq!(
        missing(&example(), &ancestors, StreamStart::TrimHorizon),
        []
    );
}

#[test]
fn a_child_whose_parents_are_done_and_gone_gets_its_row() {
    // 6 was processed to its end; 7's row never was, and it is not listed any more.
    let listing = vec![
        shard("6", &[], 0, 15, false),
        shard("8", &["6", "7"], 0, 31, true),
    ];
    assert_eq!(
        missing(&listing, &[("6", Leased::Finished)], LATEST),
        expect(&[("8", Checkpoint::TrimHorizon)])
    );
    assert_eq!(missing(&listing, &[("6", Leased::Unfinished)], LATEST), []);
}

#[test]
fn an_empty_table_starts_with_what_the_service_lists_for_the_starting_point() {
    let open: Vec<_> = example().into_iter().filter(|shard| shard.open).collect();
    assert_eq!(
        names(&fresh_leases(&StreamKey::ONLY, &open, LATEST).unwrap()),
        expect(&["10", "4", "8", "9"].map(|name| (name, Checkpoint::Latest)))
    );
    assert_eq!(
        names(&fresh_leases(&StreamKey::ONLY, &example(), StreamStart::TrimHorizon).unwrap()),
        expect(&["0", "1", "2", "3", "4", "5"].map(|name| (name, Checkpoint::TrimHorizon)))
    );
    assert_eq!(
        fresh_leases(&StreamKey::ONLY, &open[1..], LATEST),
        Err(ListingError::Incomplete)
    );
    assert_eq!(
        fresh_leases(&StreamKey::ONLY, &[], LATEST),
        Err(ListingError::Incomplete)
    );
}

#[test]
fn a_merge_whose_other_parent_expired_before_the_start_gets_its_row_at_once() {
    let listing = vec![
        shard("6", &[], 0, 15, false),
        shard("8", &["6", "7"], 0, 31, true),
    ];
    assert_eq!(
        names(&fresh_leases(&StreamKey::ONLY, &listing, StreamStart::TrimHorizon).unwrap()),
        expect(&["6", "8"].map(|name| (name, Checkpoint::TrimHorizon)))
    );
}

#[test]
fn a_listing_of_two_states_is_refused() {
    let mut listing = example();
    listing[6].open = true;
    let error = missing_leases(
        &StreamKey::ONLY,
        &listing,
        &BTreeMap::new(),
        &BTreeSet::new(),
        LATEST,
    )
    .unwrap_err();
    assert_eq!(
        error,
        ListingError::OpenParent {
            child: id("8"),
            parent: id("6")
        }
    );
}

#[test]
fn a_lease_is_ready_when_each_parent_is_done() {
    use ParentRow::{Absent, Finished, Unfinished, Unknown};
    let needs = || Readiness::NeedsRow(LeaseKey::from("a"));
    for (checkpoint, row, listed, expected) in [
        (Checkpoint::TrimHorizon, Finished, None, Readiness::Ready),
        (
            Checkpoint::TrimHorizon,
            Unfinished,
            Some(false),
            Readiness::Waits,
        ),
        (Checkpoint::TrimHorizon, Unknown, Some(false), needs()),
        (
            Checkpoint::TrimHorizon,
            Absent,
            Some(false),
            Readiness::Ready,
        ),
        (
            Checkpoint::TrimHorizon,
            Absent,
            Some(true),
            Readiness::NeedsListing,
        ),
        (
            Checkpoint::TrimHorizon,
            Absent,
            None,
            Readiness::NeedsListing,
        ),
        (Checkpoint::Latest, Absent, Some(true), Readiness::Ready),
        (Checkpoint::AtTimestamp, Absent, None, Readiness::Ready),
        (Checkpoint::Latest, Unfinished, None, Readiness::Waits),
        (Checkpoint::Latest, Unknown, None, needs()),
        (at(5), Unfinished, None, Readiness::Ready),
        (at(5), Unknown, None, Readiness::Ready),
    ] {
        let mut child = lease("c");
        child.parents = [id("a")].into();
        child.checkpoint = checkpoint;
        assert_eq!(
            readiness(&child, |_| row, |_| listed),
            expected,
            "{child:?} {row:?} {listed:?}"
        );
    }
}

#[test]
fn one_unfinished_parent_is_enough_to_wait() {
    let mut child = lease("c");
    child.parents = [id("a"), id("b")].into();
    for unfinished in ["a", "b"] {
        let row = |key: &LeaseKey| match key.as_str() == unfinished {
            true => ParentRow::Unfinished,
            false => ParentRow::Finished,
        };
        assert_eq!(readiness(&child, row, |_| None), Readiness::Waits);
    }
}

#[test]
fn a_finished_row_goes_after_its_children_moved_on_and_its_parents_went() {
    let finished = || {
        let mut parent = lease("p");
        parent.checkpoint = Checkpoint::ShardEnd;
        parent.parents = [id("old")].into();
        parent.children = [id("x"), id("y")].into();
        parent
    };
    let check = |parent: &Lease, rows: &[(&str, Checkpoint)], listed: Option<bool>| {
        let rows: BTreeMap<LeaseKey, Lease> = rows
            .iter()
            .map(|(name, c)| {
                (
                    LeaseKey::from(*name),
                    Lease {
                        checkpoint: c.clone(),
                        ..lease(name)
                    },
                )
            })
            .collect();
        is_deletable(parent, |key| rows.get(key), |_| listed, || rows.values())
    };
    let moved = [("x", at(1)), ("y", Checkpoint::ShardEnd)];
    assert!(check(&finished(), &moved, None));
    assert!(
        !check(&finished(), &moved[..1], None),
        "a child's row is missing"
    );
    assert!(!check(
        &finished(),
        &[("x", at(1)), ("y", Checkpoint::TrimHorizon)],
        None
    ));
    assert!(!check(
        &finished(),
        &[("x", at(1)), ("y", at(2)), ("old", at(3))],
        None
    ));
    assert!(!check(
        &Lease {
            checkpoint: at(9),
            ..finished()
        },
        &moved,
        None
    ));
    let childless = Lease {
        children: BTreeSet::new(),
        ..finished()
    };
    assert!(check(&childless, &[], Some(false)));
    let of_a_range = Lease {
        hash_range: Some(HashKeyRange::FULL),
        ..childless.clone()
    };
    assert!(!check(&of_a_range, &[], Some(false)), "nobody reads on");
    assert!(!check(&childless, &[], Some(true)));
    assert!(!check(&childless, &[], None));
}

#[test]
fn the_parent_that_ended_before_its_merge_had_a_row_goes_after_the_child_moved_on() {
    let range = |start, end| Some(HashKeyRange { start, end });
    let mut first = lease("p");
    first.checkpoint = Checkpoint::ShardEnd;
    first.hash_range = range(0, 99);
    let child = |checkpoint, hash_range| Lease {
        parents: [id("p"), id("q")].into(),
        checkpoint,
        hash_range,
        ..lease("m")
    };
    let check = |other: Lease| {
        let rows = BTreeMap::from([(other.key.clone(), other)]);
        is_deletable(
            &first,
            |key| rows.get(key),
            |_| Some(true),
            || rows.values(),
        )
    };
    assert!(check(child(at(1), range(0, 199))));
    assert!(!check(child(Checkpoint::TrimHorizon, range(0, 199))));
    assert!(!check(child(at(1), range(0, 49))), "half of its keys");
    let stranger = Lease {
        parents: BTreeSet::new(),
        ..child(at(1), range(0, 199))
    };
    assert!(!check(stranger));
}

#[test]
fn a_childless_row_goes_when_it_is_out_of_the_listing_and_its_keys_are_read_on() {
    let mut childless = lease("p");
    childless.checkpoint = Checkpoint::ShardEnd;
    childless.hash_range = Some(HashKeyRange::FULL);
    let check = |other: Lease, listed| {
        let rows = BTreeMap::from([(other.key.clone(), other)]);
        is_deletable(
            &childless,
            |key| rows.get(key),
            |_| listed,
            || rows.values(),
        )
    };
    let reader = || Lease {
        hash_range: Some(HashKeyRange::FULL),
        checkpoint: at(1),
        ..lease("z")
    };
    assert!(check(reader(), Some(false)));
    assert!(!check(reader(), Some(true)));
    assert!(!check(reader(), None));
}

/// A stream after some random splits and merges: every shard that ever was, closed and open.
fn stream() -> impl Strategy<Value = Vec<ListedShard>> {
    proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..12).prop_map(
        |steps| {
            let mut open: Vec<(usize, u128, u128)> = (0..4)
                .map(|n| (n, n as u128 * 8, n as u128 * 8 + 7))
                .collect();
            let mut all: Vec<ListedShard> = open
                .iter()
                .map(|(n, s, e)| shard(&format!("{n:03}"), &[], *s, *e, true))
                .collect();
            for (split, index) in steps {
                let at = index.index(open.len());
                let (number, start, end) = open[at];
                let next = all.len();
                if split && end > start {
                    let middle = (start + end) / 2;
                    all[number].open = false;
                    let parent = format!("{number:03}");
                    all.push(shard(
                        &format!("{next:03}"),
                        &[&parent],
                        start,
                        middle,
                        true,
                    ));
                    all.push(shard(
                        &format!("{:03}", next + 1),
                        &[&parent],
                        middle + 1,
                        end,
                        true,
                    ));
                    open.splice(
                        at..=at,
                        [(next, start, middle), (next + 1, middle + 1, end)],
                    );
                } else if !split && at + 1 < open.len() {
                    let (other, _, other_end) = open[at + 1];
                    all[number].open = false;
                    all[other].open = false;
                    let parents = [format!("{number:03}"), format!("{other:03}")];
                    all.push(shard(
                        &format!("{next:03}"),
                        &[&parents[0], &parents[1]],
                        start,
                        other_end,
                        true,
                    ));
                    open.splice(at..=at + 1, [(next, start, other_end)]);
                }
            }
            all
        },
    )
}

proptest! {
    /// Whatever the table holds, the planned rows make it complete: each open shard has a row, or descends from one.
    #[test]
    fn every_open_shard_is_reached(all in stream(), rows in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4), position in 0..3) {
        let start = [StreamStart::TrimHorizon, LATEST, TIMESTAMP][position as usize];
        let mut table: BTreeMap<ShardId, Leased> = BTreeMap::new();
        for (index, _) in rows {
            table.insert(all[index.index(all.len())].shard_id.clone(), Leased::Unfinished);
        }
        let planned = missing_leases(&StreamKey::ONLY, &all, &table, &BTreeSet::new(), start).unwrap();
        for lease in &planned {
            prop_assert!(table.insert(lease.key.shard(), Leased::Unfinished).is_none());
        }
        let by_id: BTreeMap<_, _> = all.iter().map(|s| (s.shard_id.clone(), s)).collect();
        let mut reached = table.keys().cloned().collect::<BTreeSet<_>>();
        // Parents come before their children in `all`: a child is reached when all of its parents are.
        for shard in &all {
            if !shard.parents().collect::<Vec<_>>().is_empty() && shard.parents().all(|p| reached.contains(p)) {
                reached.insert(shard.shard_id.clone());
            }
        }
        for shard in all.iter().filter(|shard| shard.open) {
            prop_assert!(reached.contains(&shard.shard_id), "{} not reached from {table:?}", shard.shard_id);
        }
        // A second look finds nothing more to do.
        prop_assert_eq!(missing_leases(&StreamKey::ONLY, &all, &table, &BTreeSet::new(), start).unwrap(), vec![]);
        prop_assert!(by_id.len() == all.len());
    }

    /// Any graph, also one that no service would list: no panic, no endless walk.
    #[test]
    fn any_listing_is_survived(edges in proptest::collection::vec((0..8_u8, 0..8_u8, 0..8_u8, any::<bool>()), 0..12)) {
        let all: Vec<_> = edges.iter().map(|(n, a, b, open)| {
            shard(&n.to_string(), &[&a.to_string(), &b.to_string()], 0, 31, *open)
        }).collect();
        let _ = missing_leases(&StreamKey::ONLY, &all, &BTreeMap::new(), &BTreeSet::new(), StreamStart::TrimHorizon);
        let _ = fresh_leases(&StreamKey::ONLY, &all, LATEST);
    }
}
