//! Reading attributes of one item, each failure naming key and attribute.

use std::collections::BTreeSet;

use crate::item::{Item, Value, attribute};

/// Longer texts in keys, owners and sets are refused; DynamoDB allows hash keys of 2,048 bytes.
const MAX_TEXT: usize = 2_048;
/// Larger sets are refused. A shard has at most two parents and two children.
const MAX_SET: usize = 4_096;
/// The Java library's counters are signed 64-bit numbers; leaving the upper half free also means that adding one is safe.
const MAX_NUMBER: u64 = i64::MAX as u64;

/// One item of the lease table that cannot be used. Other items are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "item {key:?} of the lease table is not usable: attribute {attribute} {problem}; correct or delete the item"
)]
pub struct RowError {
    key: String,
    attribute: &'static str,
    problem: String,
}

impl RowError {
    /// The item's key, shortened if it is very long; empty if it has none.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The attribute at fault.
    #[must_use]
    pub fn attribute(&self) -> &'static str {
        self.attribute
    }
}

/// Typed access to the attributes of one item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowReader<'a>(pub(crate) &'a Item);

impl<'a> RowReader<'a> {
    pub(crate) fn error(&self, attribute: &'static str, problem: impl Into<String>) -> RowError {
        let key = match self.0.get(attribute::KEY) {
            Some(Value::S(key)) => key.chars().take(128).collect(),
            _ => String::new(),
        };
        RowError {
            key,
            attribute,
            problem: problem.into(),
        }
    }

    fn wrong_type(&self, attribute: &'static str, wanted: &str, found: &Value) -> RowError {
        let problem = format!("has type {} instead of {wanted}", found.type_name());
        self.error(attribute, problem)
    }

    fn required<T>(&self, attribute: &'static str, found: Option<T>) -> Result<T, RowError> {
        found.ok_or_else(|| self.error(attribute, "is missing"))
    }

    /// A text; an empty one counts as absent, as in the Java library.
    pub(crate) fn optional_text(
        &self,
        attribute: &'static str,
    ) -> Result<Option<&'a str>, RowError> {
        match self.0.get(attribute) {
            None => Ok(None),
            Some(Value::S(text)) if text.is_empty() => Ok(None),
            Some(Value::S(text)) if text.len() <= MAX_TEXT => Ok(Some(text)),
            Some(Value::S(text)) => {
                let problem = format!("has {} bytes, more than {MAX_TEXT}", text.len());
                Err(self.error(attribute, problem))
            }
            Some(other) => Err(self.wrong_type(attribute, "S", other)),
        }
    }

    pub(crate) fn text(&self, attribute: &'static str) -> Result<&'a str, RowError> {
        self.required(attribute, self.optional_text(attribute)?)
    }

    pub(crate) fn optional_number(&self, attribute: &'static str) -> Result<Option<u64>, RowError> {
        match self.0.get(attribute) {
            None => Ok(None),
            Some(Value::N(text)) => self.parse_number(attribute, text).map(Some),
            Some(other) => Err(self.wrong_type(attribute, "N", other)),
        }
    }

    pub(crate) fn number(&self, attribute: &'static str) -> Result<u64, RowError> {
        self.required(attribute, self.optional_number(attribute)?)
    }

    pub(crate) fn parse_number(
        &self,
        attribute: &'static str,
        text: &str,
    ) -> Result<u64, RowError> {
        text.parse()
            .ok()
            .filter(|number| *number <= MAX_NUMBER)
            .ok_or_else(|| {
                self.error(
                    attribute,
                    format!("is no whole number from 0 to {MAX_NUMBER}"),
                )
            })
    }

    /// Any unsigned 64-bit number: for digests, which use all bits.
    pub(crate) fn optional_digest(&self, attribute: &'static str) -> Result<Option<u64>, RowError> {
        match self.0.get(attribute) {
            None => Ok(None),
            Some(Value::N(text)) => text
                .parse()
                .map(Some)
                .map_err(|_| self.error(attribute, "is no unsigned 64-bit number")),
            Some(other) => Err(self.wrong_type(attribute, "N", other)),
        }
    }

    pub(crate) fn optional_bool(&self, attribute: &'static str) -> Result<Option<bool>, RowError> {
        match self.0.get(attribute) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong_type(attribute, "BOOL", other)),
        }
    }

    pub(crate) fn optional_bytes(
        &self,
        attribute: &'static str,
    ) -> Result<Option<&'a [u8]>, RowError> {
        match self.0.get(attribute) {
            None => Ok(None),
            Some(Value::B(bytes)) => Ok(Some(bytes)),
            Some(other) => Err(self.wrong_type(attribute, "B", other)),
        }
    }

    /// A set of texts; absent means empty.
    pub(crate) fn texts(&self, attribute: &'static str) -> Result<&'a BTreeSet<String>, RowError> {
        let texts = self.any_texts(attribute)?;
        if texts.len() > MAX_SET {
            let problem = format!("has {} entries, more than {MAX_SET}", texts.len());
            return Err(self.error(attribute, problem));
        }
        if texts.iter().any(|text| text.len() > MAX_TEXT) {
            let problem = format!("has an entry of more than {MAX_TEXT} bytes");
            return Err(self.error(attribute, problem));
        }
        Ok(texts)
    }

    /// A set of any texts; absent means empty.
    pub(crate) fn any_texts(
        &self,
        attribute: &'static str,
    ) -> Result<&'a BTreeSet<String>, RowError> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        match self.0.get(attribute) {
            None => Ok(&NONE),
            Some(Value::Ss(texts)) => Ok(texts),
            Some(other) => Err(self.wrong_type(attribute, "SS", other)),
        }
    }

    pub(crate) fn optional_map(
        &self,
        attribute: &'static str,
    ) -> Result<Option<&'a Item>, RowError> {
        match self.0.get(attribute) {
            None => Ok(None),
            Some(Value::M(map)) => Ok(Some(map)),
            Some(other) => Err(self.wrong_type(attribute, "M", other)),
        }
    }
}
