//! What a write does to an item: its condition and its change as pure functions.

use std::collections::BTreeSet;

use crate::item::{Item, Value, attribute};
use crate::write::{Change, Edit, RowWrite, Term};

/// What became of one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Its condition held: this is the item after it, `None` if there is none.
    Applied(Option<Item>),
    /// Its condition did not hold.
    Refused,
}

/// Carries `write` out on the item that its key names. Numbers are compared as text.
///
/// # Errors
/// When the item's attributes are not of the types that the write needs.
pub(crate) fn apply(write: &RowWrite, found: Option<&Item>) -> Result<Effect, String> {
    match holds(&write.condition, found) {
        true => change(write, found).map(Effect::Applied),
        false => Ok(Effect::Refused),
    }
}

fn holds(condition: &[Term], item: Option<&Item>) -> bool {
    let value = |name: &str| item.and_then(|item| item.get(name));
    condition.iter().all(|term| match term {
        Term::Absent(name) => value(name).is_none(),
        Term::Present(name) => value(name).is_some(),
        Term::Equals(name, wanted) => value(name) == Some(wanted),
    })
}

/// The item after the write; `None` if there is none.
fn change(write: &RowWrite, found: Option<&Item>) -> Result<Option<Item>, String> {
    Ok(match &write.change {
        Change::Put(item) => Some(item.clone()),
        Change::Delete => None,
        Change::Check => found.cloned(),
        Change::Update(edits) => {
            let mut item = found.cloned().unwrap_or_default();
            item.insert(attribute::KEY.to_owned(), Value::text(write.key.as_str()));
            for edit in edits {
                edit_attribute(edit, &mut item)?;
            }
            Some(item)
        }
    })
}

fn edit_attribute(edit: &Edit, item: &mut Item) -> Result<(), String> {
    let name = edit.attribute();
    let found = item.remove(name);
    let after = match (edit, found) {
        (Edit::Set(_, value), _) => Some(value.clone()),
        (Edit::Remove(_), _) => None,
        (Edit::AddNumber(_, add), found) => Some(add_number(name, *add, found)?),
        (Edit::AddToSet(_, texts), None) => Some(Value::Ss(texts.clone())),
        (Edit::AddToSet(_, texts), Some(Value::Ss(found))) => Some(Value::Ss(&found | texts)),
        (Edit::DeleteFromSet(..), None) => None,
        (Edit::DeleteFromSet(_, texts), Some(Value::Ss(found))) => {
            let left: BTreeSet<String> = &found - texts;
            (!left.is_empty()).then_some(Value::Ss(left))
        }
        (Edit::AddToSet(..) | Edit::DeleteFromSet(..), Some(_)) => {
            return Err(format!("{name} is no set of texts"));
        }
    };
    if let Some(after) = after {
        item.insert(name.to_owned(), after);
    }
    Ok(())
}

fn add_number(name: &str, add: u64, found: Option<Value>) -> Result<Value, String> {
    let no_number = || format!("{name} is no whole number");
    let found: i128 = match found {
        None => 0,
        Some(Value::N(text)) => text.parse().map_err(|_| no_number())?,
        Some(_) => return Err(no_number()),
    };
    let sum = found.checked_add(i128::from(add)).ok_or_else(no_number)?;
    Ok(Value::N(sum.to_string()))
}
