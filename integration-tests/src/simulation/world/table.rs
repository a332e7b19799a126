//! The lease table as the workers of a run see it.

use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use kcl_emulator::{ApiError, Caller, Service};
use kcl_lease::item::Item;
use kcl_lease::table::{Consistency, Prepared, ScanPage, ScanToken, Transacted, Written};
use kcl_lease::write::{Change, RowWrite, validate_transaction};
use kcl_lease::{LeaseTable, TableError, TableErrorKind};
use serde_json::Value as Json;

use super::encoding::{decode_item, operation};
use super::engine::Engine;
use super::{APPLICATION, Failure, NOBODY, Process, Request, World};
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
        let (caller, key) = (self.caller.clone(), wanted.to_owned());
        self.call("GetItem", wanted, move |world, stale| {
            world.get(&caller, &key, consistency, stale)
        })
        .await
    }

    async fn scan(
        &self,
        consistency: Consistency,
        page: Option<ScanToken>,
    ) -> Result<ScanPage, TableError> {
        let caller = self.caller.clone();
        self.call("Scan", "", move |world, stale| {
            world.scan(&caller, page.as_ref(), consistency, stale)
        })
        .await
    }

    async fn write(&self, write: RowWrite) -> Result<Written, TableError> {
        let checked = match write.change {
            Change::Check => Err("a check is for transactions only".to_owned()),
            _ => write.validate(),
        };
        checked.map_err(|reason| invalid("UpdateItem", reason))?;
        let operation = operation(&write.change);
        let (process, caller) = (self.process, self.caller.clone());
        let (row, sent) = (write.key.clone(), self.world.millis());
        self.call(operation, &row, move |world, _| {
            world.write(process, &caller, sent, &write)
        })
        .await
    }

    async fn transact(&self, writes: Vec<RowWrite>) -> Result<Transacted, TableError> {
        validate_transaction(&writes).map_err(|reason| invalid("TransactWriteItems", reason))?;
        let (process, caller) = (self.process, self.caller.clone());
        let row = writes.first().map(|write| write.key.clone());
        let (row, sent) = (row.unwrap_or_default(), self.world.millis());
        self.call("TransactWriteItems", &row, move |world, _| {
            world.transact(process, &caller, sent, &writes)
        })
        .await
    }

    async fn prepare(&self) -> Result<Prepared, TableError> {
        let caller = self.caller.clone();
        self.call("DescribeTable", "", move |world, _| {
            world.engine(&caller).prepare()
        })
        .await
    }
}

impl World {
    fn engine<'a>(&'a self, caller: &'a Caller) -> Engine<'a> {
        Engine {
            emulator: self.emulator(),
            caller,
        }
    }

