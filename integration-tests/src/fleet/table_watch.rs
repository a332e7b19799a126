//! The lease table from the side, past faults and counters: its present rows, and every change of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_core::Runtime;
use kcl_emulator::dynamodb::ReadView;
use kcl_emulator::{Caller, Emulator};
use kcl_lease::item::entity;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::clock::{At, now};
use crate::APPLICATION;

/// How often the table is looked at. Two changes of a row in between are seen as one.
const PERIOD: Duration = Duration::from_millis(25);

/// What matters of a lease row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The name of the worker that owns it.
    pub(super) owner: Option<String>,
    pub(super) checkpoint: String,
    pub(super) sub_sequence_number: u64,
    pub(super) counter: u64,
}

impl Row {
    pub(super) fn is_finished(&self) -> bool {
        self.checkpoint == "SHARD_END"
    }
}

/// A row as it was from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowSeen {
    pub(super) at: At,
    pub(super) shard: String,
    /// None: the row was deleted.
    pub(super) row: Option<Row>,
}

/// Everything in the table at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) leases: BTreeMap<String, Row>,
    /// The name of the leading worker, if anybody leads.
    pub(super) leader: Option<String>,
    /// Bytes of all items, by DynamoDB's rule.
    pub(super) bytes: u64,
}

/// Watches the table in the background. Dropping it ends that.
#[derive(Debug)]
pub(super) struct TableWatch {
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    now: Snapshot,
    changes: Vec<RowSeen>,
}

impl TableWatch {
    pub(super) fn start(emulator: Emulator) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let noted = Arc::clone(&seen);
        let task = Runtime::production().spawn(async move {
            let mut interval = tokio::time::interval(PERIOD);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                // Taken before the look: what was seen was so at the latest then.
                let (snapshot, at) = (look(&emulator, APPLICATION), now());
                lock(&noted).note(snapshot, at);
            }
        });
        Self { seen, _task: task }
    }

    pub(super) fn now(&self) -> Snapshot {
        lock(&self.seen).now.clone()
    }

    pub(super) fn changes(&self) -> Vec<RowSeen> {
        lock(&self.seen).changes.clone()
    }
}

