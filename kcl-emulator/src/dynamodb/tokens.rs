//! `ClientRequestToken`: the same transaction sent again within ten minutes is answered, not repeated.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::errors;
use super::request::Object;
use crate::{ApiError, Timestamp};

const WINDOW_MILLISECONDS: i64 = 10 * 60 * 1000;
const MAX_LENGTH: usize = 36;

#[derive(Debug)]
struct Done {
    at: Timestamp,
    digest: [u8; 16],
    answer: Value,
}

/// A token with the digest of the transaction that came with it.
#[derive(Debug)]
pub(super) struct Token {
    text: String,
    digest: [u8; 16],
}

/// The tokens of the transactions that succeeded lately.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    done: BTreeMap<String, Done>,
}

impl Tokens {
    /// Takes the token out of a request, so that the store does not judge it by a clock of its own.
    pub(super) fn take(request: &mut Object) -> Result<Option<Token>, ApiError> {
        let Some(Value::String(text)) = request.get("ClientRequestToken") else {
            return Ok(None);
        };
        let text = text.clone();
        let bound = match text.len() {
            0 => "Member must have length greater than or equal to 1".to_owned(),
            length if length > MAX_LENGTH => {
                format!("Member must have length less than or equal to {MAX_LENGTH}")
            }
            _ => {
                request.remove("ClientRequestToken");
                let items = request.get("TransactItems").map(Value::to_string);
                let digest = Md5::digest(items.unwrap_or_default()).into();
                return Ok(Some(Token { text, digest }));
            }
        };
        Err(errors::validation(format!(
            "1 validation error detected: Value '{text}' at 'clientRequestToken' failed to satisfy \
             constraint: {bound}"
        )))
    }

    /// The answer to a transaction that has already been done.
    pub(super) fn replay(
        &mut self,
        now: Timestamp,
        token: &Token,
        asked: Option<&str>,
    ) -> Result<Option<Value>, ApiError> {
        self.done
            .retain(|_, done| now.since(done.at) < WINDOW_MILLISECONDS);
        let Some(done) = self.done.get(&token.text) else {
            return Ok(None);
        };
        if done.digest != token.digest {
            return Err(ApiError::client(
                "IdempotentParameterMismatchException",
                "An error occurred (IdempotentParameterMismatchException)",
            ));
        }
        let mut answer = done.answer.clone();
        match asked {
            Some("TOTAL" | "INDEXES") => count_as_reads(&mut answer),
            _ => {
                if let Value::Object(answer) = &mut answer {
                    answer.remove("ConsumedCapacity");
                }
            }
        }
        Ok(Some(answer))
    }

    /// Remembers a transaction that succeeded.
    pub(super) fn remember(&mut self, now: Timestamp, token: Token, answer: Value) {
        let Token { text, digest } = token;
        self.done.insert(
            text,
            Done {
                at: now,
                digest,
                answer,
            },
        );
    }
}

/// A repeated transaction is charged as reads of its rows.
fn count_as_reads(answer: &mut Value) {
    let all = answer
        .get_mut("ConsumedCapacity")
        .and_then(Value::as_array_mut);
    for consumed in all.into_iter().flatten().filter_map(Value::as_object_mut) {
        consumed.remove("WriteCapacityUnits");
        if let Some(units) = consumed.get("CapacityUnits").cloned() {
            consumed.insert("ReadCapacityUnits".to_owned(), json!(units));
        }
    }
}
