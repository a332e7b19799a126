//! A table as the store does not know it: its states and those of its indexes, derived from the moment
//! of the call.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::request::{Object, text};
use super::{DynamoDbConfig, milliseconds};
use crate::Timestamp;

/// Read and write capacity units for each second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Throughput {
    pub(super) read: f64,
    pub(super) write: f64,
}

/// What the layer knows of one table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    id: String,
    created: Timestamp,
    active_at: Timestamp,
    updated_at: Timestamp,
    /// When the table is gone, once it is being deleted, and its last description.
    deletion: Option<(Timestamp, Value)>,
    /// The names of the key attributes.
    pub(super) key: Vec<String>,
    /// The provisioned throughput; none for an on-demand table.
    pub(super) throughput: Option<Throughput>,
    pub(super) indexes: BTreeMap<String, Index>,
    /// Indexes on their way out: when they are gone and their last description.
    dropped: Vec<(Timestamp, Value)>,
    /// Since when point-in-time recovery is on.
    pub(super) recovery: Option<Recovery>,
}

/// A global secondary index.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// Before this moment resources are allocated, after it the index is filled.
    allocated_at: Timestamp,
    active_at: Timestamp,
    /// Added to an existing table: only then the service shows `Backfilling`.
    online: bool,
    /// The names of its key attributes.
    key: Vec<String>,
    pub(super) throughput: Option<Throughput>,
}

/// Point-in-time recovery of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recovery {
    pub(super) since: Timestamp,
    pub(super) days: i64,
}

/// The state of a table as `TableStatus` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Creating,
    Active,
    Updating,
    Deleting,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

impl Table {
    pub(super) fn new(
        now: Timestamp,
        name: &str,
        description: &Value,
        config: &DynamoDbConfig,
    ) -> Self {
        let active_at = now.plus(milliseconds(config.table_creation));
        let mut table = Self {
            id: table_id(name, now),
            created: now,
            active_at,
            updated_at: active_at,
            deletion: None,
            key: key_attributes(description),
            throughput: None,
            indexes: BTreeMap::new(),
            dropped: Vec::new(),
            recovery: None,
        };
        for name in index_descriptions(description).filter_map(index_name) {
            let index = Index {
                allocated_at: active_at,
                active_at,
                online: false,
                key: Vec::new(),
                throughput: None,
            };
            table.indexes.insert(name.to_owned(), index);
        }
        table.note_description(description);
        table
    }

    pub(super) fn is_gone(&self, now: Timestamp) -> bool {
        matches!(self.deletion, Some((at, _)) if at <= now)
    }

