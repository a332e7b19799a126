//! The end of shards: `g` splits into `p2` (and another shard, left out); `p1` and `p2` merge into `c`.
//!
//! Two workers, which hold `g` and `p1` at first; each may take any shard, and an earlier holder may still be about to
//! finish one. Which writes end a
//! shard, when a child may start and which rows may go is production code, with beliefs about other rows that may be wrong.

use std::collections::BTreeMap;

use kcl_checkpoint::Checkpoint;
use kcl_lease::internals::{self, Answer, Call, Holding, ShardEnd, Turn, Validity, moment};
use kcl_lease::item::Item;
use kcl_lease::mutant::Mutant;
use kcl_lease::runtime::Moment;
use kcl_lease::table::Refusal;
use kcl_lease::write::{self, RowWrite};
use kcl_lease::{HashKeyRange, Lease, LeaseKey, ListedShard, NewLease, ShardId, WorkerId};

use crate::explore::{Model, Unordered};
use crate::intern::{Id, Interner, NONE};

use crate::runs::{Effort, catches, holds};
use crate::table::checkpoint;

const G: usize = 0;
const P2: usize = 1;
const P1: usize = 2;
const C: usize = 3;
const SHARDS: usize = 4;
const WORKERS: usize = 2;

const CHILD_EARLY: u32 = 1;
const CAME_BACK: u32 = 1 << 1;

const ALL_DONE: u32 = 1;
const ROW_DELETED: u32 = 1 << 1;
const BELIEF_CORRECTED: u32 = 1 << 2;
const END_RECOVERED: u32 = 1 << 3;

/// The counter of rows that are made while the model runs.
const NEW_ROW: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    rows: [Id; SHARDS],
    /// Which shards were processed to their end, which rows were deleted.
    ended: [bool; SHARDS],
    deleted: [bool; SHARDS],
    /// `g` left the listing.
    g_expired: bool,
    workers: [Option<Work>; WORKERS],
    call: Option<InFlight>,
    deletion: Option<(usize, Id)>,
    takes: u8,
    broken: u32,
}

/// What a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Work {
    shard: usize,
    holding: Id,
    waits: bool,
    ends: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct InFlight {
    worker: usize,
    writes: Id,
}

/// What the rows allow.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    start: [bool; SHARDS],
    delete: [bool; SHARDS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Take(usize, usize),
    /// The first records of the shard are processed and stored.
    Progress(usize),
    /// The shard is processed to its end; the worker believes that other rows exist, or that they do not.
    End(usize, bool),
    Send(usize),
    Deliver,
    LoseAnswer,
    Lose,
    TimeOut(usize),
    Crash(usize),
    Expire,
    /// Consistent reads show that the row may go.
    Judge(usize),
    Delete,
}

pub(crate) struct Shards {
    shards: Vec<ListedShard>,
    takes: u8,
    items: Interner<Item>,
    holdings: Interner<Holding>,
    calls: Interner<Vec<RowWrite>>,
    allowed: Unordered<([Id; SHARDS], bool), Allowed>,
}

fn now() -> Moment {
    moment(std::time::Duration::from_secs(1))
}

fn validity() -> Validity {
    Validity::new(moment(std::time::Duration::from_secs(100)), now())
}

fn worker(number: usize) -> WorkerId {
    WorkerId::new(format!("w{number}/{number:032x}"))
}

fn parents(shard: usize) -> &'static [usize] {
    match shard {
        P2 => &[G],
        C => &[P1, P2],
        _ => &[],
    }
}

impl Shards {
    pub(crate) fn new(takes: u8) -> Self {
        let name = |shard: usize| ShardId::from(["g", "p2", "p1", "c"][shard]);
        let listed = |shard: usize, (start, end): (u128, u128)| ListedShard {
            shard_id: name(shard),
            parent: parents(shard).first().map(|parent| name(*parent)),
            adjacent_parent: parents(shard).get(1).map(|parent| name(*parent)),
            hash_range: HashKeyRange { start, end },
            open: shard == C,
        };
        let lower = (0, 49);
        let upper = (50, u128::MAX);
        Self {
            shards: vec![
                listed(G, lower),
                listed(P2, lower),
                listed(P1, upper),
                listed(C, (0, u128::MAX)),
            ],
            takes,
            items: Interner::default(),
            holdings: Interner::default(),
            calls: Interner::default(),
            allowed: Unordered::default(),
        }
    }

