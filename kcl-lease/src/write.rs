//! Every write of the lease protocol as data: a condition and a change.
//!
//! The model of the protocol, the in-memory table and DynamoDB all work from these values. A write never replaces a
//! whole existing row, so attributes of other libraries survive.

use std::collections::{BTreeMap, BTreeSet};

use kcl_checkpoint::Checkpoint;

use crate::item::{Item, Value, attribute, entity};
use crate::key::{LeaseKey, ShardId, WorkerId};
use crate::leader_item::{HeartbeatAge, LEADER_KEY};
use crate::lease::{Lease, NewLease, PendingCheckpoint, new_lease_item};
use crate::mutant::{self, Mutant};
pub use crate::row_write::{Attribute, Change, Edit, RowWrite, Term, validate_transaction};
use crate::stream_item::StreamItem;
use crate::worker_item::WorkerItem;
pub use crate::write_orders::{command, delete_command, replace_unreadable};

/// What a holder knows of its lease row: the condition of all its writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Held {
    /// The row.
    pub key: LeaseKey,
    /// The counter that this grant knows.
    pub counter: u64,
    /// The holder.
    pub owner: WorkerId,
}

// --- sessions -------------------------------------------------------------------------------------------------------

/// Write 1: registers a session. Comes before any other write of it.
#[must_use]
pub fn register(worker: &WorkerItem) -> RowWrite {
    put_if_absent(worker.id.as_str(), worker.to_item())
}

/// Write 2: shows that the session is alive; takes consumed hints out of the inbox, so that one that was added in
/// between survives.
#[must_use]
pub fn heartbeat(
    worker: &WorkerId,
    last: u64,
    held_count: u64,
    held_digest: u64,
    consumed: &BTreeSet<String>,
) -> RowWrite {
    let mut edits = vec![
        Edit::Set(attribute::HEARTBEAT, Value::number(last.saturating_add(1))),
        Edit::Set(attribute::HELD_COUNT, Value::number(held_count)),
        Edit::Set(attribute::HELD_DIGEST, Value::number(held_digest)),
    ];
    if !consumed.is_empty() {
        edits.push(Edit::DeleteFromSet(attribute::INBOX, consumed.clone()));
    }
    update(worker.as_str(), vec![heartbeat_is(last)], edits)
}

/// Writes 14 and the end of 15: deletes a worker's item, if its heartbeat is still the one that was seen.
#[must_use]
pub fn delete_worker(worker: &WorkerId, heartbeat: u64) -> RowWrite {
    RowWrite {
        key: worker.as_str().to_owned(),
        condition: match mutant::is(Mutant::DeleteWorkerUnconditional) {
            true => Vec::new(),
            false => vec![heartbeat_is(heartbeat)],
        },
        change: Change::Delete,
    }
}

/// The end of 15 in a worker's own hand: deletes its item, if nothing was put into its inbox but the hints that it knows. Who
/// hands it a lease and finds its item gone looks for somebody else; a hint that goes unread with the item would be lost.
#[must_use]
pub fn farewell(worker: &WorkerId, heartbeat: u64, known: &BTreeSet<String>) -> RowWrite {
    let mut goodbye = delete_worker(worker, heartbeat);
    goodbye.condition.push(match known.is_empty() {
        true => Term::Absent(attribute::INBOX),
        false => Term::Equals(attribute::INBOX, Value::Ss(known.clone())),
    });
    goodbye
}

/// Says how many leases the worker takes, `None` for any number: it registered without room, because it could not start on
/// any yet.
#[must_use]
pub fn make_room(worker: &WorkerId, max_leases: Option<u64>) -> RowWrite {
    let edit = match max_leases {
        Some(max_leases) => Edit::Set(attribute::MAX_LEASES, Value::number(max_leases)),
        None => Edit::Remove(attribute::MAX_LEASES),
    };
    let exists = vec![Term::Present(attribute::HEARTBEAT)];
    update(worker.as_str(), exists, vec![edit])
}

