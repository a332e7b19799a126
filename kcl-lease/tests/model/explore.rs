//! Breadth-first search of everything that can happen, on one thread.
//!
//! The first violation found is one of the shortest. States are told apart by 64-bit fingerprints: with ten million of
//! them the chance that two are mixed up is below 1 in 300,000.

#[expect(clippy::disallowed_types, reason = "its order is never looked at")]
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A system whose possible steps are known.
pub(crate) trait Model {
    type State: Clone + Hash;
    type Action: Copy + fmt::Debug;

    /// What must always hold; a state says which of them it breaks, one bit each.
    const PROPERTIES: &'static [&'static str];
    /// What should be reached somewhere: a search that never sees it checks less than it seems to.
    const SIGHTS: &'static [&'static str];

    fn start(&mut self) -> Self::State;
    fn actions(&mut self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// The state after an action and the sights on the way, one bit each; `None` if nothing changes.
    fn step(&mut self, state: &Self::State, action: Self::Action) -> Option<(Self::State, u32)>;
    fn broken(&self, state: &Self::State) -> u32;
    /// Whether the state lies within the bounds of the search.
    fn is_within(&self, state: &Self::State) -> bool;

    /// Whether recovery is part of what is checked.
    fn checks_recovery(&self) -> bool {
        false
    }
    /// Whether everything is well: from every state such a one must stay in reach by fair actions.
    fn is_well(&mut self, _state: &Self::State) -> bool {
        true
    }
    /// Whether the action happens without any fault.
    fn is_fair(&mut self, _state: &Self::State, _action: Self::Action) -> bool {
        true
    }
}

/// What a search found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    pub(crate) depth: usize,
    /// Every state within the bounds was looked at.
    pub(crate) complete: bool,
    pub(crate) violations: Vec<Violation>,
    /// Sights that were never reached.
    pub(crate) unseen: Vec<&'static str>,
}

/// A broken promise and the shortest way to it.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) states: usize,
    pub(crate) trace: Vec<String>,
}

pub(crate) const RECOVERY: &str = "L1 the lease can always be recovered";

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) states: usize,
    pub(crate) stop_at_violation: bool,
}

/// Multiplies and folds: good enough for fingerprints, and quick for states of many small fields.
#[derive(Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    fn write_u64(&mut self, value: u64) {
        let mixed = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (mixed as u64) ^ ((mixed >> 64) as u64) ^ self.0.rotate_left(23);
    }
}

/// A map whose order is never looked at.
#[expect(clippy::disallowed_types, reason = "its order is never looked at")]
pub(crate) type Unordered<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

const ROOT: u32 = u32::MAX;

struct Search<'a, M: Model> {
    model: &'a mut M,
    limits: Limits,
    seen: Unordered<u64, u32>,
    /// How each state was first reached: from which one, by which of its actions.
    parents: Vec<(u32, u16)>,
    well: Vec<bool>,
    /// Fair steps, to and from.
    edges: Vec<(u32, u32)>,
    sights: u32,
    transitions: usize,
    depth: usize,
    violations: Vec<(&'static str, usize, u32)>,
}

pub(crate) fn explore<M: Model>(model: &mut M, limits: Limits) -> Report {
    let mut search = Search {
        model,
        limits,
        seen: Unordered::default(),
        parents: Vec::new(),
        well: Vec::new(),
        edges: Vec::new(),
        sights: 0,
        transitions: 0,
        depth: 0,
        violations: Vec::new(),
    };
    let complete = search.run();
    if complete && search.model.checks_recovery() {
        search.judge_recovery();
    }
    search.report(complete)
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Fold::default();
    state.hash(&mut hasher);
    hasher.finish()
}

