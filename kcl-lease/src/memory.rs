//! The lease table in memory, for tests of everything above it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::apply::{Effect, apply};
use crate::item::{Item, Value, attribute};
use crate::table::{
    Consistency, LeaseTable, Prepared, Refusal, ScanPage, ScanToken, TableError, TableErrorKind,
    Transacted, Written,
};
use crate::write::{Change, RowWrite, validate_transaction};

const TABLE: &str = "in memory";
/// Small, so that tests meet more than one page.
const PAGE: usize = 100;

/// A lease table in memory. Reads are always current; numbers are compared as text.
#[derive(Debug, Default)]
pub struct MemoryLeaseTable {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<String, Item>,
    faults: VecDeque<Fault>,
}

/// What happens to one call of [`MemoryLeaseTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out and fails like this.
    Reject(TableErrorKind),
    /// It is carried out and its answer is lost.
    LoseAnswer,
    /// It is carried out after this time.
    Delay(Duration),
}

impl MemoryLeaseTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `fault` happen to the next call that has none yet.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// Stores an item as some other library would.
    pub fn put(&self, key: &str, mut item: Item) {
        item.insert(attribute::KEY.to_owned(), Value::text(key));
        self.lock().items.insert(key.to_owned(), item);
    }

    /// Everything in the table.
    #[must_use]
    pub fn items(&self) -> BTreeMap<String, Item> {
        self.lock().items.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one call under the next fault.
    async fn call<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut State) -> Result<T, TableErrorKind> + Send,
    ) -> Result<T, TableError> {
        let fault = self.lock().faults.pop_front();
        if let Some(Fault::Delay(delay)) = fault {
            tokio::time::sleep(delay).await;
        }
        let error = |kind| TableError::new(kind, operation, TABLE);
        if let Some(Fault::Reject(kind)) = fault {
            return Err(error(kind));
        }
        let answer = act(&mut self.lock()).map_err(error)?;
        match fault {
            Some(Fault::LoseAnswer) => Err(error(TableErrorKind::Unknown)),
            _ => Ok(answer),
        }
    }
}

#[async_trait]
impl LeaseTable for MemoryLeaseTable {
    async fn get(&self, key: &str, _: Consistency) -> Result<Option<Item>, TableError> {
        self.call("GetItem", |state| Ok(state.items.get(key).cloned()))
            .await
    }

    async fn scan(&self, _: Consistency, page: Option<ScanToken>) -> Result<ScanPage, TableError> {
        self.call("Scan", |state| Ok(scan(&state.items, page.as_ref())))
            .await
    }

    async fn write(&self, write: RowWrite) -> Result<Written, TableError> {
        self.call("Write", |state| write_one(&mut state.items, write))
            .await
    }

    async fn transact(&self, writes: Vec<RowWrite>) -> Result<Transacted, TableError> {
        self.call("TransactWriteItems", |state| {
            write_all(&mut state.items, writes)
        })
        .await
    }

    async fn prepare(&self) -> Result<Prepared, TableError> {
        self.call("CreateTable", |_| Ok(Prepared { created: false }))
            .await
    }
}

fn scan(items: &BTreeMap<String, Item>, page: Option<&ScanToken>) -> ScanPage {
    let after = match page.and_then(|token| token.0.get(attribute::KEY)) {
        Some(Value::S(key)) => Bound::Excluded(key.as_str()),
        _ => Bound::Unbounded,
    };
    let mut rest = items.range::<str, _>((after, Bound::Unbounded));
    let page: Vec<_> = rest.by_ref().take(PAGE).collect();
    let next = page.last().filter(|_| rest.next().is_some());
    ScanPage {
        next: next.map(|(key, _)| {
            let key = Value::text(key.as_str());
            ScanToken(Item::from([(attribute::KEY.to_owned(), key)]))
        }),
        items: page.into_iter().map(|(_, item)| item.clone()).collect(),
    }
}

fn write_one(
    items: &mut BTreeMap<String, Item>,
    write: RowWrite,
) -> Result<Written, TableErrorKind> {
    write.validate().map_err(invalid)?;
    if write.change == Change::Check {
        return Err(invalid("a check is for transactions only"));
    }
    let found = items.get(&write.key);
    match apply(&write, found).map_err(invalid)? {
        Effect::Refused => Ok(Written::Refused(found.cloned())),
        Effect::Applied(after) => {
            store(items, write.key, after.clone());
            Ok(Written::Applied(after.unwrap_or_default()))
        }
    }
}

fn write_all(
    items: &mut BTreeMap<String, Item>,
    writes: Vec<RowWrite>,
) -> Result<Transacted, TableErrorKind> {
    validate_transaction(&writes).map_err(invalid)?;
    let mut refusals = Vec::new();
    let mut changed = Vec::new();
    for write in writes {
        let found = items.get(&write.key);
        match apply(&write, found).map_err(invalid)? {
            Effect::Applied(after) => {
                changed.push((write.key, after));
                refusals.push(Refusal::None);
            }
            Effect::Refused => refusals.push(Refusal::Condition(found.cloned())),
        }
    }
    if refusals.iter().any(|refusal| *refusal != Refusal::None) {
        return Ok(Transacted::Refused(refusals));
    }
    for (key, after) in changed {
        store(items, key, after);
    }
    Ok(Transacted::Applied)
}

fn store(items: &mut BTreeMap<String, Item>, key: String, item: Option<Item>) {
    match item {
        Some(item) => items.insert(key, item),
        None => items.remove(&key),
    };
}

fn invalid(reason: impl Into<String>) -> TableErrorKind {
    TableErrorKind::Invalid {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_does_what_every_lease_table_must() {
        crate::conformance::check_all(&MemoryLeaseTable::new()).await;
    }
}