/// The start of write 15: announces that the worker gives its leases away.
#[must_use]
pub fn drain(worker: &WorkerId) -> RowWrite {
    update(
        worker.as_str(),
        vec![Term::Present(attribute::HEARTBEAT)],
        vec![Edit::Set(attribute::DRAINING, Value::Bool(true))],
    )
}

/// Write 12: adds hints to a worker's inbox. The condition keeps it from creating an item for a dead worker.
/// `hints` must not be empty.
#[must_use]
pub fn hint(worker: &WorkerId, hints: &BTreeSet<String>) -> RowWrite {
    update(
        worker.as_str(),
        vec![Term::Present(attribute::HEARTBEAT)],
        vec![Edit::AddToSet(attribute::INBOX, hints.clone())],
    )
}

/// Write 13: takes or keeps the lead. `seen` is the round as it was read, `None` if there was no leader item.
#[must_use]
pub fn lead(
    seen: Option<u64>,
    leader: &WorkerId,
    deputy: Option<&WorkerId>,
    ages: &BTreeMap<WorkerId, HeartbeatAge>,
) -> RowWrite {
    let condition = match seen {
        Some(round) => Term::Equals(attribute::ROUND, Value::number(round)),
        None => Term::Absent(attribute::KEY),
    };
    let round = seen.unwrap_or(0).saturating_add(1);
    let edits = vec![
        Edit::Set(attribute::ENTITY_TYPE, Value::text(entity::LEADER)),
        Edit::Set(attribute::LEADER, Value::text(leader.as_str())),
        Edit::Set(attribute::ROUND, Value::number(round)),
        match deputy {
            Some(deputy) => Edit::Set(attribute::DEPUTY, Value::text(deputy.as_str())),
            None => Edit::Remove(attribute::DEPUTY),
        },
        match ages.is_empty() {
            false => Edit::Set(attribute::AGES, ages_value(ages)),
            true => Edit::Remove(attribute::AGES),
        },
    ];
    update(LEADER_KEY, vec![condition], edits)
}

/// Ends the lead of a worker that stops and knows of no other one, if nobody else took it.
#[must_use]
pub fn abdicate(round: u64) -> RowWrite {
    RowWrite {
        key: LEADER_KEY.to_owned(),
        condition: vec![Term::Equals(attribute::ROUND, Value::number(round))],
        change: Change::Delete,
    }
}

/// Fixes the identity and the starting point of a stream; comes before the stream's first lease.
#[must_use]
pub fn put_stream(stream: &StreamItem) -> RowWrite {
    put_if_absent(&stream.key(), stream.to_item())
}

/// Notes that the leases of a stream's first start were all made.
#[must_use]
pub fn leases_made(stream: &StreamItem) -> RowWrite {
    let edits = vec![Edit::Set(attribute::LEASES_MADE, Value::Bool(true))];
    update(&stream.key(), is_stream(stream), edits)
}

/// The application does not read a stream any more: its leases are about to be deleted. If it comes back meanwhile, those that
/// are missing are made as for a stream that has only just been opened.
#[must_use]
pub fn begin_removal(stream: &StreamItem) -> RowWrite {
    let edits = vec![Edit::Remove(attribute::LEASES_MADE)];
    update(&stream.key(), is_stream(stream), edits)
}

/// The end of a removal: all leases of the stream were deleted. Not if somebody has made leases again.
#[must_use]
pub fn delete_stream(stream: &StreamItem) -> RowWrite {
    let mut condition = is_stream(stream);
    condition.push(Term::Absent(attribute::LEASES_MADE));
    RowWrite {
        key: stream.key(),
        condition,
        change: Change::Delete,
    }
}

/// A reset: the application belongs to another stream from now on. Its leases were deleted before.
#[must_use]
pub fn replace_stream(old: &StreamItem, new: &StreamItem) -> RowWrite {
    RowWrite {
        key: old.key(),
        condition: is_stream(old),
        change: Change::Put(new.to_item()),
    }
}

