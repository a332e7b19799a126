//! Operations on tables: what the store does at once happens here in the service's time.

use serde_json::{Value, json};

use super::request::{Object, text};
use super::{DynamoDb, backups, errors, milliseconds};
use crate::{ApiError, Timestamp};

const DEFAULT_PAGE: usize = 100;

impl DynamoDb {
    /// Answers an operation on tables.
    pub(super) fn control(
        &mut self,
        now: Timestamp,
        operation: &str,
        request: Object,
    ) -> Result<Value, ApiError> {
        match operation {
            "CreateTable" => self.create_table(now, request),
            "DescribeTable" => self.describe_table(now, request),
            "UpdateTable" => self.update_table(now, request),
            "DeleteTable" => self.delete_table(now, request),
            "ListTables" => self.list_tables(now, request),
            "DescribeContinuousBackups" => backups::describe(now, &mut self.tables, &request),
            "UpdateContinuousBackups" => backups::update(now, &mut self.tables, &request),
            "DescribeLimits" => Ok(limits()),
            "TagResource" | "UntagResource" | "UpdateTimeToLive" => {
                let table = text(&request, "TableName").or(text(&request, "ResourceArn"));
                let table = super::request::table_name(table.unwrap_or_default());
                self.tables.check_change(now, table)?;
                self.store.execute(now, operation, &Value::Object(request))
            }
            "ListTagsOfResource" | "DescribeTimeToLive" => {
                self.store.execute(now, operation, &Value::Object(request))
            }
            _ => Err(errors::unknown_operation()),
        }
    }

    fn create_table(&mut self, now: Timestamp, request: Object) -> Result<Value, ApiError> {
        let name = text(&request, "TableName").unwrap_or_default().to_owned();
        if self.tables.get(&name).is_some() {
            return Err(errors::in_use(format!("Table already exists: {name}")));
        }
        let mut answer = self
            .store
            .execute(now, "CreateTable", &Value::Object(request))?;
        if let Some(description) = answer.get_mut("TableDescription") {
            self.tables.create(now, &name, description, &self.config);
            let before = just_before(now);
            self.tables
                .complete(before, &name, description, &self.config);
        }
        Ok(answer)
    }

    fn describe_table(&mut self, now: Timestamp, request: Object) -> Result<Value, ApiError> {
        let name = text(&request, "TableName").unwrap_or_default().to_owned();
        let mut description = match self.tables.deleted_description(&name) {
            Some(description) => description.clone(),
            None => self.describe_stored(now, request)?,
        };
        self.tables
            .complete(now, &name, &mut description, &self.config);
        Ok(json!({ "Table": description }))
    }

    fn describe_stored(&mut self, now: Timestamp, request: Object) -> Result<Value, ApiError> {
        let mut answer = self
            .store
            .execute(now, "DescribeTable", &Value::Object(request))?;
        Ok(answer.get_mut("Table").map(Value::take).unwrap_or_default())
    }

    fn update_table(&mut self, now: Timestamp, request: Object) -> Result<Value, ApiError> {
        let name = text(&request, "TableName").unwrap_or_default().to_owned();
        self.tables.check_change(now, &name)?;
        let changes = index_changes(&request);
        if let Some(table) = self.tables.get(&name)
            && !changes.is_empty()
            && table.has_moving_index(now)
        {
            return Err(ApiError::client(
                "LimitExceededException",
                "Subscriber limit exceeded: Only 1 online index can be created or deleted \
                 simultaneously per table",
            ));
        }
        let before = match changes
            .iter()
            .any(|change| matches!(change, IndexChange::Delete(_)))
        {
            true => self.describe_stored(now, object([("TableName", json!(name))]))?,
            false => Value::Null,
        };
        let mut answer = self
            .store
            .execute(now, "UpdateTable", &Value::Object(request))?;
        // The answer still shows the throughput of before.
        let after = self.describe_stored(now, object([("TableName", json!(name))]))?;
        let Some(table) = self.tables.get_mut(&name) else {
            return Ok(answer);
        };
        if changes.is_empty() {
            table.update_until(now.plus(milliseconds(self.config.table_update)));
        }
        for change in &changes {
            match change {
                IndexChange::Create(index) => table.add_index(now, index, &self.config),
                IndexChange::Delete(index) => {
                    let description = find_index(&before, index);
                    table.drop_index(now, index, description, &self.config);
                }
            }
        }
        table.note_description(&after);
        if let Some(description) = answer.get_mut("TableDescription") {
            let before = just_before(now);
            self.tables
                .complete(before, &name, description, &self.config);
        }
        Ok(answer)
    }

