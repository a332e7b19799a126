//! Which calls a table answers in the state it is in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::table::{Status, Table};
use super::{DynamoDbConfig, errors, milliseconds};
use crate::{ApiError, Timestamp};

/// All tables by name.
#[derive(Debug, Default)]
pub(super) struct Tables {
    tables: BTreeMap<String, Table>,
}

impl Tables {
    /// Lets go of what has been deleted by `now`.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.tables.retain(|_, table| !table.is_gone(now));
        for table in self.tables.values_mut() {
            table.settle(now);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Table> {
        self.tables.get_mut(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.tables.keys()
    }

    /// Notes a table that the store has just created.
    pub(super) fn create(
        &mut self,
        now: Timestamp,
        name: &str,
        description: &Value,
        config: &DynamoDbConfig,
    ) {
        let table = Table::new(now, name, description, config);
        self.tables.insert(name.to_owned(), table);
    }

    /// Notes that a table is being deleted.
    pub(super) fn delete(
        &mut self,
        now: Timestamp,
        name: &str,
        description: Value,
        config: &DynamoDbConfig,
    ) {
        if let Some(table) = self.tables.get_mut(name) {
            let gone_at = now.plus(milliseconds(config.table_deletion));
            table.delete(gone_at, description);
        }
    }

    /// Refuses reads and writes of rows of a table that is not there, not yet or no longer.
    pub(super) fn check_rows(&self, now: Timestamp, name: &str) -> Result<(), ApiError> {
        let there = self
            .tables
            .get(name)
            .is_some_and(|table| matches!(table.status(now), Status::Active | Status::Updating));
        if there {
            return Ok(());
        }
        Err(errors::not_found("Requested resource not found"))
    }

    /// Refuses reads of an index that is not filled yet.
    pub(super) fn check_index(
        &self,
        now: Timestamp,
        table: &str,
        index: &str,
    ) -> Result<(), ApiError> {
        let active_since = self
            .tables
            .get(table)
            .and_then(|table| table.active_since(Some(index)));
        let filling = active_since.is_some_and(|since| now < since);
        if filling {
            return Err(errors::validation(format!(
                "Cannot read from backfilling global secondary index: {index}"
            )));
        }
        Ok(())
    }

    /// Refuses a change of a table that is in the middle of another one.
    pub(super) fn check_change(&self, now: Timestamp, name: &str) -> Result<(), ApiError> {
        let Some(table) = self.tables.get(name) else {
            return Ok(());
        };
        let doing = match table.status(now) {
            Status::Active => return Ok(()),
            Status::Creating => "created",
            Status::Updating => "updated",
            Status::Deleting => "deleted",
        };
        Err(errors::in_use(format!(
            "Attempt to change a resource which is still in use: Table is being {doing}: {name}"
        )))
    }

    /// Writes the state at `now` into a description that the store gave.
    pub(super) fn complete(
        &self,
        now: Timestamp,
        name: &str,
        description: &mut Value,
        config: &DynamoDbConfig,
    ) {
        if let (Some(table), Value::Object(description)) = (self.tables.get(name), description) {
            table.complete(now, name, description, config);
        }
    }

    /// The description of a table that is being deleted; the store no longer has it.
    pub(super) fn deleted_description(&self, name: &str) -> Option<&Value> {
        self.tables.get(name)?.deleted_description()
    }
}
