//! Numbers for production values, so that states of the models are small and quick to compare.
//!
//! Equal values have equal numbers, so nothing is lost; and since the production functions are pure, what one of them
//! makes of a value is computed once and looked up from then on.

use std::hash::{Hash, Hasher};

use crate::explore::Unordered;

/// The number of a value; 0 is no value.
pub(crate) type Id = u32;

pub(crate) const NONE: Id = 0;

#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: Vec<T>,
    numbers: Unordered<Key<T>, Id>,
}

/// Hashes with the standard library's hasher: production values are texts and maps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key<T>(T);

impl<T: Hash> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut hasher = std::hash::DefaultHasher::new();
        self.0.hash(&mut hasher);
        state.write_u64(hasher.finish());
    }
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            numbers: Unordered::default(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub(crate) fn id(&mut self, value: T) -> Id {
        let next = Id::try_from(self.values.len() + 1).expect("few values");
        let values = &mut self.values;
        *self.numbers.entry(Key(value)).or_insert_with_key(|value| {
            values.push(value.0.clone());
            next
        })
    }

    pub(crate) fn get(&self, id: Id) -> &T {
        &self.values[id as usize - 1]
    }

    pub(crate) fn find(&self, id: Id) -> Option<&T> {
        (id != NONE).then(|| self.get(id))
    }
}
