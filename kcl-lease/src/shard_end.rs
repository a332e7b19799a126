//! The end of a shard: one transaction that finishes the parent and makes its children's rows, all or nothing.
//!
//! A merge's child gets its row only while the other parent has one too. Otherwise a slow second parent could make the
//! child again after it was finished and deleted.

use std::collections::BTreeSet;

use kcl_checkpoint::Checkpoint;

use crate::grant::ShardEndOutcome;
use crate::graph;
use crate::item::Item;
use crate::key::{LeaseKey, ShardId};
use crate::lease::NewLease;
use crate::listed_shard::ListedShard;
use crate::mutant::{self, Mutant};
use crate::table::Refusal;
use crate::write::{self, Held, RowWrite};

/// More children than this are no answer of the service: a split has two.
const CHILDREN_MAX: usize = 10;

/// The end of one shard, as far as it is known what the table holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ShardEnd {
    parent: LeaseKey,
    children: Vec<Child>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Child {
    shard: ListedShard,
    key: LeaseKey,
    has_row: bool,
    merged_with: Option<Other>,
}

/// The other parent of a merge's child.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Other {
    key: LeaseKey,
    has_row: bool,
}

/// One write of the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Finishes the parent.
    Parent,
    /// Makes the row of the child with this number.
    MakeChild(usize),
    /// Makes sure that the child's row exists.
    ChildExists(usize),
    /// Makes sure that the other parent's row is as it was believed to be.
    OtherParent(LeaseKey),
}

/// What to do after a transaction that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The plan was corrected: send it again at once.
    Again,
    /// Somebody else is writing: send it again after a while.
    Later,
    /// The parent's row is not as the holder knows it; this is what it holds.
    ParentChanged(Option<Item>),
}

impl ShardEnd {
    /// Plans the end of `parent`. `has_row` says what is believed of other rows; it may be wrong.
    ///
    /// # Errors
    /// The child that is none, and why.
    pub(crate) fn new(
        parent: &LeaseKey,
        children: Vec<ListedShard>,
        has_row: impl Fn(&LeaseKey) -> bool,
    ) -> Result<Self, (ShardId, &'static str)> {
        let me = parent.shard();
        let mut seen = BTreeSet::new();
        let mut planned = Vec::new();
        for shard in children {
            let id = shard.shard_id.clone();
            let parents = graph::parents_of(&shard);
            if parents.contains(&id) || id == me {
                return Err((id, "it is named as its own ancestor"));
            }
            if !parents.contains(&me) {
                return Err((id, "it does not name this shard as a parent"));
            }
            if !seen.insert(id.clone()) {
                return Err((id, "it is named twice"));
            }
            if seen.len() > CHILDREN_MAX {
                return Err((id, "there are too many children"));
            }
            let other = parents.iter().find(|p| **p != me);
            let merged_with = other.map(|other| {
                let key = parent.relative(other);
                let has_row = has_row(&key);
                Other { key, has_row }
            });
            let key = parent.relative(&id);
            planned.push(Child {
                has_row: has_row(&key),
                key,
                shard,
                merged_with,
            });
        }
        // One item can be in a transaction only once.
        let clash = planned.iter().find(|child| {
            let other = child.merged_with.as_ref();
            other.is_some_and(|other| seen.contains(&other.key.shard()))
        });
        if let Some(child) = clash {
            return Err((
                child.shard.shard_id.clone(),
                "its other parent is named as a child",
            ));
        }
        Ok(Self {
            parent: parent.clone(),
            children: planned,
        })
    }

    /// The transaction, each write with its part in it. `counter` starts new rows.
    pub(crate) fn writes(&self, held: &Held, counter: u64) -> Vec<(Part, RowWrite)> {
        let mut writes = vec![(Part::Parent, write::shard_end(held, &self.children()))];
        if mutant::is(Mutant::ShardEndBeforeChildren) {
            return writes;
        }
        let mut checked = BTreeSet::new();
        for (number, child) in self.children.iter().enumerate() {
            if let Some(other) = child.merged_with.as_ref().filter(|_| !child.has_row)
                && checked.insert(&other.key)
                && !mutant::is(Mutant::MergeChildEarly)
            {
                let check = match other.has_row {
                    true => write::check_exists(&other.key),
                    false => write::check_absent(&other.key),
                };
                writes.push((Part::OtherParent(other.key.clone()), check));
            }
            if child.has_row {
                writes.push((Part::ChildExists(number), write::check_exists(&child.key)));
            } else if child.is_made() {
                let put = write::create_lease(&child.new_lease(), counter);
                writes.push((Part::MakeChild(number), put));
            }
        }
        writes
    }

    /// Corrects the plan after a transaction that was refused.
    pub(crate) fn refused(&mut self, parts: &[Part], refusals: Vec<Refusal>) -> Reaction {
        let mut corrected = false;
        for (part, refusal) in parts.iter().zip(refusals) {
            let Refusal::Condition(found) = refusal else {
                continue;
            };
            corrected = true;
            match part {
                Part::Parent => return Reaction::ParentChanged(found),
                Part::MakeChild(number) | Part::ChildExists(number) => {
                    if let Some(child) = self.children.get_mut(*number) {
                        child.has_row = found.is_some();
                    }
                }
                Part::OtherParent(key) => {
                    let others = self
                        .children
                        .iter_mut()
                        .filter_map(|c| c.merged_with.as_mut());
                    for other in others.filter(|other| other.key == *key) {
                        other.has_row = found.is_some();
                    }
                }
            }
        }
        match corrected {
            true => Reaction::Again,
            false => Reaction::Later,
        }
    }

    /// What became of the children once the transaction was applied.
    pub(crate) fn outcome(&self) -> ShardEndOutcome {
        let id = |child: &Child| child.shard.shard_id.clone();
        let (ready, waiting): (Vec<_>, Vec<_>) =
            self.children.iter().partition(|child| child.gets_row());
        ShardEndOutcome {
            children: ready.into_iter().map(id).collect(),
            waiting: waiting.into_iter().map(id).collect(),
        }
    }

    /// The rows that the transaction made.
    pub(crate) fn made(&self) -> impl Iterator<Item = NewLease> + '_ {
        let made = self.children.iter().filter(|c| !c.has_row && c.is_made());
        made.map(Child::new_lease)
    }

    /// Keys of children that had a row before.
    pub(crate) fn found(&self) -> impl Iterator<Item = &LeaseKey> + '_ {
        self.children.iter().filter(|c| c.has_row).map(|c| &c.key)
    }

    /// The children that the parent's row names: those that have a row with it. A row that is named and not there was
    /// deleted.
    pub(crate) fn children(&self) -> BTreeSet<ShardId> {
        let with_row = self.children.iter().filter(|child| child.gets_row());
        with_row.map(|child| child.shard.shard_id.clone()).collect()
    }
}

impl Child {
    fn gets_row(&self) -> bool {
        self.has_row || self.is_made()
    }

    fn is_made(&self) -> bool {
        if mutant::is(Mutant::MergeChildEarly) {
            return true;
        }
        self.merged_with.as_ref().is_none_or(|other| other.has_row)
    }

    fn new_lease(&self) -> NewLease {
        graph::new_lease(&self.shard, self.key.clone(), Checkpoint::TrimHorizon)
    }
}

#[cfg(test)]
#[path = "shard_end_tests.rs"]
mod tests;
