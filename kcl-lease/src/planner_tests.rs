use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn worker(name: usize) -> WorkerId {
    WorkerId::from(format!("w{name}/{name:032x}"))
}

fn key(number: usize) -> LeaseKey {
    LeaseKey::from(format!("shardId-{number:012}"))
}

const ANY: usize = usize::MAX;

/// A fleet: for each worker its limit and how many leases it holds, then leases without an owner.
fn fleet(workers: &[(usize, usize)], unowned: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut next = 0;
    for (name, (max_leases, held)) in workers.iter().enumerate() {
        let room = Room {
            max_leases: *max_leases,
            takes: true,
        };
        snapshot.workers.insert(worker(name), room);
        for _ in 0..*held {
            snapshot.leases.insert(key(next), Some(worker(name)));
            next += 1;
        }
    }
    for number in next..next + unowned {
        snapshot.leases.insert(key(number), None);
    }
    snapshot
}

fn counts(snapshot: &Snapshot) -> BTreeMap<WorkerId, usize> {
    let mut counts: BTreeMap<_, _> = snapshot.workers.keys().map(|w| (w.clone(), 0)).collect();
    for owner in snapshot.leases.values().flatten() {
        if let Some(count) = counts.get_mut(owner) {
            *count += 1;
        }
    }
    counts
}

fn taker_counts(snapshot: &Snapshot) -> Vec<(usize, usize)> {
    let counts = counts(snapshot);
    let takers = snapshot.workers.iter().filter(|(_, room)| room.takes);
    takers
        .map(|(id, room)| (counts[id], room.max_leases))
        .collect()
}

fn is_free(snapshot: &Snapshot, owner: Option<&WorkerId>) -> bool {
    owner.is_none_or(|owner| !snapshot.workers.contains_key(owner))
}

fn apply(snapshot: &Snapshot, moves: &[Move]) -> Snapshot {
    let mut after = snapshot.clone();
    for m in moves {
        after.leases.insert(m.key.clone(), Some(m.to.clone()));
    }
    after
}

/// Whether no move of one lease would bring two workers closer to each other by a whole lease.
fn is_balanced(workers: &[(usize, usize)]) -> bool {
    workers.iter().all(|(count, max)| {
        let lower = |(other, other_max): &(usize, usize)| other < other_max && other + 1 < *count;
        let has_room = |(other, other_max): &(usize, usize)| other < other_max;
        !workers.iter().any(lower) && (count <= max || !workers.iter().any(has_room))
    })
}

fn snapshots(most_workers: usize, most_leases: usize) -> impl Strategy<Value = Snapshot> {
    let room = (
        prop_oneof![2 => Just(ANY), 1 => 0..6_usize],
        prop::bool::weighted(0.8),
    )
        .prop_map(|(max_leases, takes)| Room { max_leases, takes });
    let workers = proptest::collection::vec(room, 0..=most_workers);
    // Owners beyond the workers are gone. The square favours some workers, for crooked distributions.
    let owners = proptest::collection::vec((0..8_usize, 0..8_usize), 0..=most_leases);
    (workers, owners).prop_map(|(workers, owners)| Snapshot {
        leases: owners
            .into_iter()
            .enumerate()
            .map(|(number, (a, b))| (key(number), (a != 7).then(|| worker(a * b / 7))))
            .collect(),
        workers: workers
            .into_iter()
            .enumerate()
            .map(|(name, room)| (worker(name), room))
            .collect(),
    })
}

/// The fewest moves of held leases after which the fleet is balanced, by trying all distributions.
fn fewest_moves(workers: &[(usize, usize)], total: usize) -> Option<usize> {
    fn search(
        workers: &[(usize, usize)],
        left: usize,
        finals: &mut Vec<(usize, usize)>,
        best: &mut Option<usize>,
    ) {
        let Some((_, max)) = workers.get(finals.len()) else {
            if left == 0 && is_balanced(finals) {
                let pairs = workers.iter().zip(finals.iter());
                let moves = pairs.map(|((had, _), (has, _))| had.saturating_sub(*has));
                let moves = moves.sum();
                *best = Some(best.map_or(moves, |best: usize| best.min(moves)));
            }
            return;
        };
        for count in 0..=left.min(*max) {
            finals.push((count, *max));
            search(workers, left - count, finals, best);
            finals.pop();
        }
    }
    let mut best = None;
    search(workers, total, &mut Vec::new(), &mut best);
    best
}

