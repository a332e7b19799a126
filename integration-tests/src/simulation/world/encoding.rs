//! Writes and items of the lease table in DynamoDB's JSON, as a client of the emulator's engine speaks it.

use std::collections::BTreeMap;

use kcl_lease::item::{Item, Value, attribute};
use kcl_lease::write::{Change, Edit, RowWrite, Term};
use serde_json::{Map, Value as Json, json};

/// The operation that carries out a change.
pub(super) fn operation(change: &Change) -> &'static str {
    match change {
        Change::Put(_) => "PutItem",
        Change::Update(_) => "UpdateItem",
        Change::Delete => "DeleteItem",
        Change::Check => "ConditionCheck",
    }
}

/// The operation and body that carry out one write.
pub(super) fn request(table: &str, write: &RowWrite) -> (&'static str, Json) {
    let mut expression = Expression::default();
    let mut body = Map::new();
    body.insert("TableName".to_owned(), json!(table));
    body.insert(
        "ReturnValuesOnConditionCheckFailure".to_owned(),
        json!("ALL_OLD"),
    );
    if let Some(condition) = expression.condition(&write.condition) {
        body.insert("ConditionExpression".to_owned(), json!(condition));
    }
    match &write.change {
        Change::Put(item) => {
            body.insert("Item".to_owned(), encode_item(item));
        }
        Change::Update(edits) => {
            let update = expression.update(edits);
            body.insert("UpdateExpression".to_owned(), json!(update));
        }
        Change::Delete | Change::Check => {}
    }
    if !matches!(write.change, Change::Put(_)) {
        body.insert("Key".to_owned(), key(&write.key));
    }
    if !expression.names.is_empty() {
        body.insert(
            "ExpressionAttributeNames".to_owned(),
            json!(expression.names),
        );
    }
    if !expression.values.is_empty() {
        body.insert(
            "ExpressionAttributeValues".to_owned(),
            Json::Object(expression.values),
        );
    }
    (operation(&write.change), Json::Object(body))
}

/// The body of a transaction.
pub(super) fn transaction(table: &str, writes: &[RowWrite]) -> Json {
    let parts = writes.iter().map(|write| {
        let (operation, body) = request(table, write);
        let member = operation.strip_suffix("Item").unwrap_or(operation);
        json!({ member: body })
    });
    json!({ "TransactItems": parts.collect::<Vec<_>>() })
}

/// A key as DynamoDB writes it.
pub(super) fn key(key: &str) -> Json {
    json!({ attribute::KEY: { "S": key } })
}

#[derive(Default)]
struct Expression {
    names: BTreeMap<String, &'static str>,
    values: Map<String, Json>,
}

impl Expression {
    fn condition(&mut self, terms: &[Term]) -> Option<String> {
        let parts = terms.iter().map(|term| match term {
            Term::Absent(name) => format!("attribute_not_exists({})", self.name(name)),
            Term::Present(name) => format!("attribute_exists({})", self.name(name)),
            Term::Equals(name, value) => format!("{} = {}", self.name(name), self.value(value)),
        });
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }

    fn update(&mut self, edits: &[Edit]) -> String {
        let mut clauses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for edit in edits {
            let name = self.name(edit.attribute());
            let (verb, part) = match edit {
                Edit::Set(_, value) => ("SET", format!("{name} = {}", self.value(value))),
                Edit::Remove(_) => ("REMOVE", name),
                Edit::AddNumber(_, number) => {
                    let number = self.value(&Value::number(*number));
                    ("ADD", format!("{name} {number}"))
                }
                Edit::AddToSet(_, texts) => {
                    let texts = self.value(&Value::Ss(texts.clone()));
                    ("ADD", format!("{name} {texts}"))
                }
                Edit::DeleteFromSet(_, texts) => {
                    let texts = self.value(&Value::Ss(texts.clone()));
                    ("DELETE", format!("{name} {texts}"))
                }
            };
            clauses.entry(verb).or_default().push(part);
        }
        let clauses = clauses
            .into_iter()
            .map(|(verb, parts)| format!("{verb} {}", parts.join(", ")));
        clauses.collect::<Vec<_>>().join(" ")
    }

    fn name(&mut self, name: &'static str) -> String {
        let placeholder = format!("#{name}");
        self.names.insert(placeholder.clone(), name);
        placeholder
    }

    fn value(&mut self, value: &Value) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), encode(value));
        placeholder
    }
}

pub(super) fn encode_item(item: &Item) -> Json {
    let members = item
        .iter()
        .map(|(name, value)| (name.clone(), encode(value)));
    Json::Object(members.collect())
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn bytes(json: Json) -> Option<Vec<u8>> {
    base64_simd::STANDARD.decode_to_vec(text(json)?).ok()
}

fn encode(value: &Value) -> Json {
    match value {
        Value::S(text) => json!({ "S": text }),
        Value::N(number) => json!({ "N": number }),
        Value::Bool(flag) => json!({ "BOOL": flag }),
        Value::Ss(texts) => json!({ "SS": texts }),
        Value::Ns(numbers) => json!({ "NS": numbers }),
        Value::L(values) => json!({ "L": values.iter().map(encode).collect::<Vec<_>>() }),
        Value::M(item) => json!({ "M": encode_item(item) }),
        Value::B(bytes) => json!({ "B": base64(bytes) }),
        Value::Bs(all) => {
            json!({ "BS": all.iter().map(|bytes| base64(bytes)).collect::<Vec<_>>() })
        }
        Value::Null => json!({ "NULL": true }),
    }
}

pub(super) fn decode_item(json: Json) -> Option<Item> {
    let Json::Object(members) = json else {
        return None;
    };
    members
        .into_iter()
        .map(|(name, value)| Some((name, decode(value)?)))
        .collect()
}

fn decode(json: Json) -> Option<Value> {
    let Json::Object(members) = json else {
        return None;
    };
    let (kind, value) = members.into_iter().next()?;
    let texts = |value: Json| -> Option<_> {
        let Json::Array(values) = value else {
            return None;
        };
        values.into_iter().map(text).collect()
    };
    Some(match kind.as_str() {
        "S" => Value::S(text(value)?),
        "N" => Value::N(text(value)?),
        "BOOL" => Value::Bool(value.as_bool()?),
        "NULL" => Value::Null,
        "SS" => Value::Ss(texts(value)?),
        "NS" => Value::Ns(texts(value)?),
        "B" => Value::B(bytes(value)?),
        "BS" => match value {
            Json::Array(values) => Value::Bs(values.into_iter().map(bytes).collect::<Option<_>>()?),
            _ => return None,
        },
        "L" => match value {
            Json::Array(values) => Value::L(values.into_iter().map(decode).collect::<Option<_>>()?),
            _ => return None,
        },
        "M" => Value::M(decode_item(value)?),
        _ => return None,
    })
}

fn text(json: Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_went() {
        let item = Item::from([
            ("s".to_owned(), Value::text("x")),
            ("n".to_owned(), Value::number(7)),
            ("b".to_owned(), Value::Bool(true)),
            ("ss".to_owned(), Value::texts(["a", "b"])),
            ("l".to_owned(), Value::L(vec![Value::number(1)])),
            (
                "m".to_owned(),
                Value::M(Item::from([("k".to_owned(), Value::Null)])),
            ),
        ]);
        assert_eq!(decode_item(encode_item(&item)), Some(item));
    }
}
