//! Older versions of rows, for reads that are stale on purpose.
//!
//! A stale read is made row by row: what the store found is replaced by what those rows were some
//! writes ago. Filters have then been judged on the current rows. Bounded by versions of a row and by
//! bytes in all; a row whose older versions are forgotten is served as it is.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::request::{Object, text};
use super::status::Tables;
use super::table::Table;

/// What a version costs beside its text.
const OVERHEAD_BYTES: usize = 64;

#[derive(Debug)]
struct Version {
    serial: u64,
    /// The row as JSON; none where there was no row.
    row: Option<String>,
}

impl Version {
    fn bytes(&self) -> usize {
        self.row.as_ref().map_or(0, String::len) + OVERHEAD_BYTES
    }
}

/// Table and key of a row; the key as JSON with sorted members.
type RowId = (String, String);

#[derive(Debug)]
pub(super) struct Versions {
    rows: BTreeMap<RowId, VecDeque<Version>>,
    /// All versions in the order of writing, to forget the oldest first.
    order: VecDeque<(u64, RowId)>,
    next_serial: u64,
    bytes: usize,
    max_per_row: usize,
    max_bytes: usize,
}

impl Versions {
    pub(super) fn new(max_per_row: usize, max_bytes: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            order: VecDeque::new(),
            next_serial: 0,
            bytes: 0,
            max_per_row,
            max_bytes,
        }
    }

    pub(super) fn are_kept(&self) -> bool {
        self.max_per_row > 0
    }

    /// Adds the version of a row after a write. Before its first one there was no row.
    pub(super) fn record(&mut self, table: &str, key: &Object, row: Option<&Value>) {
        let id = (table.to_owned(), key_text(key));
        if !self.rows.contains_key(&id) {
            self.push(id.clone(), None);
        }
        self.push(id, row.map(Value::to_string));
        while self.bytes > self.max_bytes && self.forget_oldest() {}
    }

    /// Forgets the rows of a table that is gone.
    pub(super) fn forget(&mut self, table: &str) {
        let bytes = &mut self.bytes;
        self.rows.retain(|(of, _), versions| {
            let keep = of != table;
            if !keep {
                *bytes -= versions.iter().map(Version::bytes).sum::<usize>();
            }
            keep
        });
        self.order.retain(|(_, (of, _))| of != table);
    }

    fn push(&mut self, id: RowId, row: Option<String>) {
        let version = Version {
            serial: self.next_serial,
            row,
        };
        self.next_serial += 1;
        self.bytes += version.bytes();
        self.order.push_back((version.serial, id.clone()));
        let versions = self.rows.entry(id).or_default();
        versions.push_back(version);
        if versions.len() > self.max_per_row
            && let Some(oldest) = versions.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
        // Versions that went by the bound of their row leave their entry behind; now and then those are
        // dropped, so that the order stays in proportion to what is kept.
        if self.order.len() > 2 * self.kept() + 64 {
            let order = std::mem::take(&mut self.order);
            self.order = order
                .into_iter()
                .filter(|entry| self.holds(entry))
                .collect();
        }
    }

    /// An upper bound of the number of versions kept.
    fn kept(&self) -> usize {
        self.bytes / OVERHEAD_BYTES
    }

    fn holds(&self, (serial, id): &(u64, RowId)) -> bool {
        let oldest = self.rows.get(id).and_then(VecDeque::front);
        oldest.is_some_and(|oldest| oldest.serial <= *serial)
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((serial, id)) = self.order.pop_front() else {
            return false;
        };
        if let Some(versions) = self.rows.get_mut(&id)
            && versions
                .front()
                .is_some_and(|oldest| oldest.serial == serial)
            && let Some(oldest) = versions.pop_front()
        {
            self.bytes -= oldest.bytes();
            let was_last = versions.is_empty();
            if was_last && oldest.row.is_none() {
                self.rows.remove(&id);
            }
        }
        true
    }

    /// The row as it was `back` versions ago: nothing if that is not known, `Some(None)` if it was not there.
    fn older(&self, table: &str, key: String, back: usize) -> Option<Option<Value>> {
        let versions = self.rows.get(&(table.to_owned(), key))?;
        let newest = versions.len().checked_sub(1)?;
        let version = versions.get(newest.saturating_sub(back))?;
        match &version.row {
            None => Some(None),
            Some(row) => serde_json::from_str(row).ok().map(Some),
        }
    }

    /// Makes the answer of a read older.
    pub(super) fn make_stale(
        &self,
        operation: &str,
        tables: &Tables,
        request: &Object,
        answer: &mut Value,
        back: usize,
    ) {
        let (Some(name), Value::Object(answer)) = (text(request, "TableName"), answer) else {
            return;
        };
        let (Some(table), Some(projection)) = (tables.get(name), Projection::of(request)) else {
            return;
        };
        match operation {
            "GetItem" => self.make_item_stale(name, request, &projection, answer, back),
            _ => self.make_items_stale(operation, table, request, &projection, answer, back),
        }
    }

    fn make_item_stale(
        &self,
        name: &str,
        request: &Object,
        projection: &Projection,
        answer: &mut Object,
        back: usize,
    ) {
        let Some(Value::Object(key)) = request.get("Key") else {
            return;
        };
        match self.older(name, key_text(key), back) {
            Some(Some(row)) => {
                answer.insert("Item".to_owned(), projection.apply(row));
            }
            Some(None) => {
                answer.remove("Item");
            }
            None => {}
        }
    }

    fn make_items_stale(
        &self,
        operation: &str,
        table: &Table,
        request: &Object,
        projection: &Projection,
        answer: &mut Object,
        back: usize,
    ) {
        let name = text(request, "TableName").unwrap_or_default();
        let more = answer.contains_key("LastEvaluatedKey");
        let index = text(request, "IndexName").map(|index| table.index_key(index));
        let Some(Value::Array(items)) = answer.get_mut("Items") else {
            return;
        };
        let stale = |item: Value| -> Option<Value> {
            let Some(key) = key_of(&table.key, &item) else {
                return Some(item);
            };
            let Some(older) = self.older(name, key_text(&key), back) else {
                return Some(item);
            };
            let older = older?;
            let Some(index_key) = index else {
                return Some(projection.apply(older));
            };
            // Under another index key the read would not have found it; an index may hold fewer attributes.
            let found = index_key.iter().all(|k| item.get(k) == older.get(k));
            let names = item.as_object().into_iter().flat_map(Object::keys);
            found.then(|| Projection::Only(names.cloned().collect()).apply(older))
        };
        *items = std::mem::take(items)
            .into_iter()
            .filter_map(stale)
            .collect();
        if operation == "Scan" && sees_whole_table(request, more) {
            let deleted = self.deleted_rows(name, back).into_iter();
            items.extend(deleted.map(|row| projection.apply(row)));
        }
        let count = items.len();
        answer.insert("Count".to_owned(), json!(count));
    }

    /// Rows that are deleted now and were there `back` versions ago.
    fn deleted_rows(&self, table: &str, back: usize) -> Vec<Value> {
        self.rows
            .iter()
            .filter(|((of, _), versions)| {
                of == table && versions.back().is_some_and(|newest| newest.row.is_none())
            })
            .filter_map(|((of, key), _)| self.older(of, key.clone(), back).flatten())
            .collect()
    }
}

