//! Rows for tests of this crate.

use std::collections::BTreeSet;

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};

use crate::item::{Item, Value, attribute};
use crate::key::LeaseKey;
use crate::lease::{Lease, NewLease, new_lease_item};
use crate::orders::Obeyed;

/// An unowned lease at TRIM_HORIZON.
pub(crate) fn lease(shard: &str) -> Lease {
    Lease {
        key: LeaseKey::from(shard),
        owner: None,
        counter: 0,
        checkpoint: Checkpoint::TrimHorizon,
        owner_switches: 0,
        parents: BTreeSet::new(),
        children: BTreeSet::new(),
        hash_range: None,
        pending: None,
        checkpoint_owner: None,
        obeyed: Obeyed::default(),
    }
}

/// The item of a lease.
pub(crate) fn lease_item(lease: &Lease) -> Item {
    let new = NewLease {
        key: lease.key.clone(),
        checkpoint: lease.checkpoint.clone(),
        parents: lease.parents.clone(),
        hash_range: lease.hash_range,
    };
    let mut item = new_lease_item(&new, lease.counter);
    if let Some(owner) = &lease.owner {
        let owner = Value::text(owner.as_str());
        item.insert(attribute::OWNER.to_owned(), owner);
    }
    lease.obeyed.store(&mut item);
    if !lease.children.is_empty() {
        let children = Value::texts(&lease.children);
        item.insert(attribute::CHILDREN.to_owned(), children);
    }
    item
}

/// A checkpoint at a record.
pub(crate) fn at(number: u64) -> Checkpoint {
    let number = SequenceNumber::parse(&number.to_string()).expect("digits");
    Checkpoint::At(Position::new(number, 0))
}
