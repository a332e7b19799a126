//! The service at the level of `call`, with the moment in the test's hand.

#![expect(
    clippy::needless_pass_by_value,
    reason = "requests and values are written in place with json!"
)]

mod capacity;
mod hostile;
mod reads;
mod stale;
mod tables;
mod transactions;
mod writes;

use serde_json::{Value, json};

use super::*;

/// A service and the moment of its next call.
struct Rig {
    db: DynamoDb,
    now: Timestamp,
}

impl Rig {
    fn new(config: DynamoDbConfig) -> Self {
        Self {
            db: DynamoDb::new(config),
            now: Timestamp(1_800_000_000_000),
        }
    }

    /// A service with an active on-demand table `Rows` whose key is the text `id`.
    fn with_table() -> Self {
        Self::with_table_named("Rows")
    }

    fn with_table_named(name: &str) -> Self {
        let mut rig = Self::new(DynamoDbConfig::default());
        rig.create(table(name));
        rig
    }

    /// Creates a table and lets it become active.
    fn create(&mut self, request: Value) {
        self.call("CreateTable", request);
        self.wait(1000);
    }

    fn wait(&mut self, milliseconds: i64) {
        self.now = self.now.plus(milliseconds);
    }

    fn send(&mut self, operation: &str, request: &Value) -> Result<Value, ApiError> {
        self.read(operation, request, ReadView::Current)
    }

    fn read(
        &mut self,
        operation: &str,
        request: &Value,
        view: ReadView,
    ) -> Result<Value, ApiError> {
        let caller = Caller::new("test");
        let body = request.to_string();
        let answer = self
            .db
            .call_with(self.now, &caller, operation, body.as_bytes(), view)?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    fn call(&mut self, operation: &str, request: Value) -> Value {
        self.send(operation, &request)
            .unwrap_or_else(|error| panic!("{operation} {request}: {error}"))
    }

    fn fail(&mut self, operation: &str, request: Value) -> ApiError {
        match self.send(operation, &request) {
            Ok(answer) => panic!("{operation} {request} was answered: {answer}"),
            Err(error) => error,
        }
    }

    fn put(&mut self, item: Value) {
        self.call("PutItem", json!({"TableName": "Rows", "Item": item}));
    }

    fn get(&mut self, id: &str) -> Value {
        let request = json!({"TableName": "Rows", "Key": key(id), "ConsistentRead": true});
        self.call("GetItem", request)["Item"].clone()
    }

    /// Evaluates a condition against row `id` of table `Rows`.
    fn holds(&mut self, id: &str, condition: &str, values: Value) -> bool {
        let mut request = json!({"TableName": "Rows", "Key": key(id),
            "ConditionExpression": condition, "UpdateExpression": "SET touched = id"});
        if values != json!({}) {
            request["ExpressionAttributeValues"] = values;
        }
        match self.send("UpdateItem", &request) {
            Ok(_) => true,
            Err(error) if error.code == "ConditionalCheckFailedException" => false,
            Err(error) => panic!("{condition}: {error}"),
        }
    }
}

fn table(name: &str) -> Value {
    json!({"TableName": name, "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}]})
}

/// A table with an index `by-owner` on the text `owner`.
fn indexed_table(name: &str) -> Value {
    let mut table = table(name);
    table["AttributeDefinitions"] = json!([{"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "owner", "AttributeType": "S"}]);
    table["GlobalSecondaryIndexes"] = json!([owner_index()]);
    table
}

fn owner_index() -> Value {
    json!({"IndexName": "by-owner", "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"}})
}

fn key(id: &str) -> Value {
    json!({"id": {"S": id}})
}

fn set(id: &str, attribute: &str, value: Value) -> Value {
    json!({"TableName": "Rows", "Key": key(id), "UpdateExpression": format!("SET {attribute} = :v"),
        "ExpressionAttributeValues": {":v": value}})
}

fn names(items: &Value) -> Vec<&str> {
    let items = items.as_array().unwrap();
    items
        .iter()
        .map(|item| item["id"]["S"].as_str().unwrap())
        .collect()
}