proptest! {
    #[test]
    fn no_lease_moves_twice_and_each_from_where_it_is(snapshot in snapshots(8, 40)) {
        let moves = balance(&snapshot);
        let keys: BTreeSet<_> = moves.iter().map(|m| &m.key).collect();
        prop_assert_eq!(keys.len(), moves.len());
        for m in &moves {
            let owner = snapshot.leases[&m.key].as_ref();
            let from = owner.filter(|owner| !is_free(&snapshot, Some(owner)));
            prop_assert_eq!(from, m.from.as_ref());
            prop_assert_ne!(m.from.as_ref(), Some(&m.to));
        }
    }

    #[test]
    fn the_plan_balances_and_then_rests(snapshot in snapshots(8, 40)) {
        let after = apply(&snapshot, &balance(&snapshot));
        prop_assert!(is_balanced(&taker_counts(&after)), "{:?}", taker_counts(&after));
        prop_assert_eq!(balance(&after), vec![]);
        let unplaced = after.leases.values().any(|owner| is_free(&after, owner.as_ref()));
        let room = taker_counts(&after).iter().any(|(count, max)| count < max);
        prop_assert!(!(unplaced && room), "a lease is left although there is room");
    }

    #[test]
    fn a_balanced_fleet_stays_as_it_is(snapshot in snapshots(8, 40)) {
        let free = snapshot.leases.values().any(|owner| is_free(&snapshot, owner.as_ref()));
        if !free && is_balanced(&taker_counts(&snapshot)) {
            prop_assert_eq!(balance(&snapshot), vec![]);
        }
    }

    #[test]
    fn nothing_goes_to_a_full_or_draining_worker_and_nothing_is_taken_from_one_that_drains(snapshot in snapshots(8, 40)) {
        let moves = balance(&snapshot);
        let before = counts(&snapshot);
        let after = counts(&apply(&snapshot, &moves));
        for m in &moves {
            let room = snapshot.workers[&m.to];
            prop_assert!(room.takes);
            prop_assert!(after[&m.to] <= room.max_leases);
            if let Some(from) = &m.from {
                prop_assert!(snapshot.workers[from].takes);
            }
        }
        // Whoever gets gives nothing.
        for (id, count) in &before {
            let gives = moves.iter().filter(|m| m.from.as_ref() == Some(id)).count();
            let gets = moves.iter().filter(|m| m.to == *id).count();
            prop_assert!(gives == 0 || gets == 0, "{} of {}", id, count);
        }
    }

    #[test]
    fn no_plan_needs_fewer_moves(snapshot in snapshots(4, 10)) {
        let workers = taker_counts(&snapshot);
        let free = snapshot.leases.values().filter(|owner| is_free(&snapshot, owner.as_ref())).count();
        let total = workers.iter().map(|(count, _)| count).sum::<usize>() + free;
        if let Some(fewest) = fewest_moves(&workers, total) {
            let moves = balance(&snapshot);
            prop_assert_eq!(moves.iter().filter(|m| m.from.is_some()).count(), fewest);
            prop_assert_eq!(moves.iter().filter(|m| m.from.is_none()).count(), free);
        }
    }

    #[test]
    fn the_same_fleet_gives_the_same_plan_however_it_was_read(snapshot in snapshots(8, 40)) {
        let read_backwards = Snapshot {
            leases: snapshot.leases.clone().into_iter().rev().collect(),
            workers: snapshot.workers.clone().into_iter().rev().collect(),
        };
        prop_assert_eq!(balance(&snapshot), balance(&read_backwards));
    }

    #[test]
    fn a_worker_that_stops_gives_everything_away_to_those_with_the_fewest(snapshot in snapshots(8, 40), me in 0..8_usize) {
        let me = worker(me);
        let targets = drain(&snapshot, &me);
        let mine = snapshot.leases.iter().filter(|(_, owner)| owner.as_ref() == Some(&me));
        let mine: BTreeSet<_> = mine.map(|(key, _)| key.clone()).collect();
        prop_assert!(targets.keys().all(|key| mine.contains(key)));
        let moves: Vec<_> = targets.iter().map(|(key, to)| Move { key: key.clone(), from: None, to: to.clone() }).collect();
        let after = counts(&apply(&snapshot, &moves));
        let before = counts(&snapshot);
        let others = || snapshot.workers.iter().filter(|(id, room)| room.takes && **id != me);
        for (to, room) in others() {
            let got = after[to] > before[to];
            prop_assert!(!got || after[to] <= room.max_leases);
            let emptier = |(id, room): (&WorkerId, &Room)| after[id] < room.max_leases && after[id] + 1 < after[to];
            prop_assert!(!got || !others().any(emptier));
        }
        let room = others().any(|(id, room)| after[id] < room.max_leases);
        prop_assert!(targets.len() == mine.len() || !room);
        for to in targets.values() {
            prop_assert!(others().any(|(id, _)| id == to));
        }
    }
}

#[test]
fn a_newcomer_gets_its_share_and_no_more() {
    let moves = balance(&fleet(&[(ANY, 4), (ANY, 4), (ANY, 0)], 0));
    assert_eq!(moves.len(), 2, "4, 4, 0 becomes 3, 3, 2: {moves:?}");
    assert!(moves.iter().all(|m| m.to == worker(2)));
    assert_eq!(balance(&fleet(&[(ANY, 3), (ANY, 3), (ANY, 2)], 0)), []);
}