    fn key(&self, shard: usize) -> LeaseKey {
        LeaseKey::of_shard(&self.shards[shard].shard_id)
    }

    fn number(&self, key: &str) -> usize {
        let mut shards = self.shards.iter();
        let found = shards.position(|shard| shard.shard_id.as_str() == key);
        found.expect("a shard of this model")
    }

    fn children(&self, shard: usize) -> Vec<ListedShard> {
        let is_child = |child: &usize| parents(*child).contains(&shard);
        let children = (0..SHARDS).filter(is_child);
        children.map(|child| self.shards[child].clone()).collect()
    }

    fn row<'a>(&'a self, state: &State, shard: usize) -> Option<&'a Item> {
        self.items.find(state.rows[shard])
    }

    fn lease(&self, state: &State, shard: usize) -> Option<Lease> {
        let item = self.row(state, shard)?;
        Lease::from_item(item).expect("a good row")
    }

    fn is_listed(&self, state: &State, shard: &ShardId) -> bool {
        !(state.g_expired && self.number(shard.as_str()) == G)
    }

    fn can_start(&self, state: &State, shard: usize) -> bool {
        let Some(lease) = self.lease(state, shard) else {
            return false;
        };
        let row = |key: &LeaseKey| self.lease(state, self.number(key.as_str()));
        !lease.is_finished()
            && internals::can_start(&lease, row, |shard| self.is_listed(state, shard))
    }

    fn is_deletable(&self, state: &State, shard: usize) -> bool {
        let rows: BTreeMap<LeaseKey, Lease> = (0..SHARDS)
            .filter_map(|shard| self.lease(state, shard))
            .map(|lease| (lease.key.clone(), lease))
            .collect();
        let listed = |shard: &ShardId| self.is_listed(state, shard);
        let lease = rows.get(&self.key(shard));
        lease.is_some_and(|lease| internals::is_deletable(lease, &rows, listed))
    }

    fn allowed(&mut self, state: &State) -> Allowed {
        let key = (state.rows, state.g_expired);
        if let Some(known) = self.allowed.get(&key) {
            return *known;
        }
        let allowed = Allowed {
            start: std::array::from_fn(|shard| self.can_start(state, shard)),
            delete: std::array::from_fn(|shard| self.is_deletable(state, shard)),
        };
        self.allowed.insert(key, allowed);
        allowed
    }

    /// Carries all writes out, or none; the answer.
    fn transact(&mut self, state: &mut State, writes: &[RowWrite]) -> Answer {
        let shards: Vec<usize> = writes.iter().map(|w| self.number(&w.key)).collect();
        let found: Vec<Option<Item>> = shards
            .iter()
            .map(|shard| self.row(state, *shard).cloned())
            .collect();
        let effects: Vec<_> = writes
            .iter()
            .zip(&found)
            .map(|(write, found)| internals::apply(write, found.as_ref()))
            .collect();
        if effects.iter().all(Option::is_some) {
            for (shard, after) in shards.into_iter().zip(effects) {
                let before = state.rows[shard];
                let after = after.flatten();
                state.rows[shard] = after.map_or(NONE, |item| self.items.id(item));
                if before == NONE && state.rows[shard] != NONE && state.deleted[shard] {
                    state.broken |= CAME_BACK;
                }
            }
            return Answer::Applied;
        }
        if let [found] = found.as_slice() {
            return Answer::Refused(found.clone());
        }
        let refusals = found
            .into_iter()
            .zip(effects)
            .map(|(found, effect)| match effect {
                Some(_) => Refusal::None,
                None => Refusal::Condition(found),
            });
        Answer::TransactionRefused(refusals.collect())
    }

    fn hear(&mut self, state: &mut State, worker: usize, answer: Answer) -> u32 {
        let corrected = matches!(answer, Answer::TransactionRefused(_));
        let Some(work) = state.workers[worker].as_mut().filter(|work| work.waits) else {
            return 0;
        };
        work.waits = false;
        let mut holding = self.holdings.get(work.holding).clone();
        let turn = holding.answered(1, answer, validity(), now());
        holding.forget_failures();
        work.holding = self.holdings.id(holding);
        match (turn, corrected) {
            (Turn::Lost, _) => state.workers[worker] = None,
            (Turn::Ended, recovered) => {
                state.workers[worker] = None;
                return if recovered { END_RECOVERED } else { 0 };
            }
            (_, true) => return BELIEF_CORRECTED,
            _ => {}
        }
        0
    }
}