    fn delete_table(&mut self, now: Timestamp, request: Object) -> Result<Value, ApiError> {
        let name = text(&request, "TableName").unwrap_or_default().to_owned();
        if let Some(description) = self.tables.deleted_description(&name) {
            let mut description = description.clone();
            self.tables
                .complete(now, &name, &mut description, &self.config);
            return Ok(json!({ "TableDescription": description }));
        }
        self.tables.check_change(now, &name)?;
        let mut answer = self
            .store
            .execute(now, "DeleteTable", &Value::Object(request))?;
        self.versions.forget(&name);
        self.capacity.forget(&name);
        if let Some(description) = answer.get_mut("TableDescription") {
            self.tables
                .delete(now, &name, description.clone(), &self.config);
            self.tables.complete(now, &name, description, &self.config);
        }
        Ok(answer)
    }

    /// Lists the tables, those being deleted included, which the store no longer has.
    fn list_tables(&mut self, now: Timestamp, request: Object) -> Result<Value, ApiError> {
        let request = Value::Object(request);
        self.store.execute(now, "ListTables", &request)?;
        let start = request
            .get("ExclusiveStartTableName")
            .and_then(Value::as_str);
        let limit = request.get("Limit").and_then(Value::as_u64);
        let limit = limit.map_or(DEFAULT_PAGE, |limit| {
            usize::try_from(limit).unwrap_or(DEFAULT_PAGE)
        });
        let mut names: Vec<&String> = self
            .tables
            .names()
            .filter(|name| start.is_none_or(|start| name.as_str() > start))
            .take(limit.saturating_add(1))
            .collect();
        let more = names.len() > limit;
        names.truncate(limit);
        let mut answer = object([("TableNames", json!(names))]);
        if let (true, Some(last)) = (more, names.last()) {
            answer.insert("LastEvaluatedTableName".to_owned(), json!(last));
        }
        Ok(Value::Object(answer))
    }
}

/// The service answers while it still works: `CREATING` and `UPDATING` are what its answers say even
/// where the work takes no time here.
fn just_before(now: Timestamp) -> Timestamp {
    now.plus(-1)
}

enum IndexChange {
    Create(String),
    Delete(String),
}

fn index_changes(request: &Object) -> Vec<IndexChange> {
    let updates = request
        .get("GlobalSecondaryIndexUpdates")
        .and_then(Value::as_array);
    let name = |update: &Value, kind: &str| -> Option<String> {
        let name = update.get(kind)?.get("IndexName")?.as_str()?;
        Some(name.to_owned())
    };
    updates
        .into_iter()
        .flatten()
        .filter_map(|update| {
            let created = name(update, "Create").map(IndexChange::Create);
            created.or_else(|| name(update, "Delete").map(IndexChange::Delete))
        })
        .collect()
}

fn find_index(description: &Value, name: &str) -> Value {
    let indexes = description
        .get("GlobalSecondaryIndexes")
        .and_then(Value::as_array);
    let mut indexes = indexes.into_iter().flatten();
    let found = indexes.find(|index| index.get("IndexName").and_then(Value::as_str) == Some(name));
    found.cloned().unwrap_or_default()
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Object {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The limits of a new account.
fn limits() -> Value {
    json!({
        "AccountMaxReadCapacityUnits": 80_000,
        "AccountMaxWriteCapacityUnits": 80_000,
        "TableMaxReadCapacityUnits": 40_000,
        "TableMaxWriteCapacityUnits": 40_000,
    })
}