#[test]
fn the_leases_of_a_dead_worker_go_to_the_others_only() {
    let mut snapshot = fleet(&[(ANY, 4), (ANY, 4), (ANY, 4)], 0);
    snapshot.workers.remove(&worker(1));
    let moves = balance(&snapshot);
    assert_eq!(moves.len(), 4);
    assert!(moves.iter().all(|m| m.from.is_none()));
    let after = counts(&apply(&snapshot, &moves));
    assert_eq!((after[&worker(0)], after[&worker(2)]), (6, 6));
}

#[test]
fn limits_are_filled_evenly_and_what_has_no_room_waits() {
    let moves = balance(&fleet(&[(1, 0), (3, 0), (ANY, 0)], 9));
    let got = |n| moves.iter().filter(|m| m.to == worker(n)).count();
    assert_eq!((got(0), got(1), got(2)), (1, 3, 5));
    assert_eq!(balance(&fleet(&[(1, 0), (3, 0)], 9)).len(), 4);
    assert_eq!(balance(&fleet(&[], 9)), []);
    assert_eq!(balance(&fleet(&[(0, 0)], 9)), []);
}

#[test]
fn nobody_alive_or_no_room_means_no_target() {
    assert!(drain(&fleet(&[(ANY, 3)], 0), &worker(0)).is_empty());
    assert!(drain(&fleet(&[(ANY, 3), (2, 2)], 0), &worker(0)).is_empty());
    let mut peer_drains = fleet(&[(ANY, 3), (ANY, 2)], 0);
    peer_drains.workers.get_mut(&worker(1)).unwrap().takes = false;
    assert!(drain(&peer_drains, &worker(0)).is_empty());
    // A worker that is marked as draining finds targets all the same.
    let mut me_drains = fleet(&[(ANY, 3), (ANY, 2), (ANY, 0)], 0);
    me_drains.workers.get_mut(&worker(0)).unwrap().takes = false;
    assert_eq!(drain(&me_drains, &worker(0)).len(), 3);
}

#[test]
fn two_planners_with_almost_the_same_snapshot_agree_about_most_leases() {
    let whole = fleet(&[(ANY, 0); 10], 1_000);
    let mut lacks_one = whole.clone();
    lacks_one.leases.remove(&key(500));
    let moves = balance(&whole);
    let other: BTreeSet<_> = balance(&lacks_one).into_iter().collect();
    let agreed = moves.iter().filter(|m| other.contains(m)).count();
    assert!(agreed > 900, "{agreed} of 1000");
    // Neighbouring shards do not all go to the same worker.
    let first: BTreeSet<_> = moves.iter().take(20).map(|m| &m.to).collect();
    assert!(first.len() >= 5, "{first:?}");
}

/// The time is for a person to read (`--nocapture`, release); the bound only catches a change of complexity.
#[test]
fn ten_thousand_leases_of_two_hundred_workers_are_planned_quickly() {
    let crowd: Vec<_> = (0..200).map(|n| (ANY, n % 101)).collect();
    let fleets = [
        ("all unowned", fleet(&[(ANY, 0); 200], 10_000)),
        ("crooked", fleet(&crowd, 0)),
        ("at rest", fleet(&[(ANY, 50); 200], 0)),
    ];
    for (name, snapshot) in fleets {
        let begun = tokio::time::Instant::now();
        let moves = balance(&snapshot);
        let took = begun.elapsed();
        println!("{name}: {} moves in {took:?}", moves.len());
        assert!(took.as_secs() < 5, "{name} took {took:?}");
    }
}

proptest! {
    /// Whatever is refused: the fleet gets as balanced as it would, up to the moves that nothing can take the place of, and
    /// nothing comes to a worker that should not have it while there is another.
    #[test]
    fn no_lease_moves_to_a_worker_that_could_not_work_on_it(
        workers in proptest::collection::vec((0usize..8).prop_map(|held| (ANY, held)), 2..5),
        unowned in 0usize..6,
        refused in proptest::collection::btree_map(0usize..40, 0usize..5, 0..8),
    ) {
        let snapshot = fleet(&workers, unowned);
        let refused: BTreeMap<LeaseKey, WorkerId> =
            refused.into_iter().map(|(k, w)| (key(k), worker(w))).collect();
        let is_refused = |key: &LeaseKey, to: &WorkerId| refused.get(key) == Some(to);
        let planned = balance(&snapshot);
        let moves = avoid(planned.clone(), &snapshot, is_refused);
        for step in &moves {
            prop_assert!(!is_refused(&step.key, &step.to), "{step:?}");
            prop_assert_eq!(step.from.as_ref(), snapshot.leases[&step.key].as_ref());
        }
        let keys: BTreeSet<&LeaseKey> = moves.iter().map(|step| &step.key).collect();
        prop_assert_eq!(keys.len(), moves.len(), "none twice");
        let taken = |moves: &[Move]| moves.iter().filter(|step| step.from.is_none()).count();
        prop_assert_eq!(taken(&moves), taken(&planned), "every free lease is taken");
        if refused.is_empty() {
            prop_assert_eq!(moves, planned);
        }
    }
}
