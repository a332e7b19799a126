//! The store under the emulated service. Only this file knows what it is made of.

use dynoxide::storage_backend::ManualClock;
use dynoxide::{AttributeValue, Database, DynoxideError, Item};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::answer::Answer;
use super::errors;
use crate::{ApiError, Timestamp};

/// Tables and rows: expressions, conditions, indexes, transactions, consumed capacity.
///
/// It knows no table states, no throttling and no stale reads; those are laid over it.
pub(super) trait Store: std::fmt::Debug + Send {
    /// Executes one operation of the service on its JSON request.
    fn execute(
        &mut self,
        now: Timestamp,
        operation: &str,
        request: &Value,
    ) -> Result<Value, ApiError>;

    /// Executes `Query` or `Scan`; the rows come as JSON.
    fn read(
        &mut self,
        now: Timestamp,
        operation: &str,
        request: &Value,
    ) -> Result<Answer, ApiError>;
}

/// Opens an empty store in memory. If it cannot be opened every call to it answers with that error.
pub(super) fn open() -> Box<dyn Store> {
    let clock = ManualClock::new(0);
    match Database::memory_with_clock(clock.arc()) {
        Ok(database) => Box::new(Dynoxide { database, clock }),
        Err(error) => Box::new(Unavailable(api_error("", error))),
    }
}

#[derive(Debug)]
struct Unavailable(ApiError);

impl Store for Unavailable {
    fn execute(&mut self, _: Timestamp, _: &str, _: &Value) -> Result<Value, ApiError> {
        Err(self.0.clone())
    }

    fn read(&mut self, _: Timestamp, _: &str, _: &Value) -> Result<Answer, ApiError> {
        Err(self.0.clone())
    }
}

struct Dynoxide {
    database: Database,
    clock: ManualClock,
}

impl std::fmt::Debug for Dynoxide {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dynoxide")
    }
}

impl Store for Dynoxide {
    fn execute(
        &mut self,
        now: Timestamp,
        operation: &str,
        request: &Value,
    ) -> Result<Value, ApiError> {
        self.clock.set(seconds(now));
        let db = &self.database;
        match operation {
            "CreateTable" => run(operation, request, |r| db.create_table(r)),
            "DescribeTable" => run(operation, request, |r| db.describe_table(r)),
            "UpdateTable" => run(operation, request, |r| db.update_table(r)),
            "DeleteTable" => run(operation, request, |r| db.delete_table(r)),
            "ListTables" => run(operation, request, |r| db.list_tables(r)),
            "PutItem" => run(operation, request, |r| db.put_item(r)),
            "GetItem" => run(operation, request, |r| db.get_item(r)),
            "UpdateItem" => run(operation, request, |r| db.update_item(r)),
            "DeleteItem" => run(operation, request, |r| db.delete_item(r)),
            "Query" => run(operation, request, |r| db.query(r)),
            "Scan" => run(operation, request, |r| db.scan(r)),
            "BatchGetItem" => run(operation, request, |r| db.batch_get_item(r)),
            "BatchWriteItem" => run(operation, request, |r| db.batch_write_item(r)),
            "TransactWriteItems" => run(operation, request, |r| db.transact_write_items(r)),
            "TransactGetItems" => run(operation, request, |r| db.transact_get_items(r)),
            "UpdateTimeToLive" => run(operation, request, |r| db.update_time_to_live(r)),
            "DescribeTimeToLive" => run(operation, request, |r| db.describe_time_to_live(r)),
            "TagResource" => run(operation, request, |r| db.tag_resource(r)),
            "UntagResource" => run(operation, request, |r| db.untag_resource(r)),
            "ListTagsOfResource" => run(operation, request, |r| db.list_tags_of_resource(r)),
            _ => Err(errors::unknown_operation()),
        }
    }

    fn read(
        &mut self,
        now: Timestamp,
        operation: &str,
        request: &Value,
    ) -> Result<Answer, ApiError> {
        self.clock.set(seconds(now));
        if operation == "Query" {
            let mut answer = perform(operation, request, |r| self.database.query(r))?;
            let items = answer.items.take();
            return with_rows(&answer, items.as_deref());
        }
        let mut answer = perform(operation, request, |r| self.database.scan(r))?;
        let items = answer.items.take();
        with_rows(&answer, items.as_deref())
    }
}

fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.0.div_euclid(1000)).unwrap_or(0)
}

/// Reads the typed request and runs it.
fn perform<Request: DeserializeOwned, Answer>(
    operation: &str,
    request: &Value,
    execute: impl FnOnce(Request) -> dynoxide::Result<Answer>,
) -> Result<Answer, ApiError> {
    let request =
        Request::deserialize(request).map_err(|e| unreadable(operation, &e.to_string()))?;
    execute(request).map_err(|error| api_error(operation, error))
}

/// Performs an operation and writes its answer. Keys of maps come out sorted, so that the same calls
/// give the same bytes.
fn run<Request: DeserializeOwned, Answer: Serialize>(
    operation: &str,
    request: &Value,
    execute: impl FnOnce(Request) -> dynoxide::Result<Answer>,
) -> Result<Value, ApiError> {
    let answer = perform(operation, request, execute)?;
    serde_json::to_value(&answer).map_err(|e| errors::internal(e.to_string()))
}