impl Seen {
    fn note(&mut self, snapshot: Snapshot, at: At) {
        let gone = self.now.leases.keys();
        let gone = gone.filter(|shard| !snapshot.leases.contains_key(*shard));
        let gone = gone.map(|shard| (shard, None));
        let there = snapshot
            .leases
            .iter()
            .map(|(shard, row)| (shard, Some(row)));
        let changed: Vec<RowSeen> = there
            .chain(gone)
            .filter(|(shard, row)| self.now.leases.get(*shard) != *row)
            .map(|(shard, row)| RowSeen {
                at,
                shard: shard.clone(),
                row: row.cloned(),
            })
            .collect();
        self.changes.extend(changed);
        self.now = snapshot;
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the whole table of an application. Empty while there is none.
pub(super) fn look(emulator: &Emulator, application: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut start: Option<Value> = None;
    loop {
        let mut request = serde_json::json!({ "TableName": application, "ConsistentRead": true });
        if let (Some(start), Some(request)) = (start, request.as_object_mut()) {
            request.insert("ExclusiveStartKey".to_owned(), start);
        }
        let answer = emulator.dynamodb(
            emulator.clock().now(),
            &Caller::new("harness"),
            "Scan",
            request.to_string().as_bytes(),
            ReadView::Current,
        );
        let answer: Value = answer
            .ok()
            .and_then(|answer| serde_json::from_slice(&answer).ok())
            .unwrap_or_default();
        for item in answer
            .get("Items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            snapshot.add(item);
        }
        start = answer.get("LastEvaluatedKey").cloned();
        if start.is_none() {
            return snapshot;
        }
    }
}

impl Snapshot {
    fn add(&mut self, item: &Value) {
        self.bytes += size(item);
        let text = |name: &str| item.get(name)?.get("S")?.as_str();
        match (text("leaseKey"), text("entityType")) {
            (Some(_), Some(entity::LEADER)) => {
                self.leader = text("leader").map(|id| name_of(id).to_owned());
            }
            (Some(shard), None | Some(entity::LEASE)) => {
                let number = |name: &str| item.get(name)?.get("N")?.as_str()?.parse().ok();
                let row = Row {
                    owner: text("leaseOwner").map(|id| name_of(id).to_owned()),
                    checkpoint: text("checkpoint").unwrap_or_default().to_owned(),
                    sub_sequence_number: number("checkpointSubSequenceNumber").unwrap_or(0),
                    counter: number("leaseCounter").unwrap_or(0),
                };
                self.leases.insert(shard.to_owned(), row);
            }
            _ => {}
        }
    }
}

/// The part of a worker's id that the harness gave it.
pub(super) fn name_of(worker_id: &str) -> &str {
    worker_id
        .split_once('/')
        .map_or(worker_id, |(name, _)| name)
}

/// The size of an item, by DynamoDB's rule and a little above it: names and values in UTF-8, a number one byte for two
/// digits and one more, three bytes and one for each entry of a list, set or map.
fn size(item: &Value) -> u64 {
    let attributes = item.as_object().into_iter().flatten();
    attributes
        .map(|(name, value)| name.len() as u64 + value_size(value))
        .sum()
}

fn value_size(value: &Value) -> u64 {
    let Some((kind, value)) = value.as_object().and_then(|value| value.iter().next()) else {
        return 1;
    };
    match (kind.as_str(), value) {
        ("N", Value::String(digits)) => digits.len() as u64 / 2 + 2,
        (_, Value::String(text)) => text.len() as u64,
        (_, Value::Array(values)) => 3 + values.iter().map(|v| 1 + element_size(v)).sum::<u64>(),
        ("M", map) => 3 + size(map),
        _ => 1,
    }
}

fn element_size(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        typed => value_size(typed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_and_the_leader_are_told_from_other_items() {
        let mut snapshot = Snapshot::default();
        snapshot.add(&json!({
            "leaseKey": {"S": "shard"}, "entityType": {"S": "LEASE"}, "leaseOwner": {"S": "w1/00"}, "checkpoint": {"S": "TRIM_HORIZON"},
            "leaseCounter": {"N": "12"},
        }));
        snapshot.add(&json!({
            "leaseKey": {"S": "SessionLeader"}, "entityType": {"S": "SESSION_LEADER"}, "leader": {"S": "w2/01"},
        }));
        snapshot.add(&json!({ "leaseKey": {"S": "w2/01"}, "entityType": {"S": "SESSION_WORKER"} }));
        assert_eq!(snapshot.leader.as_deref(), Some("w2"));
        assert_eq!(
            snapshot.leases.into_iter().collect::<Vec<_>>(),
            [(
                "shard".to_owned(),
                Row {
                    owner: Some("w1".to_owned()),
                    checkpoint: "TRIM_HORIZON".to_owned(),
                    sub_sequence_number: 0,
                    counter: 12
                }
            )]
        );
    }

    #[test]
    fn changes_are_noted_once() {
        let row = |owner: &str| Row {
            owner: Some(owner.to_owned()),
            checkpoint: "1".to_owned(),
            sub_sequence_number: 0,
            counter: 1,
        };
        let snapshot = |owner: &str| Snapshot {
            leases: BTreeMap::from([("s".to_owned(), row(owner))]),
            ..Snapshot::default()
        };
        let mut seen = Seen::default();
        seen.note(snapshot("a"), Duration::from_secs(1));
        seen.note(snapshot("a"), Duration::from_secs(2));
        seen.note(snapshot("b"), Duration::from_secs(3));
        seen.note(Snapshot::default(), Duration::from_secs(4));
        let changes: Vec<_> = seen
            .changes
            .iter()
            .map(|change| (change.at.as_secs(), change.row.clone()))
            .collect();
        assert_eq!(
            changes,
            [(1, Some(row("a"))), (3, Some(row("b"))), (4, None)]
        );
    }
}
