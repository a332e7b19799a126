//! What the layer over the store needs to know of a request before the store sees it.

use serde_json::{Map, Value};

use super::errors;
use crate::ApiError;

/// Nested parentheses and negations in an expression. The service counts operators (300 at most); the
/// store's parser is recursive, so the nesting has a bound of its own.
const MAX_NESTING: usize = 100;
/// The longest expression, in bytes, as in the service.
const MAX_EXPRESSION_BYTES: usize = 4096;

const EXPRESSIONS: [&str; 5] = [
    "ConditionExpression",
    "FilterExpression",
    "KeyConditionExpression",
    "ProjectionExpression",
    "UpdateExpression",
];

/// The actions of a transaction.
const TRANSACT_ACTIONS: [&str; 5] = ["Put", "Update", "Delete", "ConditionCheck", "Get"];

pub(super) type Object = Map<String, Value>;

/// Reads a body, replaces table ARNs by names and refuses expressions that are too deep.
pub(super) fn read(body: &[u8]) -> Result<Object, ApiError> {
    let Ok(Value::Object(mut request)) = serde_json::from_slice(body) else {
        return Err(errors::serialization(""));
    };
    name_table(&mut request);
    check_expressions(&request)?;
    if let Some(Value::Object(items)) = request.get_mut("RequestItems") {
        let named = std::mem::take(items).into_iter();
        *items = named
            .map(|(table, of)| (table_name(&table).to_owned(), of))
            .collect();
        for part in items.values().filter_map(Value::as_object) {
            check_expressions(part)?;
        }
    }
    if let Some(Value::Array(items)) = request.get_mut("TransactItems") {
        for action in items.iter_mut().filter_map(Value::as_object_mut) {
            for part in action.values_mut().filter_map(Value::as_object_mut) {
                name_table(part);
                check_expressions(part)?;
            }
        }
    }
    Ok(request)
}

/// The tables that a request on rows touches, each once for every mention.
pub(super) fn tables(request: &Object) -> Vec<&str> {
    let own = text(request, "TableName");
    let batch = request
        .get("RequestItems")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|items| items.keys().map(String::as_str));
    let transaction = transact_parts(request).filter_map(|(_, part)| text(part, "TableName"));
    own.into_iter().chain(batch).chain(transaction).collect()
}

/// The parts of a transaction with the name of their action.
pub(super) fn transact_parts(request: &Object) -> impl Iterator<Item = (&'static str, &Object)> {
    request
        .get("TransactItems")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .filter_map(|action| {
            TRANSACT_ACTIONS
                .into_iter()
                .find_map(|name| Some((name, action.get(name)?.as_object()?)))
        })
}

pub(super) fn text<'a>(object: &'a Object, member: &str) -> Option<&'a str> {
    object.get(member).and_then(Value::as_str)
}

/// Whether a read asked for the latest version.
pub(super) fn is_consistent(request: &Object) -> bool {
    match request.get("ConsistentRead") {
        Some(Value::Bool(consistent)) => *consistent,
        Some(Value::String(consistent)) => consistent.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// The table's name in `arn:aws:dynamodb:region:account:table/name`, or the text itself.
pub(super) fn table_name(name_or_arn: &str) -> &str {
    name_or_arn
        .strip_prefix("arn:aws:dynamodb:")
        .and_then(|rest| rest.splitn(3, ':').nth(2))
        .and_then(|resource| resource.strip_prefix("table/"))
        .and_then(|path| path.split('/').next())
        .unwrap_or(name_or_arn)
}

fn name_table(object: &mut Object) {
    if let Some(Value::String(name)) = object.get_mut("TableName") {
        let bare = table_name(name);
        if bare.len() != name.len() {
            *name = bare.to_owned();
        }
    }
}

fn check_expressions(object: &Object) -> Result<(), ApiError> {
    for kind in EXPRESSIONS {
        if let Some(expression) = text(object, kind) {
            check_expression(kind, expression)?;
        }
    }
    Ok(())
}

fn check_expression(kind: &str, expression: &str) -> Result<(), ApiError> {
    let size = expression.len();
    if size > MAX_EXPRESSION_BYTES {
        return Err(errors::validation(format!(
            "Invalid {kind}: Expression size has exceeded the maximum allowed size; expression size: {size}"
        )));
    }
    if nesting(expression) > MAX_NESTING {
        return Err(errors::validation(format!(
            "Invalid {kind}: The expression contains too many nested operators"
        )));
    }
    Ok(())
}

/// The depth of an expression in parentheses and negations.
fn nesting(expression: &str) -> usize {
    let mut deepest = 0;
    let mut outer: Vec<usize> = Vec::new();
    let mut depth = 0;
    for token in tokens(expression) {
        match token {
            "(" => {
                outer.push(depth);
                depth += 1;
            }
            ")" => depth = outer.pop().unwrap_or(0),
            word if word.eq_ignore_ascii_case("not") => depth += 1,
            _ => depth = outer.last().map_or(0, |before| before + 1),
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Words and parentheses of an expression; everything else separates them.
fn tokens(expression: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '#' | ':' | '.');
    expression
        .split_inclusive(move |c: char| !is_word(c))
        .flat_map(move |piece| {
            let word = piece.trim_end_matches(move |c: char| !is_word(c));
            let parenthesis = piece
                .get(word.len()..)
                .filter(|end| matches!(*end, "(" | ")"));
            [Some(word).filter(|word| !word.is_empty()), parenthesis]
        })
        .flatten()
}