impl<M: Model> Search<'_, M> {
    /// Whether everything was searched.
    fn run(&mut self) -> bool {
        let recovery = self.model.checks_recovery();
        let start = self.model.start();
        self.seen.insert(fingerprint(&start), 0);
        self.parents.push((ROOT, 0));
        self.well.push(recovery && self.model.is_well(&start));
        let mut front = vec![(start, 0_u32)];
        let mut actions = Vec::new();
        while !front.is_empty() {
            self.depth += 1;
            let mut next = Vec::new();
            for (state, number) in front {
                actions.clear();
                self.model.actions(&state, &mut actions);
                for (choice, action) in actions.iter().enumerate() {
                    let Some((after, sights)) = self.model.step(&state, *action) else {
                        continue;
                    };
                    self.transitions += 1;
                    self.sights |= sights;
                    let fair = recovery && self.model.is_fair(&state, *action);
                    if !self.model.is_within(&after) {
                        // Nothing is known of what lies beyond: it counts as well.
                        self.well[number as usize] |= fair;
                        continue;
                    }
                    let target = self.visit(after, (number, choice as u16), &mut next);
                    if fair {
                        self.edges.push((target, number));
                    }
                    if self.limits.stop_at_violation && !self.violations.is_empty()
                        || self.parents.len() >= self.limits.states
                    {
                        return false;
                    }
                }
            }
            front = next;
        }
        true
    }

    fn visit(
        &mut self,
        state: M::State,
        parent: (u32, u16),
        next: &mut Vec<(M::State, u32)>,
    ) -> u32 {
        let number = self.parents.len() as u32;
        let known = *self.seen.entry(fingerprint(&state)).or_insert(number);
        if known != number {
            return known;
        }
        self.parents.push(parent);
        let broken = self.model.broken(&state);
        let recovery = self.model.checks_recovery();
        self.well
            .push(recovery && (broken != 0 || self.model.is_well(&state)));
        for (bit, property) in M::PROPERTIES.iter().enumerate() {
            let known = self.violations.iter().any(|(p, ..)| p == property);
            if broken >> bit & 1 == 1 && !known {
                let states = self.parents.len();
                self.violations.push((property, states, number));
            }
        }
        // What follows a violation is of no interest.
        if broken == 0 {
            next.push((state, number));
        }
        number
    }

    /// Finds a state from which no fair steps lead to one where all is well.
    fn judge_recovery(&mut self) {
        self.edges.sort_unstable();
        self.edges.dedup();
        let (edges, well) = (&self.edges, &mut self.well);
        let mut open: Vec<u32> = (0..well.len() as u32)
            .filter(|n| well[*n as usize])
            .collect();
        while let Some(target) = open.pop() {
            let first = edges.partition_point(|edge| edge.0 < target);
            for (_, from) in edges[first..].iter().take_while(|edge| edge.0 == target) {
                if !std::mem::replace(&mut well[*from as usize], true) {
                    open.push(*from);
                }
            }
        }
        if let Some(stuck) = well.iter().position(|well| !well) {
            let states = self.parents.len();
            self.violations.push((RECOVERY, states, stuck as u32));
        }
    }

    /// The actions that lead to a state.
    fn trace(&mut self, mut number: u32) -> Vec<String> {
        let mut choices = Vec::new();
        while self.parents[number as usize].0 != ROOT {
            let (parent, choice) = self.parents[number as usize];
            choices.push(choice);
            number = parent;
        }
        let mut state = self.model.start();
        let mut trace = Vec::new();
        for choice in choices.into_iter().rev() {
            let mut actions = Vec::new();
            self.model.actions(&state, &mut actions);
            let action = actions[choice as usize];
            trace.push(format!("{action:?}"));
            state = self.model.step(&state, action).expect("was taken before").0;
        }
        trace
    }

    fn report(mut self, complete: bool) -> Report {
        let found = std::mem::take(&mut self.violations);
        let violations = found
            .into_iter()
            .map(|(property, states, number)| Violation {
                property,
                states,
                trace: self.trace(number),
            })
            .collect();
        let seen = |bit: &usize| self.sights >> bit & 1 == 0;
        Report {
            states: self.parents.len(),
            transitions: self.transitions,
            depth: self.depth,
            complete,
            violations,
            unseen: (0..M::SIGHTS.len())
                .filter(seen)
                .map(|bit| M::SIGHTS[bit])
                .collect(),
        }
    }
}