    /// Lets go of indexes that have been dropped by `now`.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.dropped.retain(|(at, _)| *at > now);
    }

    pub(super) fn delete(&mut self, gone_at: Timestamp, description: Value) {
        self.deletion = Some((gone_at, description));
    }

    pub(super) fn deleted_description(&self) -> Option<&Value> {
        self.deletion.as_ref().map(|(_, description)| description)
    }

    pub(super) fn status(&self, now: Timestamp) -> Status {
        if self.deletion.is_some() {
            Status::Deleting
        } else if now < self.active_at {
            Status::Creating
        } else if now < self.updated_at {
            Status::Updating
        } else {
            Status::Active
        }
    }

    /// Since when the table, or one of its indexes, takes calls; none if there is no such index.
    pub(super) fn active_since(&self, index: Option<&str>) -> Option<Timestamp> {
        match index {
            None => Some(self.active_at),
            Some(name) => Some(self.indexes.get(name)?.active_at),
        }
    }

    /// Whether any index is still being created or deleted.
    pub(super) fn has_moving_index(&self, now: Timestamp) -> bool {
        !self.dropped.is_empty() || self.indexes.values().any(|index| now < index.active_at)
    }

    pub(super) fn is_creating(&self, now: Timestamp) -> bool {
        self.status(now) == Status::Creating
    }

    /// The table is `UPDATING` until `until`.
    pub(super) fn update_until(&mut self, until: Timestamp) {
        self.updated_at = self.updated_at.max(until);
    }

    pub(super) fn add_index(&mut self, now: Timestamp, name: &str, config: &DynamoDbConfig) {
        let duration = milliseconds(config.index_creation);
        let allocated_at = now.plus(duration / 2);
        self.update_until(allocated_at);
        self.indexes.insert(
            name.to_owned(),
            Index {
                allocated_at,
                active_at: now.plus(duration),
                online: true,
                key: Vec::new(),
                throughput: None,
            },
        );
    }

    pub(super) fn drop_index(
        &mut self,
        now: Timestamp,
        name: &str,
        mut description: Value,
        config: &DynamoDbConfig,
    ) {
        let gone_at = now.plus(milliseconds(config.table_update));
        self.update_until(gone_at);
        self.indexes.remove(name);
        if let Value::Object(description) = &mut description {
            description.insert("IndexStatus".to_owned(), json!("DELETING"));
            self.dropped
                .push((gone_at, Value::Object(description.clone())));
        }
    }

    /// The key attributes of an index; none if there is no such index.
    pub(super) fn index_key(&self, name: &str) -> &[String] {
        self.indexes.get(name).map_or(&[], |index| &index.key)
    }

    /// Takes the provisioned throughput and the keys of indexes from a description.
    pub(super) fn note_description(&mut self, description: &Value) {
        let on_demand = description
            .pointer("/BillingModeSummary/BillingMode")
            .and_then(Value::as_str)
            == Some("PAY_PER_REQUEST");
        let provisioned = |of: &Value| (!on_demand).then(|| throughput(of)).flatten();
        self.throughput = provisioned(description);
        for of in index_descriptions(description) {
            if let Some(index) = index_name(of).and_then(|name| self.indexes.get_mut(name)) {
                index.throughput = provisioned(of);
                index.key = key_attributes(of);
            }
        }
    }

    /// Writes the state at `now` into a description that the store gave.
    pub(super) fn complete(
        &self,
        now: Timestamp,
        name: &str,
        description: &mut Object,
        config: &DynamoDbConfig,
    ) {
        let arn = table_arn(name, config);
        description.insert("TableStatus".to_owned(), json!(self.status(now).name()));
        description.insert(
            "CreationDateTime".to_owned(),
            json!(self.created.as_seconds()),
        );
        description.insert("TableId".to_owned(), json!(self.id));
        description.insert("TableArn".to_owned(), json!(arn));
        if let Some(Value::Array(indexes)) = description.get_mut("LocalSecondaryIndexes") {
            for index in indexes.iter_mut().filter_map(Value::as_object_mut) {
                set_index_arn(index, &arn);
            }
        }
        if !self.dropped.is_empty() {
            let indexes = description
                .entry("GlobalSecondaryIndexes")
                .or_insert_with(|| json!([]));
            if let Value::Array(indexes) = indexes {
                // The store may name an index once more that it has just dropped.
                indexes.retain(|index| self.has_index(index));
                indexes.extend(self.dropped.iter().map(|(_, index)| index.clone()));
            }
        }
        if let Some(Value::Array(indexes)) = description.get_mut("GlobalSecondaryIndexes") {
            for index in indexes.iter_mut().filter_map(Value::as_object_mut) {
                set_index_arn(index, &arn);
                self.complete_index(now, index);
            }
        }
    }

    fn has_index(&self, description: &Value) -> bool {
        index_name(description).is_some_and(|name| self.indexes.contains_key(name))
    }

    fn complete_index(&self, now: Timestamp, description: &mut Object) {
        let known = text(description, "IndexName").and_then(|name| self.indexes.get(name));
        let Some(index) = known else {
            return;
        };
        let creating = now < index.active_at;
        let status = match (self.deletion.is_some(), creating) {
            (true, _) => "DELETING",
            (false, true) => "CREATING",
            (false, false) => "ACTIVE",
        };
        description.insert("IndexStatus".to_owned(), json!(status));
        if index.online && creating {
            let filling = now >= index.allocated_at;
            description.insert("Backfilling".to_owned(), json!(filling));
        }
    }
}

fn set_index_arn(index: &mut Object, table_arn: &str) {
    if let Some(name) = text(index, "IndexName") {
        let arn = format!("{table_arn}/index/{name}");
        index.insert("IndexArn".to_owned(), json!(arn));
    }
}

fn table_arn(name: &str, config: &DynamoDbConfig) -> String {
    let (region, account) = (&config.region, &config.account);
    format!("arn:aws:dynamodb:{region}:{account}:table/{name}")
}

/// An id that is the same for the same table created at the same moment.
fn table_id(name: &str, created: Timestamp) -> String {
    use md5::{Digest, Md5};
    let digest = Md5::new()
        .chain_update(created.0.to_be_bytes())
        .chain_update(name)
        .finalize();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let (a, b, c, d, e) = (
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32),
    );
    format!("{a}-{b}-4{c}-8{d}-{e}")
}

fn key_attributes(description: &Value) -> Vec<String> {
    let schema = description.get("KeySchema").and_then(Value::as_array);
    schema
        .into_iter()
        .flatten()
        .filter_map(|element| element.get("AttributeName")?.as_str())
        .map(str::to_owned)
        .collect()
}

fn index_descriptions(description: &Value) -> impl Iterator<Item = &Value> {
    let indexes = description
        .get("GlobalSecondaryIndexes")
        .and_then(Value::as_array);
    indexes.into_iter().flatten()
}

fn index_name(description: &Value) -> Option<&str> {
    description.get("IndexName")?.as_str()
}

fn throughput(description: &Value) -> Option<Throughput> {
    let provisioned = description.get("ProvisionedThroughput")?;
    Some(Throughput {
        read: provisioned.get("ReadCapacityUnits")?.as_f64()?,
        write: provisioned.get("WriteCapacityUnits")?.as_f64()?,
    })
}
