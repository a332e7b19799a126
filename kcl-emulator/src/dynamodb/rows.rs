//! Reads and writes of rows: checked, metered, executed by the store, remembered.

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::capacity::{self, Side};
use super::request::{self, Object, text};
use super::tokens::Tokens;
use super::{DynamoDb, ReadView, RowWritten};
use crate::{ApiError, Timestamp};

/// How an operation touches rows.
pub(super) fn side(operation: &str) -> Option<Side> {
    match operation {
        "GetItem" | "Query" | "Scan" | "BatchGetItem" | "TransactGetItems" => Some(Side::Read),
        "PutItem" | "UpdateItem" | "DeleteItem" | "BatchWriteItem" | "TransactWriteItems" => {
            Some(Side::Write)
        }
        _ => None,
    }
}

impl DynamoDb {
    /// Answers an operation on rows.
    pub(super) fn rows(
        &mut self,
        now: Timestamp,
        operation: &str,
        side: Side,
        mut request: Object,
        view: ReadView,
    ) -> Result<Answer, ApiError> {
        self.check_tables(now, &request)?;
        let token = match operation {
            "TransactWriteItems" => Tokens::take(&mut request)?,
            _ => None,
        };
        let Some(token) = token else {
            return self.metered(now, operation, side, request, view);
        };
        let asked = text(&request, "ReturnConsumedCapacity");
        if let Some(answer) = self.tokens.replay(now, &token, asked)? {
            return Ok(answer.into());
        }
        let asked = capacity::ask(&mut request);
        let mut answer = self.metered(now, operation, side, request, view)?;
        self.tokens.remember(now, token, answer.members.clone());
        capacity::trim(&mut answer.members, asked.as_deref());
        Ok(answer)
    }

    /// Answers within the capacity of the tables and charges them.
    fn metered(
        &mut self,
        now: Timestamp,
        operation: &str,
        side: Side,
        mut request: Object,
        view: ReadView,
    ) -> Result<Answer, ApiError> {
        let tables = request::tables(&request);
        if !self.capacity.applies(&self.tables, &tables) {
            return self.perform(now, operation, side, request, view);
        }
        let left_out = self.admit(now, operation, side, &mut request)?;
        let asked = capacity::ask(&mut request);
        let table = text(&request, "TableName").map(str::to_owned);
        let performed = self.perform(now, operation, side, request, view);
        if let (Err(error), Some(table)) = (&performed, &table) {
            self.charge_failure(now, table, error);
        }
        let mut answer = performed?;
        self.capacity
            .charge(now, &self.tables, &answer.members, side);
        capacity::trim(&mut answer.members, asked.as_deref());
        if let Some((member, left_out)) = left_out {
            return_unprocessed(&mut answer.members, member, left_out);
        }
        Ok(answer)
    }

    /// Has the store do it and keeps, or looks at, older versions.
    fn perform(
        &mut self,
        now: Timestamp,
        operation: &str,
        side: Side,
        request: Object,
        view: ReadView,
    ) -> Result<Answer, ApiError> {
        let back = match view {
            ReadView::Stale { versions_back } if !request::is_consistent(&request) => versions_back,
            _ => 0,
        };
        let body = Value::Object(request);
        if back == 0 && matches!(operation, "Query" | "Scan") {
            return self.store.read(now, operation, &body);
        }
        let mut answer = self.store.execute(now, operation, &body)?;
        if let Value::Object(request) = &body {
            if side == Side::Write && (self.versions.are_kept() || self.log.is_some()) {
                self.remember_rows(now, operation, request);
            }
            if back > 0 && matches!(operation, "GetItem" | "Query" | "Scan") {
                self.versions
                    .make_stale(operation, &self.tables, request, &mut answer, back);
            }
        }
        Ok(answer.into())
    }

    fn check_tables(&self, now: Timestamp, request: &Object) -> Result<(), ApiError> {
        for name in request::tables(request) {
            // A malformed name is refused by the store, with the words for its operation.
            if is_table_name(name) {
                self.tables.check_rows(now, name)?;
            }
        }
        match (text(request, "TableName"), text(request, "IndexName")) {
            (Some(table), Some(index)) => self.tables.check_index(now, table, index),
            _ => Ok(()),
        }
    }

