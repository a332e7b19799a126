use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::graph::{self, ParentRow, Readiness, fresh_leases};
use crate::shard_end::ShardEnd;
use crate::stream_item::StreamStart;
use crate::test_support::at;
use kcl_checkpoint::Checkpoint;

/// What happens to a stream and to the leases on it.
#[derive(Debug, Clone)]
enum Event {
    Split(Index),
    Merge(Index),
    /// A lease that can start makes progress.
    Progress(Index),
    /// A lease of a closed shard that can start is finished.
    Finish(Index),
    /// The oldest closed shard passes out of retention.
    Trim,
    /// Rows of finished shards that can go are deleted, up to so many.
    TidyUp(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any::<Index>().prop_map(Event::Split),
        2 => any::<Index>().prop_map(Event::Merge),
        2 => any::<Index>().prop_map(Event::Progress),
        4 => any::<Index>().prop_map(Event::Finish),
        1 => Just(Event::Trim),
        1 => (1..4_usize).prop_map(Event::TidyUp),
    ]
}

/// A stream whose hash keys are 64 equal parts, and the lease table of an application that reads it.
#[derive(Debug, Clone)]
struct World {
    start: StreamStart,
    listing: Vec<ListedShard>,
    next: usize,
    rows: BTreeMap<LeaseKey, Lease>,
    gone: BTreeMap<LeaseKey, Lease>,
    suspects: BTreeSet<LeaseKey>,
    started: bool,
    replay: bool,
    trims_unread: bool,
}

fn range(first: u128, last: u128) -> HashKeyRange {
    HashKeyRange {
        start: first << 122,
        end: (last << 122) | (u128::MAX >> 6),
    }
}

impl World {
    fn new(start: StreamStart) -> Self {
        let mut world = Self {
            start,
            listing: Vec::new(),
            next: 0,
            rows: BTreeMap::new(),
            gone: BTreeMap::new(),
            suspects: BTreeSet::new(),
            started: false,
            replay: false,
            trims_unread: true,
        };
        for n in 0..4 {
            world.add(&[], range(n * 16, n * 16 + 15));
        }
        world
    }

    fn add(&mut self, parents: &[ShardId], hash_range: HashKeyRange) {
        self.listing.push(ListedShard {
            shard_id: ShardId::from(format!("shard-{:04}", self.next)),
            parent: parents.first().cloned(),
            adjacent_parent: parents.get(1).cloned(),
            hash_range,
            open: true,
        });
        self.next += 1;
    }

