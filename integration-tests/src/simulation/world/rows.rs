//! The rows of the lease table as values: what the workers of a run read and write without the detour through JSON.
//!
//! The decisions are `apply` of `kcl-lease`, which every lease table is held to by its conformance tests. In a checked
//! run every call is carried out by the emulator's DynamoDB as well, and each answer compared (see `engine`).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use kcl_emulator::ApiError;
use kcl_lease::internals::try_apply;
use kcl_lease::item::{Item, Value, attribute};
use kcl_lease::table::{Refusal, ScanPage, ScanToken, Transacted, Written};
use kcl_lease::write::RowWrite;

use super::SCAN_PAGE;

/// All rows, and what they were some writes ago.
#[derive(Debug)]
pub(in crate::simulation) struct Rows {
    current: BTreeMap<String, Item>,
    /// What each row was before, the latest last; a row that was not there is none.
    former: BTreeMap<String, VecDeque<Option<Item>>>,
    /// How many former states of a row are kept.
    depth: usize,
}

impl Rows {
    /// An empty table whose rows are kept in so many versions, the present one among them.
    pub(super) fn new(versions: usize) -> Self {
        Self {
            current: BTreeMap::new(),
            former: BTreeMap::new(),
            depth: versions.saturating_sub(1),
        }
    }

    pub(in crate::simulation) fn len(&self) -> usize {
        self.current.len()
    }

    pub(in crate::simulation) fn iter(&self) -> impl Iterator<Item = (&String, &Item)> {
        self.current.iter()
    }

    /// The row as it was `back` writes ago; the oldest one known if there were fewer.
    pub(super) fn get(&self, key: &str, back: usize) -> Option<&Item> {
        let former = self.former.get(key).filter(|_| back > 0);
        match former.and_then(|former| former.get(former.len().saturating_sub(back))) {
            Some(older) => older.as_ref(),
            None => self.current.get(key),
        }
    }

    /// One page, each of its rows as it was `back` writes ago.
    pub(super) fn scan(&self, page: Option<&ScanToken>, back: usize) -> ScanPage {
        let after = match page.and_then(|token| token.0.get(attribute::KEY)) {
            Some(Value::S(key)) => Bound::Excluded(key.as_str()),
            _ => Bound::Unbounded,
        };
        let limit = usize::try_from(SCAN_PAGE).unwrap_or(usize::MAX);
        let rest = self.current.range::<str, _>((after, Bound::Unbounded));
        let found: Vec<&String> = rest.map(|(key, _)| key).take(limit).collect();
        // As at the service, a page that is full may be followed by an empty one.
        let last = found.last().filter(|_| found.len() == limit);
        let next = last.map(|key| {
            let key = Value::text(key.as_str());
            ScanToken(Item::from([(attribute::KEY.to_owned(), key)]))
        });
        let items = found.iter().filter_map(|key| self.get(key, back));
        let mut items: Vec<Item> = items.cloned().collect();
        if page.is_none() && next.is_none() {
            items.extend(self.deleted(back).cloned());
        }
        ScanPage { items, next }
    }

    /// Rows that are deleted now and were there `back` writes ago.
    fn deleted(&self, back: usize) -> impl Iterator<Item = &Item> {
        let keys = self.former.keys().filter(move |_| back > 0);
        keys.filter(|key| !self.current.contains_key(*key))
            .filter_map(move |key| self.get(key, back))
    }

    /// What a write would be answered.
    pub(super) fn judge(&self, write: &RowWrite) -> Result<Written, ApiError> {
        let found = self.current.get(&write.key);
        match try_apply(write, found) {
            Ok(Some(after)) => Ok(Written::Applied(after.unwrap_or_default())),
            Ok(None) => Ok(Written::Refused(found.cloned())),
            Err(reason) => Err(ApiError::client("ValidationException", reason)),
        }
    }

    /// What a transaction would be answered.
    pub(super) fn judge_all(&self, writes: &[RowWrite]) -> Result<Transacted, ApiError> {
        let refusals = writes.iter().map(|write| match self.judge(write)? {
            Written::Applied(_) => Ok(Refusal::None),
            Written::Refused(found) => Ok(Refusal::Condition(found)),
        });
        let refusals: Vec<Refusal> = refusals.collect::<Result<_, ApiError>>()?;
        Ok(
            match refusals.iter().all(|refusal| *refusal == Refusal::None) {
                true => Transacted::Applied,
                false => Transacted::Refused(refusals),
            },
        )
    }

    /// Stores what a write left of a row, and returns what it was before.
    pub(super) fn store(&mut self, key: &str, after: Option<Item>) -> Option<Item> {
        let before = match after {
            Some(item) => self.current.insert(key.to_owned(), item),
            None => self.current.remove(key),
        };
        if self.depth > 0 {
            let former = self.former.entry(key.to_owned()).or_default();
            former.push_back(before.clone());
            if former.len() > self.depth {
                former.pop_front();
            }
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use kcl_lease::write::Change;

    use super::*;

    fn item(key: &str, n: u64) -> Item {
        Item::from([
            (attribute::KEY.to_owned(), Value::text(key)),
            ("n".to_owned(), Value::number(n)),
        ])
    }

    #[test]
    fn a_stale_read_sees_the_row_as_it_was_so_many_writes_ago() {
        let mut rows = Rows::new(3);
        for n in 0..5 {
            rows.store("a", Some(item("a", n)));
        }
        let seen = |back| rows.get("a", back).cloned();
        assert_eq!(seen(0), Some(item("a", 4)));
        assert_eq!(seen(1), Some(item("a", 3)));
        assert_eq!(seen(9), Some(item("a", 2)), "older ones are forgotten");
        rows.store("b", Some(item("b", 7)));
        assert_eq!(rows.get("b", 1), None, "it was not there");
        rows.store("b", None);
        assert_eq!(rows.get("b", 0), None);
        assert_eq!(
            rows.scan(None, 1).items,
            [item("a", 3), item("b", 7)],
            "it is not gone yet"
        );
    }

    #[test]
    fn a_transaction_is_refused_as_a_whole() {
        let mut rows = Rows::new(0);
        rows.store("a", Some(item("a", 1)));
        let check = |key: &str, wanted| RowWrite {
            key: key.to_owned(),
            condition: vec![kcl_lease::write::Term::Equals("n", Value::number(wanted))],
            change: Change::Delete,
        };
        let judge = |writes: &[RowWrite]| rows.judge_all(writes).unwrap();
        assert_eq!(judge(&[check("a", 1)]), Transacted::Applied);
        let refused = judge(&[check("a", 1), check("b", 1), check("a", 2)]);
        let because = |item| Refusal::Condition(item);
        assert_eq!(
            refused,
            Transacted::Refused(vec![
                Refusal::None,
                because(None),
                because(Some(item("a", 1)))
            ])
        );
    }
}
