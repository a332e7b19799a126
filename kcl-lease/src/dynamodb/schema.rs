//! Making sure that the lease table exists and is usable.

use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, TableDescription, TableStatus,
};
use tokio::time::Instant;

use crate::item::attribute;
use crate::leader_item::LEADER_KEY;
use crate::table::{Prepared, TableError, TableErrorKind};

use super::DynamoDbLeaseTable;
use super::error::{Operation, failure};

/// A table is usable some time after its creation, at once on an emulator: the first look follows soon.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a look at the table shows.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Usable,
    NotYet(String),
    Missing,
}

impl DynamoDbLeaseTable {
    /// Looks, creates the table if it is missing, and looks again until it is usable.
    ///
    /// Fleets start together: somebody else creating the table in between is fine.
    pub(super) async fn make_usable(&self) -> Result<Prepared, TableError> {
        let deadline = Instant::now() + self.options.prepare_timeout;
        let mut created = false;
        let mut wait = FIRST_WAIT;
        loop {
            let problem = match self.step(&mut created).await {
                Ok(Look::Usable) => return Ok(Prepared { created }),
                Ok(Look::NotYet(status)) => {
                    self.error(Operation::DESCRIBE, TableErrorKind::NotActive { status })
                }
                Ok(Look::Missing) => self.error(Operation::DESCRIBE, TableErrorKind::TableMissing),
                Err(error) if error.is_retryable() => error,
                Err(error) => return Err(error),
            };
            if Instant::now() + wait > deadline {
                return Err(problem);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn step(&self, created: &mut bool) -> Result<Look, TableError> {
        let look = self.look().await?;
        if look == Look::Missing && !*created {
            *created = self.create().await?;
        }
        Ok(look)
    }

    /// Describes the table. Where that is not permitted, reading from it shows as much.
    async fn look(&self) -> Result<Look, TableError> {
        let answer = self
            .client
            .describe_table()
            .table_name(&self.table)
            .send()
            .await;
        let error = match answer {
            Ok(answer) => return self.judge(answer.table()),
            Err(error) => failure(Operation::DESCRIBE, &self.table, error),
        };
        match error.kind() {
            TableErrorKind::TableMissing => Ok(Look::Missing),
            TableErrorKind::AccessDenied { .. } => self.probe().await,
            _ => Err(error),
        }
    }

    fn judge(&self, table: Option<&TableDescription>) -> Result<Look, TableError> {
        let Some(table) = table else {
            return Ok(Look::NotYet("unknown".to_owned()));
        };
        if !is_lease_table(table) {
            let kind = TableErrorKind::WrongSchema {
                found: describe_keys(table),
            };
            return Err(self.error(Operation::DESCRIBE, kind));
        }
        Ok(match table.table_status() {
            Some(TableStatus::Active | TableStatus::Updating) => Look::Usable,
            Some(status) => Look::NotYet(status.as_str().to_owned()),
            None => Look::NotYet("unknown".to_owned()),
        })
    }

    async fn probe(&self) -> Result<Look, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(attribute::KEY, AttributeValue::S(LEADER_KEY.to_owned()))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Look::Usable),
            Err(error) => {
                let error = failure(Operation::GET, &self.table, error);
                match error.kind() {
                    TableErrorKind::TableMissing => Ok(Look::Missing),
                    _ => Err(error),
                }
            }
        }
    }

    /// Creates the table; false if somebody else just did.
    async fn create(&self) -> Result<bool, TableError> {
        let (definition, key) =
            lease_key().map_err(|error| self.invalid(Operation::CREATE, error.to_string()))?;
        let answer = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(definition)
            .key_schema(key)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
            Err(error) => Err(failure(Operation::CREATE, &self.table, error)),
        }
    }
}

fn lease_key() -> Result<(AttributeDefinition, KeySchemaElement), BuildError> {
    let definition = AttributeDefinition::builder()
        .attribute_name(attribute::KEY)
        .attribute_type(ScalarAttributeType::S)
        .build()?;
    let key = KeySchemaElement::builder()
        .attribute_name(attribute::KEY)
        .key_type(KeyType::Hash)
        .build()?;
    Ok((definition, key))
}

fn is_lease_table(table: &TableDescription) -> bool {
    let [key] = table.key_schema() else {
        return false;
    };
    key.attribute_name() == attribute::KEY
        && *key.key_type() == KeyType::Hash
        && type_of(table, attribute::KEY) == Some(&ScalarAttributeType::S)
}

fn type_of<'a>(table: &'a TableDescription, name: &str) -> Option<&'a ScalarAttributeType> {
    let definitions = table.attribute_definitions();
    let found = definitions.iter().find(|d| d.attribute_name() == name);
    found.map(AttributeDefinition::attribute_type)
}

/// Such as `id (N, HASH), at (S, RANGE)`.
fn describe_keys(table: &TableDescription) -> String {
    let parts: Vec<_> = table
        .key_schema()
        .iter()
        .map(|key| {
            let name = key.attribute_name();
            let kind = type_of(table, name).map_or("?", ScalarAttributeType::as_str);
            format!("{name} ({kind}, {})", key.key_type())
        })
        .collect();
    parts.join(", ")
}
