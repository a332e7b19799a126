//! The emulator's DynamoDB, called directly with JSON, as the lease table: the engine of checked runs, and of what is done
//! to the table in runs through the SDK.

use kcl_emulator::dynamodb::ReadView;
use kcl_emulator::{ApiError, Caller};
use kcl_lease::item::Item;
use kcl_lease::table::{Prepared, Refusal, ScanPage, ScanToken, Transacted, Written};
use kcl_lease::write::{Change, RowWrite};
use serde_json::{Value as Json, json};

use super::encoding::{decode_item, encode_item, key, request, transaction};
use super::{APPLICATION, SCAN_PAGE};

/// The engine as one caller meets it, at one moment.
pub(super) struct Engine<'a> {
    pub(super) emulator: &'a kcl_emulator::Emulator,
    pub(super) caller: &'a Caller,
}

impl Engine<'_> {
    fn call(&self, operation: &str, body: &Json, back: usize) -> Result<Json, ApiError> {
        let view = match back {
            0 => ReadView::Current,
            versions_back => ReadView::Stale { versions_back },
        };
        let now = self.emulator.clock().now();
        let body = body.to_string();
        let answer = self
            .emulator
            .dynamodb(now, self.caller, operation, body.as_bytes(), view)?;
        serde_json::from_slice(&answer)
            .map_err(|error| ApiError::client("SerializationException", error.to_string()))
    }

    pub(super) fn prepare(&self) -> Result<Prepared, ApiError> {
        let describe = json!({ "TableName": APPLICATION });
        if self.call("DescribeTable", &describe, 0).is_ok() {
            return Ok(Prepared { created: false });
        }
        let create = json!({
            "TableName": APPLICATION,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "leaseKey", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "leaseKey", "KeyType": "HASH" }],
        });
        self.call("CreateTable", &create, 0)?;
        Ok(Prepared { created: true })
    }

    pub(super) fn get(
        &self,
        row: &str,
        strong: bool,
        back: usize,
    ) -> Result<Option<Item>, ApiError> {
        let body = json!({ "TableName": APPLICATION, "Key": key(row), "ConsistentRead": strong });
        let answer = self.call("GetItem", &body, back)?;
        Ok(member(answer, "Item").and_then(decode_item))
    }

    pub(super) fn scan(
        &self,
        page: Option<&ScanToken>,
        strong: bool,
        back: usize,
    ) -> Result<ScanPage, ApiError> {
        let mut body = json!({
            "TableName": APPLICATION,
            "ConsistentRead": strong,
            "Limit": SCAN_PAGE,
        });
        if let Some(ScanToken(start)) = page {
            set(&mut body, "ExclusiveStartKey", encode_item(start));
        }
        let mut answer = self.call("Scan", &body, back)?;
        let items = match answer.get_mut("Items").map(Json::take) {
            Some(Json::Array(items)) => items,
            _ => Vec::new(),
        };
        let next = member(answer, "LastEvaluatedKey").and_then(decode_item);
        Ok(ScanPage {
            items: items.into_iter().filter_map(decode_item).collect(),
            next: next.map(ScanToken),
        })
    }

    pub(super) fn write(&self, write: &RowWrite) -> Result<Written, ApiError> {
        let (operation, mut body) = request(APPLICATION, write);
        if operation == "UpdateItem" {
            set(&mut body, "ReturnValues", json!("ALL_NEW"));
        }
        match self.call(operation, &body, 0) {
            Ok(answer) => {
                let after = match &write.change {
                    Change::Put(item) => Some(item.clone()),
                    Change::Update(_) => member(answer, "Attributes").and_then(decode_item),
                    Change::Delete | Change::Check => None,
                };
                Ok(Written::Applied(after.unwrap_or_default()))
            }
            Err(mut error) if error.code == "ConditionalCheckFailedException" => {
                let item = error.members.remove("Item");
                Ok(Written::Refused(item.and_then(decode_item)))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn transact(&self, writes: &[RowWrite]) -> Result<Transacted, ApiError> {
        let body = transaction(APPLICATION, writes);
        match self.call("TransactWriteItems", &body, 0) {
            Ok(_) => Ok(Transacted::Applied),
            Err(mut error) if error.code == "TransactionCanceledException" => {
                let reasons = error.members.remove("CancellationReasons");
                let Some(Json::Array(reasons)) = reasons else {
                    return Err(error);
                };
                let reasons = reasons.into_iter().map(refusal);
                Ok(Transacted::Refused(reasons.collect()))
            }
            Err(error) => Err(error),
        }
    }
}

fn refusal(reason: Json) -> Refusal {
    let code = reason.get("Code").and_then(Json::as_str).unwrap_or("None");
    match code {
        "ConditionalCheckFailed" => {
            Refusal::Condition(member(reason, "Item").and_then(decode_item))
        }
        "TransactionConflict" => Refusal::Conflict,
        "ProvisionedThroughputExceeded" | "ThrottlingError" => Refusal::Throttled,
        _ => Refusal::None,
    }
}

fn set(json: &mut Json, name: &str, value: Json) {
    if let Json::Object(members) = json {
        members.insert(name.to_owned(), value);
    }
}

fn member(mut json: Json, name: &str) -> Option<Json> {
    json.get_mut(name).map(Json::take)
}
