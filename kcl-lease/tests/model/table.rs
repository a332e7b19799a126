//! The lease table: items by number, changed by applying production writes.

use std::time::Duration;

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};
use kcl_lease::item::{Item, Value, attribute};
use kcl_lease::write::{self, RowWrite, Term};
use kcl_lease::{Lease, LeaseKey, NewLease, WorkerId, WorkerItem, internals};

use crate::explore::Unordered;
use crate::intern::{Id, Interner, NONE};

/// The shard that everything is about.
pub(crate) const SHARD: &str = "shardId-000000000000";
/// The lease duration in worker items.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(3);

/// What a lease row says, in small numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) owner: Option<u8>,
    pub(crate) counter: u64,
    /// How many records are complete.
    pub(crate) checkpoint: u8,
}

/// All items and writes that were ever met.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) items: Interner<Item>,
    pub(crate) writes: Interner<RowWrite>,
    workers: Vec<WorkerId>,
    rows: Unordered<Id, Row>,
    effects: Unordered<(Id, Id), Option<Id>>,
    takes: Unordered<(Id, u8), Id>,
    /// The counter in a write's condition.
    wanted: Unordered<Id, Option<u64>>,
}

/// The key of the shard's lease.
pub(crate) fn lease_key() -> LeaseKey {
    LeaseKey::from(SHARD)
}

/// The checkpoint after so many records.
pub(crate) fn checkpoint(records: u8) -> Checkpoint {
    match records {
        0 => Checkpoint::TrimHorizon,
        n => {
            let number = SequenceNumber::parse(&n.to_string()).expect("digits");
            Checkpoint::At(Position::new(number, 0))
        }
    }
}

impl Table {
    /// A table for so many worker ids.
    pub(crate) fn new(workers: u8) -> Self {
        let id = |n: u8| WorkerId::new(format!("w{n}/{n:032x}"));
        Self {
            items: Interner::default(),
            writes: Interner::default(),
            workers: (0..workers).map(id).collect(),
            rows: Unordered::default(),
            effects: Unordered::default(),
            takes: Unordered::default(),
            wanted: Unordered::default(),
        }
    }

    pub(crate) fn worker(&self, number: u8) -> &WorkerId {
        &self.workers[usize::from(number)]
    }

    pub(crate) fn worker_number(&self, id: &WorkerId) -> Option<u8> {
        let position = self.workers.iter().position(|known| known == id)?;
        u8::try_from(position).ok()
    }

    /// A new, unowned row of the lease.
    pub(crate) fn new_row(&mut self, counter: u64) -> Id {
        let lease = NewLease {
            key: lease_key(),
            checkpoint: Checkpoint::TrimHorizon,
            parents: Default::default(),
            hash_range: None,
        };
        self.change(NONE, write::create_lease(&lease, counter))
    }

    /// The item of a new session, as its registration puts it.
    pub(crate) fn new_session(&mut self, worker: u8) -> Id {
        let register = self.register(worker);
        self.apply(register, NONE).expect("there was no item")
    }

    pub(crate) fn register(&mut self, worker: u8) -> Id {
        let item = WorkerItem::new(self.worker(worker).clone(), LEASE_DURATION);
        self.writes.id(write::register(&item))
    }

    pub(crate) fn lease(&self, item: Id) -> Option<Lease> {
        let item = self.items.find(item)?;
        Lease::from_item(item).expect("a good row")
    }

    /// What the row says; it must exist.
    pub(crate) fn row(&mut self, item: Id) -> Row {
        if let Some(row) = self.rows.get(&item) {
            return *row;
        }
        let lease = self.lease(item).expect("a row");
        let row = Row {
            owner: lease
                .owner
                .as_ref()
                .map(|owner| self.worker_number(owner).expect("a known worker")),
            counter: lease.counter,
            checkpoint: records(&lease.checkpoint),
        };
        self.rows.insert(item, row);
        row
    }

    /// The counter of a row that was looked at before.
    pub(crate) fn counter(&self, item: Id) -> u64 {
        self.rows.get(&item).map_or(0, |row| row.counter)
    }

    /// The item after the write, `None` if its condition does not hold.
    pub(crate) fn apply(&mut self, write: Id, item: Id) -> Option<Id> {
        if let Some(known) = self.effects.get(&(write, item)) {
            return *known;
        }
        let after = internals::apply(self.writes.get(write), self.items.find(item));
        let after = after.map(|item| item.map_or(NONE, |item| self.items.id(item)));
        self.effects.insert((write, item), after);
        after
    }

    /// Whether the write can never be applied again: it wants an older counter, and counters only grow.
    pub(crate) fn is_too_late(&mut self, write: Id, row: Id) -> bool {
        let (writes, wanted) = (&self.writes, &mut self.wanted);
        let wanted = *wanted
            .entry(write)
            .or_insert_with(|| wanted_counter(writes.get(write)));
        wanted.is_some_and(|wanted| wanted < self.counter(row))
    }

    /// Puts an item through a write that must succeed.
    pub(crate) fn change(&mut self, item: Id, write: RowWrite) -> Id {
        let write = self.writes.id(write);
        self.apply(write, item).expect("the condition holds")
    }

    /// The write with which a worker takes or accepts the lease, as it was read.
    pub(crate) fn take(&mut self, read: Id, worker: u8) -> Id {
        if let Some(known) = self.takes.get(&(read, worker)) {
            return *known;
        }
        let lease = self.lease(read).expect("a row");
        let write = internals::take_write(&lease, self.worker(worker));
        let id = self.writes.id(write);
        self.takes.insert((read, worker), id);
        id
    }
}

fn wanted_counter(write: &RowWrite) -> Option<u64> {
    write.condition.iter().find_map(|term| match term {
        Term::Equals(attribute::COUNTER, Value::N(counter)) => counter.parse().ok(),
        _ => None,
    })
}

/// How many records a checkpoint covers.
pub(crate) fn records(at: &Checkpoint) -> u8 {
    let covered = (0..=9).find(|n| checkpoint(*n) == *at);
    covered.expect("a checkpoint of this model")
}
