//! A [`RowWrite`](crate::write::RowWrite)'s condition and edits in DynamoDB's expression language.

use std::collections::BTreeMap;

use crate::item::{Item, Value};
use crate::write::{Change, Edit, RowWrite, Term};

/// Expressions and what their placeholders stand for. Names are placeholders too, because some are reserved words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) condition: Option<String>,
    pub(super) update: Option<String>,
    pub(super) names: BTreeMap<String, String>,
    pub(super) values: Item,
}

impl Expression {
    /// The expressions of one write.
    pub(super) fn of(write: &RowWrite) -> Self {
        let mut expression = Self::default();
        expression.condition = expression.condition(&write.condition);
        if let Change::Update(edits) = &write.change {
            expression.update = expression.update(edits);
        }
        expression
    }

    fn condition(&mut self, terms: &[Term]) -> Option<String> {
        let parts: Vec<_> = terms
            .iter()
            .map(|term| match term {
                Term::Absent(name) => format!("attribute_not_exists({})", self.name(name)),
                Term::Present(name) => format!("attribute_exists({})", self.name(name)),
                Term::Equals(name, value) => {
                    format!("{} = {}", self.name(name), self.value(value.clone()))
                }
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }

    fn update(&mut self, edits: &[Edit]) -> Option<String> {
        let (mut set, mut remove, mut add, mut delete) = (vec![], vec![], vec![], vec![]);
        for edit in edits {
            let name = self.name(edit.attribute());
            match edit {
                Edit::Set(_, value) => set.push(format!("{name} = {}", self.value(value.clone()))),
                Edit::Remove(_) => remove.push(name),
                Edit::AddNumber(_, number) => {
                    add.push(format!("{name} {}", self.value(Value::number(*number))));
                }
                Edit::AddToSet(_, texts) => {
                    add.push(format!("{name} {}", self.value(Value::Ss(texts.clone()))));
                }
                Edit::DeleteFromSet(_, texts) => {
                    delete.push(format!("{name} {}", self.value(Value::Ss(texts.clone()))));
                }
            }
        }
        let clauses = [
            ("SET", set),
            ("REMOVE", remove),
            ("ADD", add),
            ("DELETE", delete),
        ];
        let parts: Vec<_> = clauses
            .into_iter()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(verb, parts)| format!("{verb} {}", parts.join(", ")))
            .collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    fn name(&mut self, name: &str) -> String {
        let placeholder = format!("#{name}");
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    fn value(&mut self, value: Value) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }
}