impl Model for Shards {
    type State = State;
    type Action = Action;

    const PROPERTIES: &'static [&'static str] = &[
        "C1 a child starts only after each of its parents ended",
        "C2 the row of a finished shard never comes back",
    ];
    const SIGHTS: &'static [&'static str] = &[
        "all shards done",
        "a row is deleted",
        "a wrong belief is corrected",
        "a lost answer of an end is recovered",
    ];

    fn start(&mut self) -> State {
        let mut row = |shard: usize| {
            let lease = NewLease {
                key: self.key(shard),
                checkpoint: Checkpoint::TrimHorizon,
                parents: Default::default(),
                hash_range: Some(self.shards[shard].hash_range),
            };
            let item = internals::apply(&write::create_lease(&lease, 0), None);
            self.items.id(item.flatten().expect("a new row"))
        };
        let mut state = State {
            rows: [row(G), NONE, row(P1), NONE],
            ended: [false; SHARDS],
            deleted: [false; SHARDS],
            g_expired: false,
            workers: [None, None],
            call: None,
            deletion: None,
            takes: 0,
            broken: 0,
        };
        for (number, shard) in [G, P1].into_iter().enumerate() {
            self.take(&mut state, number, shard);
            self.progress(&mut state, number);
        }
        state.takes = 0;
        state
    }

    fn actions(&mut self, state: &State, actions: &mut Vec<Action>) {
        let allowed = self.allowed(state);
        for (number, work) in state.workers.iter().enumerate() {
            let Some(work) = work else {
                let startable = (0..SHARDS).filter(|shard| allowed.start[*shard]);
                actions.extend(startable.map(|shard| Action::Take(number, shard)));
                continue;
            };
            actions.push(Action::Crash(number));
            if work.waits {
                actions.push(Action::TimeOut(number));
            } else if work.ends {
                if state.call.is_none() {
                    actions.push(Action::Send(number));
                }
            } else if self.holdings.get(work.holding).committed().is_start() {
                actions.push(Action::Progress(number));
            } else {
                let merges = [P1, P2].contains(&work.shard);
                let beliefs = [true, false].into_iter().take(1 + usize::from(merges));
                actions.extend(beliefs.map(|belief| Action::End(number, belief)));
            }
        }
        if state.call.is_some() {
            actions.extend([Action::Deliver, Action::LoseAnswer, Action::Lose]);
        }
        if !state.g_expired && state.ended[G] {
            actions.push(Action::Expire);
        }
        match state.deletion {
            Some(_) => actions.push(Action::Delete),
            None => {
                let deletable = (0..SHARDS).filter(|shard| allowed.delete[*shard]);
                actions.extend(deletable.map(Action::Judge));
            }
        }
    }

    fn step(&mut self, before: &State, action: Action) -> Option<(State, u32)> {
        let mut state = *before;
        let mut sights = self.act(&mut state, action);
        if state.ended[C] {
            sights |= ALL_DONE;
        }
        (state != *before).then_some((state, sights))
    }

    fn broken(&self, state: &State) -> u32 {
        state.broken
    }

    fn is_within(&self, state: &State) -> bool {
        state.takes <= self.takes
    }

    fn checks_recovery(&self) -> bool {
        true
    }

    fn is_well(&mut self, state: &State) -> bool {
        state.ended[C]
    }

    fn is_fair(&mut self, _: &State, action: Action) -> bool {
        !matches!(
            action,
            Action::Crash(_) | Action::LoseAnswer | Action::Lose | Action::End(_, false)
        )
    }
}

