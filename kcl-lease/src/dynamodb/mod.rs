//! The lease table in DynamoDB.

mod error;
mod expression;
mod row;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::item::{Item, attribute};
use crate::table::{
    Consistency, LeaseTable, Prepared, ScanPage, ScanToken, TableError, TableErrorKind, Transacted,
    Written,
};
use crate::write::{Change, RowWrite, validate_transaction};

use error::{Operation, failure};
use expression::Expression;
use row::{attributes_to_sdk, item_from_sdk};

/// Limits of the calls to DynamoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamoDbOptions {
    /// The longest time that one call takes, from sending to the whole answer.
    pub call_timeout: Duration,
    /// [`LeaseTable::prepare`] looks at the table until this much time is over.
    pub prepare_timeout: Duration,
}

/// The lease table in DynamoDB.
///
/// Each call is one request: the SDK's own repetitions are off, because after a lost answer the coordinator must look
/// before it writes again.
#[derive(Debug, Clone)]
pub struct DynamoDbLeaseTable {
    client: Client,
    table: String,
    options: DynamoDbOptions,
}

impl DynamoDbLeaseTable {
    /// A lease table that uses `client`'s endpoint, credentials and HTTP stack. Makes no call.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>, options: DynamoDbOptions) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.call_timeout)
            .operation_timeout(options.call_timeout)
            .build();
        let config = client
            .config()
            .to_builder()
            .retry_config(RetryConfig::disabled())
            // Not shared with other clients: trouble of theirs must not count against lease calls.
            .retry_partition(RetryPartition::new("kcl-lease"))
            .timeout_config(timeouts)
            .build();
        Self {
            client: Client::from_conf(config),
            table: table.into(),
            options,
        }
    }

    fn error(&self, operation: Operation, kind: TableErrorKind) -> TableError {
        TableError::new(kind, operation.name, &self.table)
    }

    fn invalid(&self, operation: Operation, reason: impl Into<String>) -> TableError {
        let reason = reason.into();
        self.error(operation, TableErrorKind::Invalid { reason })
    }
}

#[async_trait]
impl LeaseTable for DynamoDbLeaseTable {
    async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<Item>, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(attribute::KEY, AttributeValue::S(key.to_owned()))
            .consistent_read(consistency == Consistency::Strong)
            .send()
            .await
            .map_err(|error| failure(Operation::GET, &self.table, error))?;
        Ok(answer.item.map(item_from_sdk))
    }

    async fn scan(
        &self,
        consistency: Consistency,
        page: Option<ScanToken>,
    ) -> Result<ScanPage, TableError> {
        let answer = self
            .client
            .scan()
            .table_name(&self.table)
            .consistent_read(consistency == Consistency::Strong)
            .set_exclusive_start_key(page.map(|token| attributes_to_sdk(token.0).collect()))
            .send()
            .await
            .map_err(|error| failure(Operation::SCAN, &self.table, error))?;
        Ok(ScanPage {
            items: answer
                .items
                .into_iter()
                .flatten()
                .map(item_from_sdk)
                .collect(),
            next: answer
                .last_evaluated_key
                .map(|key| ScanToken(item_from_sdk(key))),
        })
    }

    async fn write(&self, write: RowWrite) -> Result<Written, TableError> {
        write
            .validate()
            .map_err(|reason| self.invalid(Operation::of(&write.change), reason))?;
        let expression = Expression::of(&write);
        match write.change {
            Change::Put(item) => self.put(expression, item).await,
            Change::Update(_) => self.update(expression, write.key).await,
            Change::Delete => self.delete(expression, write.key).await,
            Change::Check => {
                Err(self.invalid(Operation::TRANSACT, "a check is for transactions only"))
            }
        }
    }

    async fn transact(&self, writes: Vec<RowWrite>) -> Result<Transacted, TableError> {
        validate_transaction(&writes)
            .map_err(|reason| self.invalid(Operation::TRANSACT, reason))?;
        self.transact_all(writes).await
    }

    async fn prepare(&self) -> Result<Prepared, TableError> {
        self.make_usable().await
    }
}
