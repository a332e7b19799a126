//! The item that says who leads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::item::{Item, Value, attribute, entity};
use crate::key::WorkerId;
use crate::row_reader::{RowError, RowReader};

/// The key of the leader item. `Leader` belongs to the Java library.
pub const LEADER_KEY: &str = "SessionLeader";

/// The leader item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderItem {
    /// The leading worker.
    pub leader: WorkerId,
    /// The worker that watches heartbeats besides the leader.
    pub deputy: Option<WorkerId>,
    /// Grows while the leader leads.
    pub round: u64,
    /// How long each worker's heartbeat has had which value, as the leader saw it.
    pub ages: BTreeMap<WorkerId, HeartbeatAge>,
}

/// A heartbeat value and for how long it has been the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatAge {
    /// The value.
    pub heartbeat: u64,
    /// Its age when the message was written.
    pub age: Duration,
}

impl LeaderItem {
    /// Reads an item; `None` if it is not the leader item.
    ///
    /// # Errors
    /// When an attribute is missing, has a wrong type, a wrong value or an absurd size.
    pub fn from_item(item: &Item) -> Result<Option<Self>, RowError> {
        let row = RowReader(item);
        if row.optional_text(attribute::ENTITY_TYPE)? != Some(entity::LEADER) {
            return Ok(None);
        }
        let ages = row.optional_map(attribute::AGES)?;
        Ok(Some(Self {
            leader: WorkerId::from(row.text(attribute::LEADER)?),
            deputy: row.optional_text(attribute::DEPUTY)?.map(WorkerId::from),
            round: row.number(attribute::ROUND)?,
            ages: ages
                .into_iter()
                .flatten()
                .map(|(worker, value)| Ok((WorkerId::from(worker.as_str()), read_age(row, value)?)))
                .collect::<Result<_, RowError>>()?,
        }))
    }
}

fn read_age(row: RowReader<'_>, value: &Value) -> Result<HeartbeatAge, RowError> {
    let pair = match value {
        Value::L(values) => values.as_slice(),
        _ => &[],
    };
    let [Value::N(heartbeat), Value::N(age)] = pair else {
        return Err(row.error(attribute::AGES, "has an entry that is no pair of numbers"));
    };
    Ok(HeartbeatAge {
        heartbeat: row.parse_number(attribute::AGES, heartbeat)?,
        age: Duration::from_millis(row.parse_number(attribute::AGES, age)?),
    })
}
