//! Throttling: token buckets that are charged with the capacity each call consumed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::request::{Object, text};
use super::status::Tables;
use super::table::{Table, Throughput};
use crate::{ApiError, Timestamp};

/// Unused capacity is kept for so many seconds, as in the service.
const BURST_SECONDS: f64 = 300.0;

const TABLE_EXCEEDED: &str = "The level of configured provisioned throughput for the table was exceeded. \
     Consider increasing your provisioning level with the UpdateTable API.";
const INDEX_EXCEEDED: &str = "The level of configured provisioned throughput for one or more global \
     secondary indexes of the table was exceeded. Consider increasing your provisioning level for the \
     under-provisioned global secondary indexes with the UpdateTable API";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Read,
    Write,
}

/// A table or one of its indexes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Meter {
    table: String,
    index: Option<String>,
    side: Side,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// The buckets of all tables and indexes that have a limit.
#[derive(Debug)]
pub(super) struct Capacity {
    buckets: BTreeMap<Meter, Bucket>,
    /// The cap on each on-demand table, if there is one.
    on_demand: Option<Throughput>,
    pub(super) enabled: bool,
}

impl Capacity {
    pub(super) fn new(enabled: bool, on_demand: Option<Throughput>) -> Self {
        Self {
            buckets: BTreeMap::new(),
            on_demand,
            enabled,
        }
    }

    /// Whether any table of a call has a limit.
    pub(super) fn applies(&self, tables: &Tables, names: &[&str]) -> bool {
        let limited = |name: &&str| {
            let table = tables.get(name);
            table.is_some_and(|table| self.on_demand.is_some() || table.throughput.is_some())
        };
        self.enabled && names.iter().any(limited)
    }

    /// Forgets a table that is gone.
    pub(super) fn forget(&mut self, table: &str) {
        self.buckets.retain(|meter, _| meter.table != table);
    }

    /// Refuses a call on `table` whose bucket, or the one of an index it needs, is empty.
    ///
    /// A read needs the bucket of what it reads. A write needs those of the table and of all its indexes.
    pub(super) fn admit(
        &mut self,
        now: Timestamp,
        tables: &Tables,
        name: &str,
        index: Option<&str>,
        side: Side,
    ) -> Result<(), ApiError> {
        let Some(table) = tables.get(name) else {
            return Ok(());
        };
        let reads_index = index.filter(|_| side == Side::Read);
        let empty = |capacity: &mut Self, index: Option<&str>| {
            let tokens = capacity.level(now, table, name, index, side);
            tokens.is_some_and(|bucket| bucket.tokens <= 0.0)
        };
        if empty(self, reads_index) {
            return Err(exceeded(reads_index.is_some()));
        }
        let written = table.indexes.keys().filter(|_| side == Side::Write);
        for index in written {
            if empty(self, Some(index)) {
                return Err(exceeded(true));
            }
        }
        Ok(())
    }

    /// Charges what an answer says was consumed: one `ConsumedCapacity` or a list of them.
    pub(super) fn charge(&mut self, now: Timestamp, tables: &Tables, answer: &Value, side: Side) {
        let consumed = answer.get("ConsumedCapacity");
        let list = consumed.and_then(Value::as_array);
        let single = consumed.filter(|consumed| consumed.is_object());
        for consumed in list.into_iter().flatten().chain(single) {
            self.charge_one(now, tables, consumed, side);
        }
    }

    fn charge_one(&mut self, now: Timestamp, tables: &Tables, consumed: &Value, side: Side) {
        let Some(name) = consumed.get("TableName").and_then(Value::as_str) else {
            return;
        };
        if let Some(units) = units(consumed.get("Table")) {
            self.take(now, tables, name, None, side, units);
        }
        let indexes = consumed
            .get("GlobalSecondaryIndexes")
            .and_then(Value::as_object);
        for (index, consumed) in indexes.into_iter().flatten() {
            if let Some(units) = units(Some(consumed)) {
                self.take(now, tables, name, Some(index), side, units);
            }
        }
    }