    fn open(&self) -> Vec<usize> {
        let mut open: Vec<_> = (0..self.listing.len())
            .filter(|n| self.listing[*n].open)
            .collect();
        open.sort_by_key(|n| self.listing[*n].hash_range);
        open
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Split(index) => {
                let at = *index.get(&self.open());
                let HashKeyRange { start, end } = self.listing[at].hash_range;
                let (first, last) = (start >> 122, end >> 122);
                if last > first {
                    let middle = (first + last) / 2;
                    self.listing[at].open = false;
                    let parent = [self.listing[at].shard_id.clone()];
                    self.add(&parent, range(first, middle));
                    self.add(&parent, range(middle + 1, last));
                }
            }
            Event::Merge(index) => {
                let open = self.open();
                let at = index.index(open.len());
                if let Some(other) = open.get(at + 1).copied() {
                    let at = open[at];
                    let parents = [at, other].map(|n| self.listing[n].shard_id.clone());
                    let merged = HashKeyRange {
                        start: self.listing[at].hash_range.start,
                        end: self.listing[other].hash_range.end,
                    };
                    self.listing[at].open = false;
                    self.listing[other].open = false;
                    self.add(&parents, merged);
                }
            }
            Event::Progress(index) => {
                let startable = self.startable(|_| true);
                if !startable.is_empty() {
                    let key = index.get(&startable);
                    self.rows.get_mut(key).unwrap().checkpoint = at(1);
                }
            }
            Event::Finish(index) => {
                let startable = self.startable(|world_open| !world_open);
                if !startable.is_empty() {
                    self.finish(index.get(&startable));
                }
            }
            Event::Trim => {
                let oldest = self.listing.iter().position(|shard| !shard.open);
                if let Some(oldest) = oldest.filter(|n| self.may_trim(*n)) {
                    self.listing.remove(oldest);
                }
            }
            Event::TidyUp(most) => self.tidy_up(*most),
        }
    }

    fn may_trim(&self, number: usize) -> bool {
        let row = self
            .rows
            .get(&LeaseKey::of_shard(&self.listing[number].shard_id));
        self.trims_unread || row.is_some_and(Lease::is_finished)
    }

    fn start(&mut self) {
        let listing: Vec<_> = match self.start {
            StreamStart::TrimHorizon => self.listing.clone(),
            _ => self
                .listing
                .iter()
                .filter(|shard| shard.open)
                .cloned()
                .collect(),
        };
        let leases = fresh_leases(&StreamKey::ONLY, &listing, self.start).unwrap();
        leases.into_iter().for_each(|lease| self.make(lease));
        self.started = true;
    }

    fn make(&mut self, new: NewLease) {
        let lease = Lease {
            checkpoint: new.checkpoint,
            parents: new.parents,
            hash_range: new.hash_range,
            ..crate::test_support::lease(new.key.as_str())
        };
        self.rows.entry(new.key).or_insert(lease);
    }

    fn is_listed(&self, shard: &ShardId) -> bool {
        self.listing.iter().any(|listed| listed.shard_id == *shard)
    }

    /// Unfinished leases that can start and whose shard is open as wanted.
    fn startable(&self, wanted: impl Fn(bool) -> bool) -> Vec<LeaseKey> {
        let is_ready = |lease: &Lease| {
            let row = |key: &LeaseKey| match self.rows.get(key) {
                Some(row) if row.is_finished() => ParentRow::Finished,
                Some(_) => ParentRow::Unfinished,
                None => ParentRow::Absent,
            };
            let listed = |shard: &ShardId| Some(self.is_listed(shard));
            graph::readiness(lease, row, listed) == Readiness::Ready
        };
        let is_open = |key: &LeaseKey| {
            let listed = self.listing.iter().find(|s| s.shard_id == key.shard());
            listed.is_some_and(|shard| shard.open)
        };
        self.rows
            .values()
            .filter(|lease| !lease.is_finished() && is_ready(lease) && wanted(is_open(&lease.key)))
            .map(|lease| lease.key.clone())
            .collect()
    }

    /// The end of a shard as its holder writes it: with the children that the service lists.
    fn finish(&mut self, key: &LeaseKey) {
        let shard = key.shard();
        let names = |child: &&ListedShard| child.parents().any(|parent| *parent == shard);
        let children = self.listing.iter().filter(names).cloned().collect();
        let end = ShardEnd::new(key, children, |other| self.rows.contains_key(other)).unwrap();
        let parent = self.rows.get_mut(key).unwrap();
        parent.checkpoint = Checkpoint::ShardEnd;
        parent.children = end.children();
        end.made().for_each(|child| self.make(child));
        // The last two ask for a listing at once, the first with the next audit.
        if !self.is_listed(&shard) || end.children().is_empty() || !end.outcome().waiting.is_empty()
        {
            self.sync();
        }
    }

    fn tidy_up(&mut self, most: usize) {
        let can_go = |lease: &&Lease| {
            graph::is_deletable(
                lease,
                |key| self.rows.get(key),
                |shard| Some(self.is_listed(shard)),
                || self.rows.values(),
            )
        };
        let go: Vec<_> = self
            .rows
            .values()
            .filter(can_go)
            .map(|l| l.key.clone())
            .take(most)
            .collect();
        go.iter().for_each(|key| drop(self.rows.remove(key)));
    }

    fn with_evidence<T>(&self, look: impl FnOnce(Evidence<'_>) -> T) -> T {
        let rows = self
            .rows
            .iter()
            .map(|(key, lease)| (key.clone(), lease))
            .collect();
        look(Evidence {
            stream: &StreamKey::ONLY,
            rows: &rows,
            gone: &self.gone,
            listing: &self.listing,
            start: self.start,
            start_complete: self.started,
            replay: self.replay,
        })
    }

    /// A synchronisation with the listing; returns what could not be repaired.
    fn sync(&mut self) -> Vec<NewLease> {
        let verdict = self.with_evidence(|evidence| judge(evidence, &self.suspects).unwrap());
        self.suspects = verdict.suspects;
        let mut refused = Vec::new();
        for repair in verdict.repairs {
            match repair {
                Repair::Create(lease) | Repair::Replay(lease) => self.make(lease),
                Repair::Restore(lease) => {
                    self.gone.remove(&lease.key);
                    self.rows.insert(lease.key.clone(), *lease);
                }
                Repair::Refuse(lease) => refused.push(lease),
            }
        }
        refused
    }

    /// For a person to read.
    fn summary(&self) -> String {
        let name = |shard: &ListedShard| {
            let parents: Vec<_> = shard.parents().map(ShardId::as_str).collect();
            format!(
                "{} of {parents:?}{}",
                shard.shard_id,
                if shard.open { "" } else { ", closed" }
            )
        };
        let listed: Vec<_> = self.listing.iter().map(name).collect();
        let row = |lease: &Lease| {
            format!(
                "{} at {:?}, then {:?}",
                lease.key, lease.checkpoint, lease.children
            )
        };
        let rows: Vec<_> = self.rows.values().map(row).collect();
        format!("listed {listed:#?}, rows {rows:#?}")
    }

    fn holes(&self) -> Vec<HashKeyRange> {
        holes(self.rows.values(), &self.listing)
    }

    /// Whether every open shard is read some day if all shards are read to their ends.
    fn reaches_everything(&self) -> bool {
        let mut world = self.clone();
        world.gone.clear();
        world.suspects.clear();
        loop {
            let closed = world.startable(|open| !open);
            let Some(key) = closed.first() else {
                break;
            };
            world.finish(key);
        }
        let startable: BTreeSet<_> = world.startable(|open| open).into_iter().collect();
        let open = world.listing.iter().filter(|shard| shard.open);
        open.map(|shard| LeaseKey::of_shard(&shard.shard_id))
            .all(|key| startable.contains(&key))
    }
}