// --- leases: changes of owner ---------------------------------------------------------------------------------------

/// Creates a lease row, unless there is one. `counter` is the epoch milliseconds.
#[must_use]
pub fn create_lease(lease: &NewLease, counter: u64) -> RowWrite {
    let counter = match mutant::is(Mutant::NewRowCounterZero) {
        true => 0,
        false => counter,
    };
    put_if_absent(lease.key.as_str(), new_lease_item(lease, counter))
}

/// Makes a row that was deleted again as it was last seen, with the owner that it named: nobody else may start while he
/// still works on it. `counter` is larger than any that the row had.
#[must_use]
pub fn restore_lease(last: &Lease, counter: u64) -> RowWrite {
    let lease = NewLease {
        key: last.key.clone(),
        checkpoint: last.checkpoint.clone(),
        parents: last.parents.clone(),
        hash_range: last.hash_range,
    };
    let mut item = new_lease_item(&lease, counter);
    if let Some(owner) = &last.owner {
        let owner = Value::text(owner.as_str());
        item.insert(attribute::OWNER.to_owned(), owner);
    }
    last.obeyed.store(&mut item);
    put_if_absent(last.key.as_str(), item)
}

/// A part of a reset: deletes a lease that nobody has written since it was seen.
#[must_use]
pub fn delete_lease(seen: &Lease) -> RowWrite {
    let owner = match &seen.owner {
        Some(owner) => Term::Equals(attribute::OWNER, Value::text(owner.as_str())),
        None => Term::Absent(attribute::OWNER),
    };
    RowWrite {
        key: seen.key.as_str().to_owned(),
        condition: vec![counter_is(seen.counter), owner],
        change: Change::Delete,
    }
}

/// Write 3: takes a lease from the owner that was seen under the counter that was seen.
#[must_use]
pub fn take_owned(seen: &Held, me: &WorkerId) -> RowWrite {
    let condition = without(
        held_by(seen),
        Mutant::TakeWithoutCounter,
        attribute::COUNTER,
    );
    let condition = without(condition, Mutant::TakeWithoutOwner, attribute::OWNER);
    update(seen.key.as_str(), condition, taken_by(me, seen.counter))
}

/// Write 4: takes a lease that nobody owned under the counter that was seen.
#[must_use]
pub fn take_unowned(key: &LeaseKey, counter: u64, me: &WorkerId) -> RowWrite {
    let condition = vec![counter_is(counter), Term::Absent(attribute::OWNER)];
    update(key.as_str(), condition, taken_by(me, counter))
}

/// Write 5: accepts a lease whose row names the accepting worker.
#[must_use]
pub fn accept(named: &Held) -> RowWrite {
    regrant(named)
}

/// Write 6: grants a lease to its holder again after a lapse or an unanswered write.
#[must_use]
pub fn regrant(held: &Held) -> RowWrite {
    update(
        held.key.as_str(),
        held_by(held),
        vec![next_counter(held.counter)],
    )
}

/// Write 8: gives the lease to `to`. `checkpoint` is the final progress, `None` if the row already has it. `pending` is what
/// the row has prepared.
#[must_use]
pub fn hand_over(
    held: &Held,
    to: &WorkerId,
    checkpoint: Option<&Checkpoint>,
    pending: Option<&PendingCheckpoint>,
) -> RowWrite {
    let mut edits = taken_by(to, held.counter);
    if let Some(checkpoint) = final_progress(checkpoint) {
        edits.extend(progress(checkpoint, pending));
    }
    update(held.key.as_str(), given_away(held), edits)
}