/// The attributes that a read returns.
enum Projection {
    All,
    Only(Vec<String>),
}

impl Projection {
    /// The projection of a request; none if it reaches into attributes, which is not imitated here.
    fn of(request: &Object) -> Option<Self> {
        if let Some(expression) = text(request, "ProjectionExpression") {
            let names = request.get("ExpressionAttributeNames");
            let resolve = |path: &str| {
                let path = path.trim();
                if path.contains(['.', '[']) {
                    return None;
                }
                match names.and_then(|names| names.get(path)) {
                    Some(name) => name.as_str().map(str::to_owned),
                    None => Some(path.to_owned()),
                }
            };
            return expression
                .split(',')
                .map(resolve)
                .collect::<Option<_>>()
                .map(Self::Only);
        }
        let Some(Value::Array(names)) = request.get("AttributesToGet") else {
            return Some(Self::All);
        };
        let names = names.iter().filter_map(Value::as_str).map(str::to_owned);
        Some(Self::Only(names.collect()))
    }

    fn apply(&self, row: Value) -> Value {
        match (self, row) {
            (Self::Only(names), Value::Object(mut row)) => {
                row.retain(|name, _| names.contains(name));
                Value::Object(row)
            }
            (_, row) => row,
        }
    }
}

/// Whether a scan returns all rows of its table at once.
fn sees_whole_table(request: &Object, more: bool) -> bool {
    const PARTIAL: [&str; 5] = [
        "ExclusiveStartKey",
        "FilterExpression",
        "IndexName",
        "ScanFilter",
        "Segment",
    ];
    !more && !PARTIAL.iter().any(|member| request.contains_key(*member))
}

/// The key of a row, if the row shows all of it.
pub(super) fn key_of(names: &[String], row: &Value) -> Option<Object> {
    names
        .iter()
        .map(|name| Some((name.clone(), row.get(name)?.clone())))
        .collect()
}

fn key_text(key: &Object) -> String {
    Value::Object(key.clone()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_written_for_ever_takes_no_more_memory() {
        let mut versions = Versions::new(4, 1 << 20);
        let key = |id: &str| Object::from_iter([("id".to_owned(), json!({ "S": id }))]);
        versions.record("Rows", &key("written once"), Some(&json!({})));
        for n in 0..10_000 {
            versions.record("Rows", &key("written often"), Some(&json!({ "n": n })));
        }
        assert!(
            versions.order.len() < 100,
            "{} entries",
            versions.order.len()
        );
        assert!(versions.bytes < 1000, "{} bytes", versions.bytes);
    }
}
