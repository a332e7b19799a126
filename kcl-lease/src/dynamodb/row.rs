//! Items between our own values and the SDK's.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::item::{Item, Value};

/// The SDK's form of a value.
pub(super) fn to_sdk(value: Value) -> AttributeValue {
    match value {
        Value::S(text) => AttributeValue::S(text),
        Value::N(number) => AttributeValue::N(number),
        Value::B(bytes) => AttributeValue::B(Blob::new(bytes)),
        Value::Bool(value) => AttributeValue::Bool(value),
        Value::Null => AttributeValue::Null(true),
        Value::Ss(texts) => AttributeValue::Ss(texts.into_iter().collect()),
        Value::Ns(numbers) => AttributeValue::Ns(numbers.into_iter().collect()),
        Value::Bs(set) => AttributeValue::Bs(set.into_iter().map(Blob::new).collect()),
        Value::L(values) => AttributeValue::L(values.into_iter().map(to_sdk).collect()),
        Value::M(item) => AttributeValue::M(
            item.into_iter()
                .map(|(name, value)| (name, to_sdk(value)))
                .collect(),
        ),
    }
}

/// Our form of a value; `None` for a type that this version of the SDK does not know. Such an attribute is not seen,
/// and stays in the table, because changes name single attributes.
fn from_sdk(value: AttributeValue) -> Option<Value> {
    Some(match value {
        AttributeValue::S(text) => Value::S(text),
        AttributeValue::N(number) => Value::N(number),
        AttributeValue::B(bytes) => Value::B(bytes.into_inner()),
        AttributeValue::Bool(value) => Value::Bool(value),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::Ss(texts) => Value::Ss(texts.into_iter().collect()),
        AttributeValue::Ns(numbers) => Value::Ns(numbers.into_iter().collect()),
        AttributeValue::Bs(set) => Value::Bs(set.into_iter().map(Blob::into_inner).collect()),
        AttributeValue::L(values) => Value::L(values.into_iter().filter_map(from_sdk).collect()),
        AttributeValue::M(attributes) => Value::M(item_from_sdk(attributes)),
        _ => return None,
    })
}

/// Our form of an item.
pub(super) fn item_from_sdk(
    attributes: impl IntoIterator<Item = (String, AttributeValue)>,
) -> Item {
    attributes
        .into_iter()
        .filter_map(|(name, value)| Some((name, from_sdk(value)?)))
        .collect()
}

/// An item's attributes in the SDK's form, for its map type.
pub(super) fn attributes_to_sdk(item: Item) -> impl Iterator<Item = (String, AttributeValue)> {
    item.into_iter().map(|(name, value)| (name, to_sdk(value)))
}