fn starts() -> impl Strategy<Value = StreamStart> {
    prop_oneof![
        Just(StreamStart::TrimHorizon),
        Just(StreamStart::Latest { moment_ms: 1 }),
        Just(StreamStart::AtTimestamp { moment_ms: 1 }),
    ]
}

/// A world after some events before the application started, and some after.
fn history() -> impl Strategy<Value = (World, Vec<Event>)> {
    let before = proptest::collection::vec(event(), 0..8);
    let after = proptest::collection::vec(event(), 0..40);
    (starts(), before, after).prop_map(|(start, before, after)| {
        let mut world = World::new(start);
        before.iter().for_each(|event| world.happens(event));
        world.start();
        (world, after)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Splits, merges, ends, trimming of what was read and tidying up in any order leave no hole.
    #[test]
    fn no_history_without_a_deletion_shows_a_hole((mut world, events) in history()) {
        world.trims_unread = false;
        for event in events {
            world.happens(&event);
            prop_assert_eq!(world.holes(), vec![], "after {:?}: {}", event, world.summary());
            let rows = world.rows.clone();
            prop_assert_eq!(world.sync(), vec![]);
            prop_assert_eq!(rows, world.rows.clone(), "nothing is missing");
        }
    }

    /// Shards that pass out of retention before anybody read them break lines. These are mended, and nothing looks deleted.
    #[test]
    fn what_retention_takes_is_mended((mut world, events) in history()) {
        for event in events {
            world.happens(&event);
            world.sync();
            prop_assert!(world.suspects.is_empty(), "{:?} after {:?}: {}", world.suspects, event, world.summary());
            prop_assert!(world.reaches_everything(), "after {:?}: {}", event, world.summary());
        }
    }

    /// Rows that are deleted by hand are noticed, and made again where their reading stood or not at all.
    #[test]
    fn deleted_rows_are_noticed_and_nothing_is_read_again_unasked(
        (mut world, events) in history(),
        victims in proptest::collection::vec(any::<Index>(), 1..4),
        remembered in any::<bool>(),
    ) {
        events.iter().for_each(|event| world.happens(event));
        let unfinished: Vec<_> = world.rows.values().filter(|l| !l.is_finished()).cloned().collect();
        let victims: BTreeMap<_, _> = victims.iter().map(|i| i.get(&unfinished)).map(|l| (l.key.clone(), l.clone())).collect();
        for (key, lease) in &victims {
            world.rows.remove(key);
            if remembered {
                world.gone.insert(key.clone(), lease.clone());
            }
        }
        let deleted = world.summary();
        let broken_off = world.with_evidence(|evidence| evidence.broken_off());
        if world.holes().is_empty() {
            prop_assert!(world.reaches_everything(), "{}", world.summary());
        }
        // Seen for the first time nothing is done that could be wrong.
        let refused = world.sync();
        prop_assert!(refused.is_empty());
        (0..4).for_each(|_| drop(world.sync()));
        let refused = world.sync();
        for (key, lease) in &victims {
            // A row that followed a broken line cannot be told from one that was never made, as long as the end is there.
            let range = lease.hash_range.unwrap();
            let follows_break = broken_off.iter().any(|part| part.overlaps(&range));
            if let Some(row) = world.rows.get(key).filter(|_| remembered || !follows_break) {
                prop_assert!(row.checkpoint >= lease.checkpoint, "{} is read again from {:?}: {} {}", key, row.checkpoint, deleted, world.summary());
            }
        }
        prop_assert_eq!(world.holes().is_empty(), refused.is_empty(), "{:?} {:?}: {}", world.holes(), refused, world.summary());
        if remembered {
            prop_assert!(world.holes().is_empty(), "{}", world.summary());
        }
        // An operator can ask for it.
        world.replay = true;
        (0..4).for_each(|_| drop(world.sync()));
        prop_assert!(world.holes().is_empty(), "{}", world.summary());
        prop_assert!(world.reaches_everything(), "{}", world.summary());
    }

    /// Whatever follows on a deletion, nothing that was finished before comes back.
    #[test]
    fn after_a_deletion_nothing_finished_is_read_again(
        (mut world, events) in history(),
        victim in any::<Index>(),
        later in proptest::collection::vec(event(), 1..20),
    ) {
        let mut ever: BTreeSet<LeaseKey> = BTreeSet::new();
        world.trims_unread = false;
        for event in &events {
            world.happens(event);
            ever.extend(world.rows.keys().cloned());
        }
        let unfinished: Vec<_> = world.rows.values().filter(|l| !l.is_finished()).collect();
        let victim = victim.get(&unfinished).key.clone();
        let gone: BTreeSet<_> = ever.iter().filter(|key| !world.rows.contains_key(*key)).cloned().collect();
        world.rows.remove(&victim);
        for event in &later {
            world.happens(event);
            world.sync();
            let back = gone.iter().find(|key| world.rows.contains_key(*key));
            prop_assert!(back.is_none(), "{:?} after {:?}, {victim} was deleted: {}", back, event, world.summary());
        }
    }
}

#[test]
fn a_merge_with_a_shard_whose_row_was_deleted_is_no_broken_line() {
    let mut world = World::new(StreamStart::TrimHorizon);
    world.start();
    let id = |world: &World, n: usize| world.listing[n].shard_id.clone();
    let key = |world: &World, n: usize| LeaseKey::of_shard(&world.listing[n].shard_id);
    // Two shards merge and split again; their rows are tidied up.
    let parents = [id(&world, 0), id(&world, 1)];
    world.add(&parents, range(0, 31));
    world.listing[0].open = false;
    world.listing[1].open = false;
    let merged = [id(&world, 4)];
    world.add(&merged, range(0, 15));
    world.add(&merged, range(16, 31));
    world.listing[4].open = false;
    for n in [0, 1, 4] {
        world.finish(&key(&world, n));
    }
    for n in [5, 6] {
        world.rows.get_mut(&key(&world, n)).unwrap().checkpoint = at(1);
    }
    (0..3).for_each(|_| world.tidy_up(3));
    assert_eq!(world.rows.len(), 4);
    // Somebody deletes the row of the one; the other ends in a merge with it, whose child has to wait.
    world.rows.remove(&key(&world, 5));
    let ended = [id(&world, 6), id(&world, 5)];
    world.add(&ended, range(0, 31));
    world.listing[5].open = false;
    world.listing[6].open = false;
    world.finish(&key(&world, 6));
    (0..3).for_each(|_| drop(world.sync()));
    assert!(!world.sync().is_empty(), "it is told");
    assert_eq!(world.rows.get(&key(&world, 1)), None);
}

#[test]
fn a_start_that_stopped_half_way_is_completed() {
    let mut world = World::new(StreamStart::TrimHorizon);
    world.start();
    world.rows.pop_first();
    world.started = false;
    assert_eq!(world.holes(), [range(0, 15)]);
    assert_eq!(world.sync(), []);
    assert!(world.holes().is_empty());
}

#[test]
fn a_row_without_a_range_covers_what_its_shard_covers() {
    let mut world = World::new(StreamStart::TrimHorizon);
    world.start();
    world
        .rows
        .values_mut()
        .for_each(|lease| lease.hash_range = None);
    assert!(world.holes().is_empty());
    assert_eq!(holes(world.rows.values(), &[]), [HashKeyRange::FULL]);
}

#[test]
fn any_listing_is_survived() {
    let world = World::new(StreamStart::TrimHorizon);
    let mut looped = world.listing;
    let ids: Vec<_> = looped.iter().map(|shard| shard.shard_id.clone()).collect();
    for (n, shard) in looped.iter_mut().enumerate() {
        shard.parent = Some(ids[(n + 1) % ids.len()].clone());
    }
    assert_eq!(holes([].into_iter(), &looped), [HashKeyRange::FULL]);
}

#[test]
fn a_deleted_row_does_not_bring_back_what_was_finished_before_it() {
    let mut world = World::new(StreamStart::TrimHorizon);
    world.start();
    let parent = world.listing[0].clone();
    world.listing[0].open = false;
    world.add(std::slice::from_ref(&parent.shard_id), parent.hash_range);
    let parent = LeaseKey::of_shard(&parent.shard_id);
    let child = LeaseKey::of_shard(&world.listing[4].shard_id);
    // The last reading of the table showed the parent before its end.
    let mut seen = world.rows[&parent].clone();
    seen.checkpoint = at(1);
    world.gone.insert(parent.clone(), seen);
    world.finish(&parent);
    world.rows.get_mut(&child).unwrap().checkpoint = at(2);
    world.rows.remove(&parent);
    let deleted = world.rows.remove(&child).unwrap();
    world.gone.insert(child.clone(), deleted.clone());
    (0..3).for_each(|_| assert_eq!(world.sync(), vec![]));
    assert_eq!(world.rows.get(&child), Some(&deleted));
    assert_eq!(world.rows.get(&parent), None);
}
