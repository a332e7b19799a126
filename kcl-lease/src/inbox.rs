//! The hints in this worker's own item: which are new, and which may be taken out of it.

use std::collections::BTreeSet;

use crate::hint::Hint;

/// So many handled hints are a reason to send the next heartbeat early: each rewrites the whole item.
const MANY: usize = 50;

/// What this worker did with the hints that it found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inbox {
    /// Hints that were handled and may still be in the item.
    handled: BTreeSet<String>,
}

impl Inbox {
    /// The item was read: returns the hints in it that are new. What cannot be understood is taken out too: a newer
    /// version's hints are advice like all others.
    pub(crate) fn saw(&mut self, texts: &BTreeSet<String>) -> Vec<Hint> {
        let new: Vec<String> = texts.difference(&self.handled).cloned().collect();
        let hints = new.iter().filter_map(|text| Hint::parse(text)).collect();
        self.handled.extend(new);
        hints
    }

    /// What the next heartbeat takes out of the item.
    pub(crate) fn consumed(&self) -> BTreeSet<String> {
        self.handled.clone()
    }

    /// A heartbeat took `consumed` out; one of these texts that is found again was added again.
    pub(crate) fn removed(&mut self, consumed: &BTreeSet<String>) {
        self.handled.retain(|text| !consumed.contains(text));
    }

    /// The item holds only these texts now.
    pub(crate) fn holds(&mut self, texts: &BTreeSet<String>) {
        self.handled.retain(|text| texts.contains(text));
    }

    /// Whether the item grows too large to wait for the next heartbeat.
    pub(crate) fn is_full(&self) -> bool {
        self.handled.len() >= MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_handled_once_and_again_only_if_it_was_taken_out_meanwhile() {
        let text = "joined|w/1".to_owned();
        let texts = BTreeSet::from([text.clone(), "no hint".to_owned()]);
        let mut inbox = Inbox::default();
        assert_eq!(inbox.saw(&texts).len(), 1);
        assert_eq!(inbox.saw(&texts).len(), 0);
        let consumed = inbox.consumed();
        assert_eq!(consumed, texts, "what cannot be understood goes too");
        inbox.removed(&consumed);
        assert_eq!(inbox.saw(&BTreeSet::from([text])).len(), 1);
    }

    #[test]
    fn many_hints_are_a_reason_to_tidy_up_early() {
        let mut inbox = Inbox::default();
        let texts = |count: usize| (0..count).map(|n| format!("{n}")).collect();
        inbox.saw(&texts(MANY - 1));
        assert!(!inbox.is_full());
        inbox.saw(&texts(MANY));
        assert!(inbox.is_full());
    }
}