/// Write 9: leaves the lease without owner. `checkpoint` is the final progress, `None` if the row already has it. `pending` is
/// what the row has prepared.
#[must_use]
pub fn release(
    held: &Held,
    checkpoint: Option<&Checkpoint>,
    pending: Option<&PendingCheckpoint>,
) -> RowWrite {
    let mut edits = vec![
        Edit::Remove(attribute::OWNER),
        next_counter(held.counter),
        Edit::Remove(attribute::CHECKPOINT_OWNER),
        Edit::AddNumber(attribute::OWNER_SWITCHES, 1),
    ];
    if let Some(checkpoint) = final_progress(checkpoint) {
        edits.extend(progress(checkpoint, pending));
    }
    update(held.key.as_str(), given_away(held), edits)
}

// --- leases: progress -----------------------------------------------------------------------------------------------

/// Write 7: stores progress. What the row has prepared (`pending`) is over with it, unless it lies beyond: then it stays, for
/// the next holder to learn of it. (The Java library's checkpoints remove it always.)
#[must_use]
pub fn checkpoint(
    held: &Held,
    checkpoint: &Checkpoint,
    pending: Option<&PendingCheckpoint>,
) -> RowWrite {
    let mut edits = vec![
        next_counter(held.counter),
        Edit::Set(attribute::OWNER_SWITCHES, Value::number(0)),
    ];
    edits.extend(progress(checkpoint, pending));
    let condition = held_by(held);
    let condition = without(
        condition,
        Mutant::CheckpointWithoutCounter,
        attribute::COUNTER,
    );
    let condition = without(condition, Mutant::CheckpointWithoutOwner, attribute::OWNER);
    let condition = match mutant::is(Mutant::CheckpointUnconditional) {
        true => vec![Term::Present(attribute::KEY)],
        false => condition,
    };
    update(held.key.as_str(), condition, edits)
}

/// The first phase of a two-phase checkpoint: stores what is about to be committed, the checkpoint stays.
#[must_use]
pub fn prepare(held: &Held, pending: &PendingCheckpoint) -> RowWrite {
    let sub = pending.checkpoint.sub_sequence_number();
    let edits = vec![
        next_counter(held.counter),
        Edit::Set(attribute::PENDING, Value::text(pending.checkpoint.text())),
        Edit::Set(attribute::PENDING_SUB, Value::number(sub)),
        match &pending.state {
            Some(state) => Edit::Set(attribute::PENDING_STATE, Value::B(state.clone())),
            None => Edit::Remove(attribute::PENDING_STATE),
        },
    ];
    update(held.key.as_str(), held_by(held), edits)
}

// --- the end of a shard ---------------------------------------------------------------------------------------------

/// Write 10 (a): the parent's part of the transaction at a shard's end. The children's parts are [`create_lease`] and
/// [`check_exists`], the other parent's [`check_exists`] or [`check_absent`].
#[must_use]
pub fn shard_end(held: &Held, children: &BTreeSet<ShardId>) -> RowWrite {
    let mut write = checkpoint(held, &Checkpoint::ShardEnd, None);
    if let (Change::Update(edits), false) = (&mut write.change, children.is_empty()) {
        edits.push(Edit::Set(attribute::CHILDREN, Value::texts(children)));
    }
    write
}

/// Write 10 (c): the row exists.
#[must_use]
pub fn check_exists(key: &LeaseKey) -> RowWrite {
    check(key, Term::Present(attribute::KEY))
}

/// Write 10 (c): there is no such row.
#[must_use]
pub fn check_absent(key: &LeaseKey) -> RowWrite {
    check(key, Term::Absent(attribute::KEY))
}

/// Write 11: deletes the row of a finished shard.
#[must_use]
pub fn delete_finished(key: &LeaseKey, counter: u64) -> RowWrite {
    let finished = Value::text(Checkpoint::ShardEnd.text());
    RowWrite {
        key: key.as_str().to_owned(),
        condition: without(
            vec![
                Term::Equals(attribute::CHECKPOINT, finished),
                counter_is(counter),
            ],
            Mutant::DeleteFinishedUnconditional,
            attribute::CHECKPOINT,
        ),
        change: Change::Delete,
    }
}

// --- parts ----------------------------------------------------------------------------------------------------------