    /// Whether the table takes calls: the emulator says so, until it did once. No run deletes the table.
    fn usable(&self, caller: &Caller) -> Result<(), ApiError> {
        if !self.0.table_ready.load(Ordering::Relaxed) {
            self.engine(caller).get("nothing", false, 0)?;
            self.0.table_ready.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// In a checked run the emulator's engine has carried the call out, too: its answer must be this one.
    fn compare<T: PartialEq + fmt::Debug>(
        &self,
        operation: &'static str,
        answer: Result<&T, &ApiError>,
        engine: impl FnOnce() -> Result<T, ApiError>,
    ) {
        if self.0.checked {
            let engine = engine();
            if engine.as_ref().ok() != answer.ok() {
                let text = format!("{operation}: the emulator says {engine:?}, not {answer:?}");
                self.tell(Event::EnginesDiffer { text });
            }
        }
    }

    fn get(
        &self,
        caller: &Caller,
        key: &str,
        consistency: Consistency,
        stale: u32,
    ) -> Result<Option<Item>, ApiError> {
        self.usable(caller)?;
        let (strong, back) = view(consistency, stale);
        let found = self.rows().get(key, back).cloned();
        self.compare("GetItem", Ok(&found), || {
            self.engine(caller).get(key, strong, back)
        });
        Ok(found)
    }

    fn scan(
        &self,
        caller: &Caller,
        page: Option<&ScanToken>,
        consistency: Consistency,
        stale: u32,
    ) -> Result<ScanPage, ApiError> {
        self.usable(caller)?;
        let (strong, back) = view(consistency, stale);
        let found = self.rows().scan(page, back);
        self.compare("Scan", Ok(&found), || {
            self.engine(caller).scan(page, strong, back)
        });
        if found.next.is_some() {
            self.tell(Event::ScanPaged);
        }
        Ok(found)
    }

    /// Carries one write out and notes it, if its condition holds.
    pub(in crate::simulation) fn write(
        &self,
        process: Process,
        caller: &Caller,
        sent: u64,
        write: &RowWrite,
    ) -> Result<Written, ApiError> {
        if self.0.callers.is_some() {
            // A world that observes the emulator is told of it with everything else.
            return self.engine(caller).write(write);
        }
        self.usable(caller)?;
        let written = self.rows().judge(write);
        self.compare("a write", written.as_ref(), || {
            self.engine(caller).write(write)
        });
        match written.as_ref().map_err(Clone::clone)? {
            Written::Applied(item) => {
                let after = (write.change != Change::Delete).then(|| item.clone());
                self.applied(process, Some(sent), &write.key, after);
            }
            Written::Refused(_) => {
                let key = write.key.clone();
                self.tell(Event::Refused { process, key });
            }
        }
        written
    }

    fn transact(
        &self,
        process: Process,
        caller: &Caller,
        sent: u64,
        writes: &[RowWrite],
    ) -> Result<Transacted, ApiError> {
        self.usable(caller)?;
        let transacted = self.rows().judge_all(writes);
        self.compare("TransactWriteItems", transacted.as_ref(), || {
            self.engine(caller).transact(writes)
        });
        if transacted.as_ref().ok() == Some(&Transacted::Applied) {
            for write in writes {
                let judged = self.rows().judge(write);
                let after = match (&write.change, judged) {
                    (Change::Check, _) => continue,
                    (Change::Put(_) | Change::Update(_), Ok(Written::Applied(item))) => Some(item),
                    _ => None,
                };
                self.applied(process, Some(sent), &write.key, after);
            }
        }
        transacted
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
            self.applied(process, None, &key, row);
        }
    }

    /// Names a process whose requests do not pass through here.
    pub(in crate::simulation) fn introduce(&self, caller: String, process: Process) {
        if let Some(callers) = &self.0.callers {
            let mut callers = callers.lock().unwrap_or_else(PoisonError::into_inner);
            callers.insert(caller, process);
        }
    }

    fn applied(&self, process: Process, sent: Option<u64>, key: &str, after: Option<Item>) {
        let before = self.rows().store(key, after);
        let change = {
            let rows = self.rows();
            crate::simulation::history::change(key, before.as_ref(), rows.get(key, 0))
        };
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

/// Whether a read is strongly consistent, and how many versions it looks back.
fn view(consistency: Consistency, stale: u32) -> (bool, usize) {
    match consistency {
        Consistency::Strong => (true, 0),
        Consistency::Eventual => (false, stale as usize),
    }
}

#[cfg(test)]
mod tests {
    use kcl_emulator::Emulator;
    use kcl_lease::conformance;
    use kcl_lease::item::Value;

    use super::*;
    use crate::simulation::history::History;
    use crate::simulation::swarm::swarm;

    /// How often the two engines differed in a checked world, after `play`.
    async fn differences(play: impl AsyncFnOnce(&World, &SimulatedTable)) -> usize {
        let (climate, _) = swarm(1, std::time::Duration::ZERO, None);
        let history = History::new(1, false);
        let world = World::new(1, climate, Emulator::new(), history).checked(true);
        let table = SimulatedTable::new(&world, 0, "test");
        play(&world, &table).await;
        let history = world.history();
        let violations = history.checker.violations().iter();
        violations.filter(|v| v.rule == "engines agree").count()
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_what_every_lease_table_must_and_as_the_emulator_does_it() {
        let differences = differences(async |_, table| conformance::check_all(table).await).await;
        assert_eq!(differences, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_the_emulator_does_not_give_is_noticed() {
        let differences = differences(async |world, table| {
            table.prepare().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            let key = ("leaseKey".to_owned(), Value::text("a"));
            world.rows().store("a", Some(Item::from([key])));
            table.get("a", Consistency::Strong).await.unwrap();
            table.scan(Consistency::Strong, None).await.unwrap();
        })
        .await;
        assert_eq!(differences, 2);
    }
}