    /// Charges `units` to one bucket, which may go into debt: a call is never refused half-way.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        tables: &Tables,
        name: &str,
        index: Option<&str>,
        side: Side,
        units: f64,
    ) {
        if let Some(table) = tables.get(name)
            && let Some(bucket) = self.level(now, table, name, index, side)
        {
            bucket.tokens -= units;
        }
    }

    /// The bucket as it stands at `now`; none if there is no limit.
    fn level(
        &mut self,
        now: Timestamp,
        table: &Table,
        name: &str,
        index: Option<&str>,
        side: Side,
    ) -> Option<&mut Bucket> {
        let provisioned = match index {
            None => table.throughput,
            Some(index) => table.indexes.get(index)?.throughput,
        };
        let throughput = provisioned.or(self.on_demand.filter(|_| index.is_none()))?;
        let rate = match side {
            Side::Read => throughput.read,
            Side::Write => throughput.write,
        };
        let meter = Meter {
            table: name.to_owned(),
            index: index.map(str::to_owned),
            side,
        };
        // A table starts with the capacity of one second and saves from the moment it is active.
        let active_since = table.active_since(index)?;
        let bucket = self.buckets.entry(meter).or_insert(Bucket {
            tokens: rate,
            at: active_since,
        });
        let elapsed = now.since(bucket.at).max(0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds fit a double exactly"
        )]
        let seconds = elapsed as f64 / 1000.0;
        bucket.tokens = (bucket.tokens + seconds * rate).min(rate * BURST_SECONDS);
        bucket.at = bucket.at.max(now);
        Some(bucket)
    }
}

fn exceeded(index: bool) -> ApiError {
    let message = if index {
        INDEX_EXCEEDED
    } else {
        TABLE_EXCEEDED
    };
    ApiError::client("ProvisionedThroughputExceededException", message)
}

/// Cancels a transaction of which some parts are throttled.
pub(super) fn cancelled(throttled: &[bool]) -> ApiError {
    let code = |throttled: &bool| match throttled {
        true => "ProvisionedThroughputExceeded",
        false => "None",
    };
    let codes: Vec<&str> = throttled.iter().map(code).collect();
    let reasons: Vec<Value> = codes
        .iter()
        .map(|code| match *code {
            "None" => json!({ "Code": code }),
            _ => json!({ "Code": code, "Message": TABLE_EXCEEDED }),
        })
        .collect();
    let mut error = ApiError::client(
        "TransactionCanceledException",
        format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        ),
    );
    error
        .members
        .insert("CancellationReasons".to_owned(), Value::Array(reasons));
    error
}

fn units(consumed: Option<&Value>) -> Option<f64> {
    consumed?.get("CapacityUnits")?.as_f64()
}

/// Asks for the consumption by index and returns what the caller had asked for.
pub(super) fn ask(request: &mut Object) -> Option<String> {
    let asked = text(request, "ReturnConsumedCapacity").map(str::to_owned);
    let valid = matches!(asked.as_deref(), None | Some("NONE" | "TOTAL" | "INDEXES"));
    if valid {
        request.insert("ReturnConsumedCapacity".to_owned(), json!("INDEXES"));
    }
    asked
}

/// Takes out of an answer what the caller had not asked for.
pub(super) fn trim(answer: &mut Value, asked: Option<&str>) {
    let Value::Object(answer) = answer else {
        return;
    };
    match asked {
        Some("INDEXES") => {}
        Some("TOTAL") => match answer.get_mut("ConsumedCapacity") {
            Some(Value::Array(all)) => all.iter_mut().for_each(keep_total),
            Some(one) => keep_total(one),
            None => {}
        },
        _ => {
            answer.remove("ConsumedCapacity");
        }
    }
}

fn keep_total(consumed: &mut Value) {
    if let Value::Object(consumed) = consumed {
        for detail in ["Table", "LocalSecondaryIndexes", "GlobalSecondaryIndexes"] {
            consumed.remove(detail);
        }
    }
}