impl Shards {
    fn act(&mut self, state: &mut State, action: Action) -> u32 {
        match action {
            Action::Take(number, shard) => self.take(state, number, shard),
            Action::Progress(number) => self.progress(state, number),
            Action::End(number, belief) => {
                if let Some(work) = state.workers[number].as_mut() {
                    let children = self.children(work.shard);
                    let plan = ShardEnd::new(&self.key(work.shard), children, |_| belief);
                    let mut holding = self.holdings.get(work.holding).clone();
                    holding.want_end(&plan.expect("its children"));
                    work.holding = self.holdings.id(holding);

                    work.ends = true;
                }
            }
            Action::Send(number) => {
                let writes = self.next_call(state, number);
                state.call = writes.map(|writes| InFlight {
                    worker: number,
                    writes: self.calls.id(writes),
                });
            }
            Action::Deliver | Action::LoseAnswer => {
                let call = state.call.take().expect("one is on its way");
                let writes = self.calls.get(call.writes).clone();
                let answer = self.transact(state, &writes);
                if matches!(answer, Answer::Applied) {
                    let parent = self.number(&writes[0].key);
                    state.ended[parent] = true;
                }
                if action == Action::Deliver {
                    return self.hear(state, call.worker, answer);
                }
            }
            Action::Lose => state.call = None,
            Action::TimeOut(number) => return self.hear(state, number, Answer::Lost),
            Action::Crash(number) => state.workers[number] = None,
            Action::Expire => state.g_expired = true,
            Action::Judge(shard) => {
                let counter = self.lease(state, shard).map_or(0, |lease| lease.counter);
                let delete = write::delete_finished(&self.key(shard), counter);
                state.deletion = Some((shard, self.calls.id(vec![delete])));
            }
            Action::Delete => {
                let (shard, delete) = state.deletion.take().expect("one is on its way");
                let delete = self.calls.get(delete).clone();
                if matches!(self.transact(state, &delete), Answer::Applied) {
                    state.deleted[shard] = true;
                    return ROW_DELETED;
                }
            }
        }
        0
    }

    /// A take on a current view; whoever held the lease before does not know of it.
    fn take(&mut self, state: &mut State, number: usize, shard: usize) {
        let read = self.lease(state, shard).expect("it can start");
        let take = internals::take_write(&read, &worker(number));
        if !matches!(self.transact(state, &[take]), Answer::Applied) {
            return;
        }
        state.takes += 1;
        let lease = self.lease(state, shard).expect("it was taken");
        state.workers[number] = Some(Work {
            shard,
            holding: self
                .holdings
                .id(Holding::new(&lease, &worker(number), now())),
            waits: false,
            ends: false,
        });
        let early = |parent: &usize| !state.ended[*parent];
        if parents(shard).iter().any(early) {
            state.broken |= CHILD_EARLY;
        }
    }

    /// What the worker sends now.
    fn next_call(&mut self, state: &mut State, number: usize) -> Option<Vec<RowWrite>> {
        let work = state.workers[number].as_mut()?;
        let mut holding = self.holdings.get(work.holding).clone();
        let call = holding.next_call(validity(), now(), 1, NEW_ROW);
        work.holding = self.holdings.id(holding);
        work.waits = call.is_some();
        call.map(|call| match call {
            Call::Write(write) => vec![write],
            Call::Transact(writes) => writes,
        })
    }

    fn progress(&mut self, state: &mut State, number: usize) {
        if let Some(work) = state.workers[number].as_mut() {
            let mut holding = self.holdings.get(work.holding).clone();
            holding.want_checkpoint(checkpoint(1));
            work.holding = self.holdings.id(holding);
        }
        if let Some(writes) = self.next_call(state, number) {
            let answer = self.transact(state, &writes);
            self.hear(state, number, answer);
        }
    }
}

#[test]
fn the_end_of_shards() {
    let takes = Effort::of_this_run().pick(1, 2, 4);
    holds("C-T", Shards::new(takes), &[]);
}

#[test]
fn a_child_that_starts_before_its_parents_ended_is_caught() {
    catches(Mutant::ChildBeforeParents, Shards::new(2), &["C1"]);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "too many states without optimizations; run it with --release"
)]
fn a_shard_end_without_the_children_is_caught() {
    catches(Mutant::ShardEndBeforeChildren, Shards::new(2), &["L1"]);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "too many states without optimizations; run it with --release"
)]
fn a_finished_row_that_is_deleted_early_is_caught() {
    catches(Mutant::DeleteFinishedEarly, Shards::new(2), &["C2", "L1"]);
}
