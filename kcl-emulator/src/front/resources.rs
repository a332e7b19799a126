//! What a request is about: stream and shard, table and lease key. Faults are keyed by it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::request::{Call, Dialect};
use crate::wire::Wire;

/// What a request names, the widest first, and the actions that IAM would check for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) resources: Vec<String>,
    pub(super) actions: Vec<String>,
}

/// Reads the names out of a request; one that cannot be read names nothing.
pub(super) fn of(call: &Call) -> Named {
    match call.dialect {
        Dialect::Kinesis(wire) => of_kinesis(wire, &call.body),
        Dialect::DynamoDb => of_dynamodb(&call.body),
        Dialect::CloudWatch(_) => Named::default(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct KinesisNames {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    shard_id: Option<String>,
    shard_to_split: Option<String>,
    shard_to_merge: Option<String>,
    shard_iterator: Option<String>,
}

fn of_kinesis(wire: Wire, body: &[u8]) -> Named {
    let names: KinesisNames = wire.decode(body).unwrap_or_default();
    let iterated = names
        .shard_iterator
        .as_deref()
        .and_then(crate::kinesis::iterator_target);
    let (iterated_stream, iterated_shard) = iterated.unzip();
    let stream = [
        names.stream_name,
        names.stream_arn.as_deref().and_then(stream_of_arn),
        names.consumer_arn.as_deref().and_then(stream_of_arn),
        iterated_stream,
    ];
    let shards = [
        names.shard_id,
        names.shard_to_split,
        names.shard_to_merge,
        iterated_shard,
    ];
    let stream = stream.into_iter().flatten().next();
    Named {
        resources: stream
            .into_iter()
            .chain(shards.into_iter().flatten())
            .collect(),
        actions: Vec::new(),
    }
}

/// The stream's name in the ARN of a stream or of a consumer.
fn stream_of_arn(arn: &str) -> Option<String> {
    let (_, path) = arn.split_once(":stream/")?;
    path.split('/').next().map(str::to_owned)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DynamoDbNames {
    table_name: Option<String>,
    key: Map<String, Value>,
    item: Map<String, Value>,
    transact_items: Vec<Map<String, Value>>,
}

fn of_dynamodb(body: &[u8]) -> Named {
    let names: DynamoDbNames = Wire::Json.decode(body).unwrap_or_default();
    let mut named = Named::default();
    named.add(&names);
    for write in names.transact_items {
        for (kind, member) in write {
            named.actions.push(action_inside(&kind).to_owned());
            named.add(&serde_json::from_value(member).unwrap_or_default());
        }
    }
    named
}

/// The IAM action of one member of a transaction
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html>).
fn action_inside(kind: &str) -> &str {
    match kind {
        "Put" => "PutItem",
        "Update" => "UpdateItem",
        "Delete" => "DeleteItem",
        "Get" => "GetItem",
        "ConditionCheck" => "ConditionCheckItem",
        other => other,
    }
}

impl Named {
    fn add(&mut self, names: &DynamoDbNames) {
        let table = names.table_name.as_deref().map(table_of_arn);
        let key = names.key.values().filter_map(string_value);
        let item = names.item.get("leaseKey").and_then(string_value);
        for name in table.into_iter().chain(key).chain(item) {
            if !self.resources.iter().any(|known| known == name) {
                self.resources.push(name.to_owned());
            }
        }
    }
}

/// Tables may be named by ARN.
fn table_of_arn(name: &str) -> &str {
    name.split_once(":table/").map_or(name, |(_, table)| table)
}

fn string_value(attribute: &Value) -> Option<&str> {
    attribute.get("S")?.as_str()
}