    /// Refuses a throttled call. Of a batch only the throttled tables are left out, unless all are; they
    /// come back as the parts to return under the name of the answer's member.
    fn admit(
        &mut self,
        now: Timestamp,
        operation: &str,
        side: Side,
        request: &mut Object,
    ) -> Result<Option<(&'static str, Object)>, ApiError> {
        match operation {
            "BatchGetItem" => {
                let left_out = self.admit_batch(now, side, request)?;
                Ok(left_out.map(|parts| ("UnprocessedKeys", parts)))
            }
            "BatchWriteItem" => {
                let left_out = self.admit_batch(now, side, request)?;
                Ok(left_out.map(|parts| ("UnprocessedItems", parts)))
            }
            "TransactGetItems" | "TransactWriteItems" => {
                let tables = request::transact_parts(request);
                let throttled: Vec<bool> = tables
                    .map(|(_, part)| text(part, "TableName").unwrap_or_default())
                    .map(|table| {
                        self.capacity
                            .admit(now, &self.tables, table, None, side)
                            .is_err()
                    })
                    .collect();
                match throttled.contains(&true) {
                    true => Err(capacity::cancelled(&throttled)),
                    false => Ok(None),
                }
            }
            _ => {
                let table = text(request, "TableName").unwrap_or_default();
                let index = text(request, "IndexName");
                self.capacity.admit(now, &self.tables, table, index, side)?;
                Ok(None)
            }
        }
    }

    fn admit_batch(
        &mut self,
        now: Timestamp,
        side: Side,
        request: &mut Object,
    ) -> Result<Option<Object>, ApiError> {
        let Some(Value::Object(items)) = request.get_mut("RequestItems") else {
            return Ok(None);
        };
        let mut admitted = Map::new();
        let mut left_out = Map::new();
        let mut refusal = None;
        for (table, part) in std::mem::take(items) {
            match self.capacity.admit(now, &self.tables, &table, None, side) {
                Ok(()) => admitted.insert(table, part),
                Err(error) => {
                    refusal = Some(error);
                    left_out.insert(table, part)
                }
            };
        }
        match refusal {
            Some(error) if admitted.is_empty() => Err(error),
            _ => {
                *items = admitted;
                Ok(Some(left_out).filter(|parts| !parts.is_empty()))
            }
        }
    }

    /// A write whose condition failed has consumed capacity all the same.
    fn charge_failure(&mut self, now: Timestamp, table: &str, error: &ApiError) {
        if error.code == "ConditionalCheckFailedException" {
            self.capacity
                .take(now, &self.tables, table, None, Side::Write, 1.0);
        }
    }

    /// Reads back what a write left of each row it touched.
    fn remember_rows(&mut self, now: Timestamp, operation: &str, request: &Object) {
        for (table, key) in self.written(operation, request) {
            let read = json!({ "TableName": table, "Key": key, "ConsistentRead": true });
            let Ok(mut answer) = self.store.execute(now, "GetItem", &read) else {
                continue;
            };
            if self.versions.are_kept() {
                self.versions.record(&table, &key, answer.get("Item"));
            }
            if let Some(log) = &mut self.log {
                log.push(RowWritten {
                    caller: String::new(),
                    table,
                    key,
                    row: answer.get_mut("Item").map(Value::take),
                });
            }
        }
    }

    /// Table and key of each row that a request writes.
    fn written(&self, operation: &str, request: &Object) -> Vec<(String, Object)> {
        let row = |table: &str, part: &Value| -> Option<(String, Object)> {
            let names = &self.tables.get(table)?.key;
            let of = part.get("Key").or_else(|| part.get("Item"))?;
            Some((table.to_owned(), super::versions::key_of(names, of)?))
        };
        match operation {
            "TransactWriteItems" => request::transact_parts(request)
                .filter(|(action, _)| matches!(*action, "Put" | "Update" | "Delete"))
                .filter_map(|(_, part)| row(text(part, "TableName")?, &Value::Object(part.clone())))
                .collect(),
            "BatchWriteItem" => {
                let items = request.get("RequestItems").and_then(Value::as_object);
                let parts = items.into_iter().flatten().flat_map(|(table, parts)| {
                    let parts = parts.as_array().into_iter().flatten();
                    parts
                        .filter_map(Value::as_object)
                        .map(move |part| (table, part))
                });
                parts
                    .flat_map(|(table, part)| part.values().map(move |write| (table, write)))
                    .filter_map(|(table, write)| row(table, write))
                    .collect()
            }
            _ => text(request, "TableName")
                .and_then(|table| row(table, &Value::Object(request.clone())))
                .into_iter()
                .collect(),
        }
    }
}

fn return_unprocessed(answer: &mut Value, member: &str, parts: Object) {
    if let Value::Object(answer) = answer {
        let unprocessed = answer.entry(member).or_insert_with(|| json!({}));
        if let Value::Object(unprocessed) = unprocessed {
            unprocessed.extend(parts);
        }
    }
}

fn is_table_name(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}