fn put_if_absent(key: &str, item: Item) -> RowWrite {
    RowWrite {
        key: key.to_owned(),
        condition: vec![Term::Absent(attribute::KEY)],
        change: Change::Put(item),
    }
}

pub(crate) fn update(key: &str, condition: Vec<Term>, edits: Vec<Edit>) -> RowWrite {
    RowWrite {
        key: key.to_owned(),
        condition,
        change: Change::Update(edits),
    }
}

fn check(key: &LeaseKey, term: Term) -> RowWrite {
    RowWrite {
        key: key.as_str().to_owned(),
        condition: vec![term],
        change: Change::Check,
    }
}

fn counter_is(counter: u64) -> Term {
    Term::Equals(attribute::COUNTER, Value::number(counter))
}

fn heartbeat_is(heartbeat: u64) -> Term {
    Term::Equals(attribute::HEARTBEAT, Value::number(heartbeat))
}

fn is_stream(stream: &StreamItem) -> Vec<Term> {
    vec![
        Term::Equals(attribute::STREAM_ARN, Value::text(stream.arn.as_str())),
        Term::Equals(attribute::STREAM_CREATED, Value::number(stream.created_ms)),
    ]
}

pub(crate) fn held_by(held: &Held) -> Vec<Term> {
    let owner = Value::text(held.owner.as_str());
    vec![
        counter_is(held.counter),
        Term::Equals(attribute::OWNER, owner),
    ]
}

/// The condition of giving a lease away.
fn given_away(held: &Held) -> Vec<Term> {
    let condition = held_by(held);
    without(condition, Mutant::ReleaseWithoutCounter, attribute::COUNTER)
}

fn final_progress(checkpoint: Option<&Checkpoint>) -> Option<&Checkpoint> {
    checkpoint.filter(|_| !mutant::is(Mutant::ReleaseWithoutCheckpoint))
}

/// The condition without what it says of `attribute`, if that rule is switched off.
fn without(mut condition: Vec<Term>, rule: Mutant, attribute: Attribute) -> Vec<Term> {
    if mutant::is(rule) {
        condition.retain(|term| !matches!(term, Term::Equals(name, _) if *name == attribute));
    }
    condition
}

pub(crate) fn next_counter(counter: u64) -> Edit {
    Edit::Set(attribute::COUNTER, Value::number(counter.saturating_add(1)))
}

fn taken_by(owner: &WorkerId, counter: u64) -> Vec<Edit> {
    vec![
        Edit::Set(attribute::OWNER, Value::text(owner.as_str())),
        next_counter(counter),
        Edit::Remove(attribute::CHECKPOINT_OWNER),
        Edit::AddNumber(attribute::OWNER_SWITCHES, 1),
    ]
}

/// Stores a checkpoint. What the row has prepared is removed unless it outlasts it.
pub(crate) fn progress(checkpoint: &Checkpoint, pending: Option<&PendingCheckpoint>) -> Vec<Edit> {
    let sub = checkpoint.sub_sequence_number();
    let mut edits = vec![
        Edit::Set(attribute::CHECKPOINT, Value::text(checkpoint.text())),
        Edit::Set(attribute::CHECKPOINT_SUB, Value::number(sub)),
    ];
    if !pending.is_some_and(|pending| pending.outlasts(checkpoint)) {
        let prepared = [
            attribute::PENDING,
            attribute::PENDING_SUB,
            attribute::PENDING_STATE,
        ];
        edits.extend(prepared.map(Edit::Remove));
    }
    edits
}

fn ages_value(ages: &BTreeMap<WorkerId, HeartbeatAge>) -> Value {
    let entry = |(worker, seen): (&WorkerId, &HeartbeatAge)| {
        let age = u64::try_from(seen.age.as_millis()).unwrap_or(u64::MAX);
        let pair = Value::L(vec![Value::number(seen.heartbeat), Value::number(age)]);
        (worker.as_str().to_owned(), pair)
    };
    Value::M(ages.iter().map(entry).collect())
}
