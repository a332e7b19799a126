//! Writes to DynamoDB: one request each, with the row as it was if the condition fails.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Error as ServiceError;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnValue,
    ReturnValuesOnConditionCheckFailure as OnFailure, TransactWriteItem, Update,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::CreateUnhandledError;

use crate::item::{Item, attribute};
use crate::table::{Refusal, TableError, Transacted, Written};
use crate::write::{Change, RowWrite};

use super::DynamoDbLeaseTable;
use super::error::{Operation, failure};
use super::expression::Expression;
use super::row::{attributes_to_sdk, item_from_sdk};

impl DynamoDbLeaseTable {
    pub(super) async fn put(
        &self,
        expression: Expression,
        item: Item,
    ) -> Result<Written, TableError> {
        let answer = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(attributes_to_sdk(item.clone()).collect()))
            .set_condition_expression(expression.condition)
            .set_expression_attribute_names(filled(expression.names))
            .set_expression_attribute_values(filled_values(expression.values))
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Written::Applied(item)),
            Err(error) => self.refusal(Operation::PUT, error),
        }
    }

    pub(super) async fn update(
        &self,
        expression: Expression,
        key: String,
    ) -> Result<Written, TableError> {
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(attribute::KEY, AttributeValue::S(key))
            .set_condition_expression(expression.condition)
            .set_update_expression(expression.update)
            .set_expression_attribute_names(filled(expression.names))
            .set_expression_attribute_values(filled_values(expression.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(Written::Applied(
                answer.attributes.map(item_from_sdk).unwrap_or_default(),
            )),
            Err(error) => self.refusal(Operation::UPDATE, error),
        }
    }

    pub(super) async fn delete(
        &self,
        expression: Expression,
        key: String,
    ) -> Result<Written, TableError> {
        let answer = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(attribute::KEY, AttributeValue::S(key))
            .set_condition_expression(expression.condition)
            .set_expression_attribute_names(filled(expression.names))
            .set_expression_attribute_values(filled_values(expression.values))
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Written::Applied(Item::new())),
            Err(error) => self.refusal(Operation::DELETE, error),
        }
    }

    pub(super) async fn transact_all(
        &self,
        writes: Vec<RowWrite>,
    ) -> Result<Transacted, TableError> {
        let items = writes
            .into_iter()
            .map(|write| transact_item(&self.table, write))
            .collect::<Result<Vec<_>, BuildError>>()
            .map_err(|error| self.invalid(Operation::TRANSACT, error.to_string()))?;
        let answer = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Transacted::Applied),
            Err(error) => match cancelled(error) {
                Ok(reasons) => reasons
                    .into_iter()
                    .map(|reason| self.transact_refusal(reason))
                    .collect::<Result<_, _>>()
                    .map(Transacted::Refused),
                Err(error) => Err(failure(Operation::TRANSACT, &self.table, *error)),
            },
        }
    }

    /// A failed condition is an answer; everything else is an error.
    fn refusal<E>(
        &self,
        operation: Operation,
        error: SdkError<E, HttpResponse>,
    ) -> Result<Written, TableError>
    where
        E: ProvideErrorMetadata + CreateUnhandledError + Into<ServiceError>,
        E: std::error::Error + Send + Sync + 'static,
    {
        if error.code() != Some("ConditionalCheckFailedException") {
            return Err(failure(operation, &self.table, error));
        }
        match error.into_service_error().into() {
            ServiceError::ConditionalCheckFailedException(failed) => {
                Ok(Written::Refused(failed.item.map(item_from_sdk)))
            }
            other => Err(self.invalid(operation, other.to_string())),
        }
    }

    /// The codes are those of the API reference, TransactWriteItems, "cancellation reasons".
    fn transact_refusal(&self, reason: CancellationReason) -> Result<Refusal, TableError> {
        Ok(match reason.code().unwrap_or("None") {
            "None" => Refusal::None,
            "ConditionalCheckFailed" => Refusal::Condition(reason.item.map(item_from_sdk)),
            "TransactionConflict" => Refusal::Conflict,
            "ProvisionedThroughputExceeded" | "ThrottlingError" => Refusal::Throttled,
            code => {
                let message = reason.message().unwrap_or("no message");
                return Err(self.invalid(Operation::TRANSACT, format!("{code}: {message}")));
            }
        })
    }
}

/// The reasons, if the transaction was cancelled; else the error as it came.
fn cancelled(
    error: SdkError<TransactWriteItemsError, HttpResponse>,
) -> Result<Vec<CancellationReason>, Box<SdkError<TransactWriteItemsError, HttpResponse>>> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled))
            if cancelled.cancellation_reasons.is_some() =>
        {
            Ok(cancelled.cancellation_reasons().to_vec())
        }
        _ => Err(Box::new(error)),
    }
}

fn transact_item(table: &str, write: RowWrite) -> Result<TransactWriteItem, BuildError> {
    let expression = Expression::of(&write);
    let names = filled(expression.names);
    let values = filled_values(expression.values);
    let condition = expression.condition;
    let key = AttributeValue::S(write.key);
    let item = TransactWriteItem::builder();
    let item = match write.change {
        Change::Put(attributes) => item.put(
            Put::builder()
                .table_name(table)
                .set_item(Some(attributes_to_sdk(attributes).collect()))
                .set_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(OnFailure::AllOld)
                .build()?,
        ),
        Change::Update(_) => item.update(
            Update::builder()
                .table_name(table)
                .key(attribute::KEY, key)
                .set_condition_expression(condition)
                .set_update_expression(expression.update)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(OnFailure::AllOld)
                .build()?,
        ),
        Change::Delete => item.delete(
            Delete::builder()
                .table_name(table)
                .key(attribute::KEY, key)
                .set_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(OnFailure::AllOld)
                .build()?,
        ),
        Change::Check => item.condition_check(
            ConditionCheck::builder()
                .table_name(table)
                .key(attribute::KEY, key)
                .set_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(OnFailure::AllOld)
                .build()?,
        ),
    };
    Ok(item.build())
}

/// The SDK's map of placeholders, which must be absent instead of empty.
fn filled<M: FromIterator<(String, String)>>(names: BTreeMap<String, String>) -> Option<M> {
    (!names.is_empty()).then(|| names.into_iter().collect())
}

fn filled_values<M: FromIterator<(String, AttributeValue)>>(values: Item) -> Option<M> {
    (!values.is_empty()).then(|| attributes_to_sdk(values).collect())
}
