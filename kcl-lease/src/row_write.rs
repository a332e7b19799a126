//! One conditional write to one item of the lease table, as data.

use std::collections::BTreeSet;

use crate::item::{Item, Value, attribute};

/// The name of an attribute.
pub type Attribute = &'static str;

/// One conditional write to one item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowWrite {
    /// The item's key.
    pub key: String,
    /// All of these must hold for the item as it is.
    pub condition: Vec<Term>,
    /// What happens then.
    pub change: Change,
}

/// One part of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// The attribute is absent. Of the key: the item does not exist.
    Absent(Attribute),
    /// The attribute is present. Of the key: the item exists.
    Present(Attribute),
    /// The attribute is present and equal.
    Equals(Attribute, Value),
}

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// Stores the whole item.
    Put(Item),
    /// Changes some attributes; creates the item if the condition lets an absent one pass.
    Update(Vec<Edit>),
    /// Deletes the item.
    Delete,
    /// Changes nothing: a condition for the other writes of a transaction.
    Check,
}

/// A change of one attribute. A write names each attribute at most once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Edit {
    /// Stores a value.
    Set(Attribute, Value),
    /// Removes the attribute.
    Remove(Attribute),
    /// Adds to a number; absent counts as 0.
    AddNumber(Attribute, u64),
    /// Adds to a set of texts; absent counts as empty. The texts must not be empty.
    AddToSet(Attribute, BTreeSet<String>),
    /// Takes texts out of a set; one that becomes empty goes away. The texts must not be empty.
    DeleteFromSet(Attribute, BTreeSet<String>),
}

/// Longest key of an item in bytes, a limit of DynamoDB.
const MAX_KEY: usize = 2_048;
/// Most writes in one transaction, a limit of DynamoDB.
const MAX_TRANSACTION: usize = 100;

impl RowWrite {
    /// Checks what DynamoDB would refuse whatever the item says, so that all tables refuse the same.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        if self.key.is_empty() || self.key.len() > MAX_KEY {
            return Err(format!("a key has 1 to {MAX_KEY} bytes"));
        }
        for term in &self.condition {
            if let Term::Equals(name, value) = term {
                validate_value(name, value)?;
            }
        }
        match &self.change {
            Change::Put(item) => {
                if item.get(attribute::KEY) != Some(&Value::text(self.key.as_str())) {
                    return Err("the item's key is not the key of the write".to_owned());
                }
                item.iter()
                    .try_for_each(|(name, value)| validate_value(name, value))
            }
            Change::Update(edits) => validate_edits(edits),
            Change::Check if self.condition.is_empty() => Err("a check has a condition".to_owned()),
            Change::Delete | Change::Check => Ok(()),
        }
    }
}

/// Checks the writes of one transaction.
///
/// # Errors
/// What is wrong with it.
pub fn validate_transaction(writes: &[RowWrite]) -> Result<(), String> {
    if writes.is_empty() || writes.len() > MAX_TRANSACTION {
        return Err(format!("a transaction has 1 to {MAX_TRANSACTION} writes"));
    }
    let mut keys = BTreeSet::new();
    for write in writes {
        write.validate()?;
        if !keys.insert(write.key.as_str()) {
            return Err("a transaction writes each item at most once".to_owned());
        }
    }
    Ok(())
}

fn validate_edits(edits: &[Edit]) -> Result<(), String> {
    if edits.is_empty() {
        return Err("an update has at least one edit".to_owned());
    }
    let mut names = BTreeSet::new();
    for edit in edits {
        let name = edit.attribute();
        if name == attribute::KEY {
            return Err("an update cannot change the key".to_owned());
        }
        if !names.insert(name) {
            return Err(format!("an update changes {name} only once"));
        }
        match edit {
            Edit::Set(_, value) => validate_value(name, value)?,
            Edit::AddToSet(_, texts) | Edit::DeleteFromSet(_, texts) if texts.is_empty() => {
                return Err(format!("the set for {name} is empty"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn validate_value(name: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Ss(texts) if texts.is_empty() => Err(format!("the set {name} is empty")),
        Value::Ns(numbers) if numbers.is_empty() => Err(format!("the set {name} is empty")),
        Value::Bs(bytes) if bytes.is_empty() => Err(format!("the set {name} is empty")),
        _ => Ok(()),
    }
}

impl Edit {
    /// The attribute that the edit changes.
    #[must_use]
    pub fn attribute(&self) -> Attribute {
        match self {
            Self::Set(name, _)
            | Self::Remove(name)
            | Self::AddNumber(name, _)
            | Self::AddToSet(name, _)
            | Self::DeleteFromSet(name, _) => name,
        }
    }
}
