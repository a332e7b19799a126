//! The lease table on the emulator's engine, called directly.

use std::sync::PoisonError;

use async_trait::async_trait;
use kcl_emulator::dynamodb::ReadView;
use kcl_emulator::{ApiError, Caller, Service};
use kcl_lease::item::Item;
use kcl_lease::table::{Consistency, Prepared, Refusal, ScanPage, ScanToken, Transacted, Written};
use kcl_lease::write::{Change, RowWrite, validate_transaction};
use kcl_lease::{LeaseTable, TableError, TableErrorKind};
use serde_json::{Value as Json, json};

use super::encoding::{decode_item, encode_item, key, request, transaction};
use super::{APPLICATION, Failure, NOBODY, Process, Request, SCAN_PAGE, World};
use crate::simulation::history::Event;

/// The lease table as one process sees it: each call is one request, which arrives late, twice never, or not at all.
#[derive(Debug)]
pub struct SimulatedTable {
    world: World,
    process: Process,
    caller: Caller,
}

impl SimulatedTable {
    /// The table as `process`, known to the emulator as `caller`, sees it.
    #[must_use]
    pub fn new(world: &World, process: Process, caller: &str) -> Self {
        Self {
            world: world.clone(),
            process,
            caller: Caller::new(caller),
        }
    }

    async fn call<T, F>(&self, operation: &'static str, key: &str, act: F) -> Result<T, TableError>
    where
        T: Send + 'static,
        F: FnOnce(&World, u32) -> Result<T, ApiError> + Send + 'static,
    {
        let resources = [APPLICATION.to_owned(), key.to_owned()];
        let request = Request {
            caller: &self.caller,
            service: Service::DynamoDb,
            operation,
            resources: &resources,
        };
        let writes = !matches!(operation, "GetItem" | "Scan" | "DescribeTable");
        let sent = self.world.send(request, act).await;
        sent.map_err(|failure| TableError::new(kind(failure, writes), operation, APPLICATION))
    }
}

fn invalid(operation: &'static str, reason: String) -> TableError {
    TableError::new(TableErrorKind::Invalid { reason }, operation, APPLICATION)
}

/// The same classes as those of the table on the SDK.
fn kind(failure: Failure, writes: bool) -> TableErrorKind {
    let unanswered = match writes {
        true => TableErrorKind::Unknown,
        false => TableErrorKind::Unavailable,
    };
    let error = match failure {
        Failure::Refused(error) => error,
        Failure::Broken => return unanswered,
    };
    match error.code.as_str() {
        "ProvisionedThroughputExceededException" | "ThrottlingException" => {
            TableErrorKind::Throttled
        }
        "TransactionConflictException" => TableErrorKind::Conflict,
        "ResourceNotFoundException" => TableErrorKind::TableMissing,
        _ if error.status >= 500 => unanswered,
        _ => TableErrorKind::Invalid {
            reason: error.to_string(),
        },
    }
}

#[async_trait]
impl LeaseTable for SimulatedTable {
    async fn get(
        &self,
        wanted: &str,
        consistency: Consistency,
    ) -> Result<Option<Item>, TableError> {
        let strong = consistency == Consistency::Strong;
        let body = json!({
            "TableName": APPLICATION,
            "Key": key(wanted),
            "ConsistentRead": strong,
        });
        let caller = self.caller.clone();
        self.call("GetItem", wanted, move |world, stale| {
            let answer = world.dynamodb(&caller, "GetItem", &body, stale)?;
            Ok(member(answer, "Item").and_then(decode_item))
        })
        .await
    }

    async fn scan(
        &self,
        consistency: Consistency,
        page: Option<ScanToken>,
    ) -> Result<ScanPage, TableError> {
        let mut body = json!({
            "TableName": APPLICATION,
            "ConsistentRead": consistency == Consistency::Strong,
            "Limit": SCAN_PAGE,
        });
        if let Some(ScanToken(start)) = page {
            set(&mut body, "ExclusiveStartKey", encode_item(&start));
        }
        let caller = self.caller.clone();
        self.call("Scan", "", move |world, stale| {
            let mut answer = world.dynamodb(&caller, "Scan", &body, stale)?;
            let items = answer.get_mut("Items").map(Json::take);
            let items = match items {
                Some(Json::Array(items)) => items,
                _ => Vec::new(),
            };
            let next = member(answer, "LastEvaluatedKey").and_then(decode_item);
            if next.is_some() {
                world.tell(Event::ScanPaged);
            }
            Ok(ScanPage {
                items: items.into_iter().filter_map(decode_item).collect(),
                next: next.map(ScanToken),
            })
        })
        .await
    }

    async fn write(&self, write: RowWrite) -> Result<Written, TableError> {
        let checked = match write.change {
            Change::Check => Err("a check is for transactions only".to_owned()),
            _ => write.validate(),
        };
        checked.map_err(|reason| invalid("UpdateItem", reason))?;
        let (operation, _) = request(APPLICATION, &write);
        let (process, caller) = (self.process, self.caller.clone());
        let (row, sent) = (write.key.clone(), self.world.millis());
        self.call(operation, &row, move |world, _| {
            world.write(process, &caller, sent, write)
        })
        .await
    }

    async fn transact(&self, writes: Vec<RowWrite>) -> Result<Transacted, TableError> {
        validate_transaction(&writes).map_err(|reason| invalid("TransactWriteItems", reason))?;
        let (process, caller) = (self.process, self.caller.clone());
        let row = writes.first().map(|write| write.key.clone());
        let (row, sent) = (row.unwrap_or_default(), self.world.millis());
        self.call("TransactWriteItems", &row, move |world, _| {
            world.transact(process, &caller, sent, writes)
        })
        .await
    }