fn with_rows(answer: &impl Serialize, rows: Option<&[Item]>) -> Result<Answer, ApiError> {
    let internal = |error: serde_json::Error| errors::internal(error.to_string());
    let members = serde_json::to_value(answer).map_err(internal)?;
    let Some(rows) = rows else {
        return Ok(members.into());
    };
    let rows: Vec<SortedRow<'_>> = rows.iter().map(SortedRow).collect();
    let rows = serde_json::to_string(&rows).map_err(internal)?;
    Ok(Answer::with_items(members, rows))
}

/// A row, or a map in one, whose attributes are written in the order of their names.
struct SortedRow<'a>(&'a Item);

impl Serialize for SortedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut attributes: Vec<(&String, SortedValue<'_>)> = Vec::with_capacity(self.0.len());
        attributes.extend(
            self.0
                .iter()
                .map(|(name, value)| (name, SortedValue(value))),
        );
        attributes.sort_unstable_by_key(|(name, _)| *name);
        serializer.collect_map(attributes)
    }
}

struct SortedValue<'a>(&'a AttributeValue);

impl Serialize for SortedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            AttributeValue::M(row) => serializer.collect_map([("M", SortedRow(row))]),
            AttributeValue::L(list) => {
                let list: Vec<SortedValue<'_>> = list.iter().map(SortedValue).collect();
                serializer.collect_map([("L", list)])
            }
            value => value.serialize(serializer),
        }
    }
}

/// The operations whose request validation is answered in an envelope.
fn has_envelope(operation: &str) -> bool {
    matches!(operation, "PutItem" | "UpdateItem" | "DeleteItem")
}

fn enveloped(operation: &str, message: &str) -> ApiError {
    if has_envelope(operation) {
        errors::validation(format!("1 validation error detected: {message}"))
    } else {
        errors::validation(message)
    }
}

/// The error for a request that could not be read. The request types mark the class of an error by a
/// prefix of its message.
fn unreadable(operation: &str, message: &str) -> ApiError {
    const VALIDATION: [&str; 2] = ["VALIDATION:", "VALIDATION_AS_READ:"];
    const SERIALIZATION: [&str; 2] = ["SERIALIZATION:", "SERIALIZATION_AS_READ:"];
    if let Some(rest) = message.strip_prefix("VALIDATION_REQUEST:") {
        return enveloped(operation, rest);
    }
    if let Some(rest) = VALIDATION.iter().find_map(|p| message.strip_prefix(p)) {
        return errors::validation(rest);
    }
    if let Some(rest) = SERIALIZATION.iter().find_map(|p| message.strip_prefix(p)) {
        return errors::serialization(rest);
    }
    if message.contains("Supplied AttributeValue") {
        return errors::validation(message);
    }
    if message.contains("empty AttributeValue") {
        return errors::validation(
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
        );
    }
    if ["missing field", "unknown variant", "invalid type: null"]
        .iter()
        .any(|part| message.contains(part))
    {
        return errors::validation(message);
    }
    errors::serialization(type_mismatch(message).unwrap_or_else(|| message.to_owned()))
}

/// The service's words for a JSON value of the wrong type.
fn type_mismatch(message: &str) -> Option<String> {
    let (found, wanted) = message
        .strip_prefix("invalid type: ")?
        .split_once(", expected ")?;
    let found = match found.split_whitespace().next()? {
        "integer" => "NUMBER_VALUE",
        "floating" => "DECIMAL_VALUE",
        "string" => "STRING_VALUE",
        "boolean" => {
            if found.contains("true") {
                "TRUE_VALUE"
            } else {
                "FALSE_VALUE"
            }
        }
        "map" => return Some("Start of structure or map found where not expected".to_owned()),
        "sequence" => return Some("Unexpected value type in payload".to_owned()),
        _ => return None,
    };
    let wanted = match wanted {
        "a string" => "String",
        "a boolean" => "Boolean",
        "i64" | "u64" | "i32" | "u32" | "usize" => "Integer",
        _ => return Some("Unexpected value type in payload".to_owned()),
    };
    Some(format!("{found} cannot be converted to {wanted}"))
}

fn api_error(operation: &str, error: DynoxideError) -> ApiError {
    let status = error.status_code();
    let code = error
        .error_type()
        .rsplit('#')
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut answer = ApiError::with_status(status, &code, error.to_string());
    let member = match error {
        DynoxideError::EnvelopedValidation(message) => return enveloped(operation, &message),
        DynoxideError::ConditionalCheckFailedException(_, Some(item)) => {
            serde_json::to_value(item).map(|item| ("Item", item))
        }
        DynoxideError::TransactionCanceledException(_, reasons) => {
            serde_json::to_value(reasons).map(|reasons| ("CancellationReasons", reasons))
        }
        _ => return answer,
    };
    match member {
        Ok((name, value)) => {
            answer.members.insert(name.to_owned(), value);
            answer
        }
        Err(error) => errors::internal(error.to_string()),
    }
}