    async fn prepare(&self) -> Result<Prepared, TableError> {
        let caller = self.caller.clone();
        self.call("DescribeTable", "", move |world, _| {
            let describe = json!({ "TableName": APPLICATION });
            if world
                .dynamodb(&caller, "DescribeTable", &describe, 0)
                .is_ok()
            {
                return Ok(Prepared { created: false });
            }
            let create = json!({
                "TableName": APPLICATION,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "leaseKey", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "leaseKey", "KeyType": "HASH" }],
            });
            world.dynamodb(&caller, "CreateTable", &create, 0)?;
            Ok(Prepared { created: true })
        })
        .await
    }
}

impl World {
    fn dynamodb(
        &self,
        caller: &Caller,
        operation: &str,
        body: &Json,
        stale: u32,
    ) -> Result<Json, ApiError> {
        let view = match stale {
            0 => ReadView::Current,
            versions => ReadView::Stale {
                versions_back: versions as usize,
            },
        };
        let now = self.emulator().clock().now();
        let body = body.to_string();
        let answer = self
            .emulator()
            .dynamodb(now, caller, operation, body.as_bytes(), view)?;
        serde_json::from_slice(&answer)
            .map_err(|error| ApiError::client("SerializationException", error.to_string()))
    }

    /// Carries one write out and notes it, if its condition holds.
    pub(in crate::simulation) fn write(
        &self,
        process: Process,
        caller: &Caller,
        sent: u64,
        write: RowWrite,
    ) -> Result<Written, ApiError> {
        let (operation, mut body) = request(APPLICATION, &write);
        if operation == "UpdateItem" {
            set(&mut body, "ReturnValues", json!("ALL_NEW"));
        }
        match self.dynamodb(caller, operation, &body, 0) {
            Ok(answer) => {
                let after = match write.change {
                    Change::Put(item) => Some(item),
                    Change::Update(_) => member(answer, "Attributes").and_then(decode_item),
                    Change::Delete | Change::Check => None,
                };
                // A world that observes the emulator is told of it with everything else.
                if self.0.callers.is_none() {
                    self.applied(process, Some(sent), &write.key, after.as_ref());
                }
                Ok(Written::Applied(after.unwrap_or_default()))
            }
            Err(mut error) if error.code == "ConditionalCheckFailedException" => {
                self.tell(Event::Refused {
                    process,
                    key: write.key,
                });
                let item = error.members.remove("Item");
                Ok(Written::Refused(item.and_then(decode_item)))
            }
            Err(error) => Err(error),
        }
    }

    fn transact(
        &self,
        process: Process,
        caller: &Caller,
        sent: u64,
        writes: Vec<RowWrite>,
    ) -> Result<Transacted, ApiError> {
        let body = transaction(APPLICATION, &writes);
        match self.dynamodb(caller, "TransactWriteItems", &body, 0) {
            Ok(_) => {
                for write in writes {
                    let after = match write.change {
                        Change::Put(item) => Some(item),
                        Change::Update(_) => self.read_now(caller, &write.key),
                        Change::Delete => None,
                        Change::Check => continue,
                    };
                    self.applied(process, Some(sent), &write.key, after.as_ref());
                }
                Ok(Transacted::Applied)
            }
            Err(mut error) if error.code == "TransactionCanceledException" => {
                let reasons = error.members.remove("CancellationReasons");
                let Some(Json::Array(reasons)) = reasons else {
                    return Err(error);
                };
                Ok(Transacted::Refused(
                    reasons.into_iter().map(refusal).collect(),
                ))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes in what workers wrote past this world.
    pub(in crate::simulation) fn take_in_writes(&self) {
        let Some(callers) = &self.0.callers else {
            return;
        };
        for written in self.emulator().take_written() {
            let process = callers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&written.caller)
                .copied()
                .unwrap_or(NOBODY);
            let Some(Json::String(key)) = written
                .key
                .get("leaseKey")
                .and_then(|key| key.get("S"))
                .cloned()
            else {
                continue;
            };
            let row = written.row.and_then(decode_item);
            self.applied(process, None, &key, row.as_ref());
        }
    }

    /// Names a process whose requests do not pass through here.
    pub(in crate::simulation) fn introduce(&self, caller: String, process: Process) {
        if let Some(callers) = &self.0.callers {
            let mut callers = callers.lock().unwrap_or_else(PoisonError::into_inner);
            callers.insert(caller, process);
        }
    }

    /// What the table holds now, past all faults.
    fn read_now(&self, caller: &Caller, row: &str) -> Option<Item> {
        let body = json!({ "TableName": APPLICATION, "Key": key(row), "ConsistentRead": true });
        let answer = self.dynamodb(caller, "GetItem", &body, 0).ok()?;
        member(answer, "Item").and_then(decode_item)
    }

    fn applied(&self, process: Process, sent: Option<u64>, key: &str, after: Option<&Item>) {
        let before = match after {
            Some(item) => self.rows().insert(key.to_owned(), item.clone()),
            None => self.rows().remove(key),
        };
        let change = crate::simulation::history::change(key, before.as_ref(), after);
        let now = self.millis();
        self.history().record(
            now,
            Event::Written {
                process,
                sent,
                change,
            },
        );
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
