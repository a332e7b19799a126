//! P13: the memory that fetched records take, against the worker's budget.
//!
//! The promise has two halves: a read begins only while use is within the budget, and use goes beyond it by no more than
//! what reads brought that began before. Both are judged by looks at the bytes in use whenever a read begins, whenever one
//! is answered, and once a second.

use super::{Checker, Process};
use crate::simulation::swarm::MEMORY_BUDGET;

/// When the bytes in use were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A read is about to be sent; the room for it is taken already.
    ReadBegins,
    /// An answer of so many bytes came and is not counted yet.
    Answered(u64),
    /// An event of so many bytes is about to be received. Its room is taken already: the room may have been reserved for a smaller
    /// one, whose subscription was given up while it waited.
    Receives(u64),
    /// At any time.
    Sample,
}

/// What was seen of one process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When use was last seen within the budget.
    within: u64,
    /// Bytes of the answers since then.
    answers: u64,
}

impl Checker {
    /// Judges that `used` bytes are in use in a process.
    pub fn look_at_memory(&mut self, now: u64, process: Process, used: u64, look: Look) {
        self.now = now;
        let over = used.saturating_sub(MEMORY_BUDGET);
        let memory = self.memory.entry(process).or_default();
        if over == 0 {
            *memory = Memory {
                within: now,
                answers: 0,
            };
        }
        let (within, answers) = (memory.within, memory.answers);
        if let Look::Answered(bytes) | Look::Receives(bytes) = look {
            memory.answers += bytes;
        }
        let over = match look {
            Look::Receives(bytes) => over.saturating_sub(bytes),
            _ => over,
        };
        if over > answers {
            let text = format!(
                "process {process} is {over} bytes over its budget, answers brought {answers}"
            );
            self.violate("P13 memory", text);
        }
        // Room may be granted in the very moment in which another answer turns out larger than expected.
        let begins = matches!(look, Look::ReadBegins | Look::Receives(_));
        if begins && over > 0 && within != now {
            let text = format!("process {process} reads while {over} bytes over its budget");
            self.violate("P13 memory", text);
        }
        self.note_memory(used);
    }

    /// Notes how full the budget is, without judging.
    pub fn note_memory(&mut self, used: u64) {
        self.note_if(used > MEMORY_BUDGET / 4 * 3, "memory budget reached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the promise is broken when so many bytes beyond (or below) the budget are seen, a second apart.
    fn broken(looks: &[(i64, Look)]) -> usize {
        let mut checker = Checker::default();
        for (second, (beyond, look)) in (1..).zip(looks) {
            let used = MEMORY_BUDGET.saturating_add_signed(*beyond);
            checker.look_at_memory(second * 1_000, 1, used, *look);
        }
        let rules = checker.violations().iter().map(|broken| broken.rule);
        assert!(rules.clone().all(|rule| rule == "P13 memory"));
        rules.count()
    }

    #[test]
    fn only_answers_of_reads_that_began_before_go_beyond_the_budget() {
        let two_reads = [
            (-9, Look::ReadBegins),
            (-3, Look::ReadBegins),
            (-3, Look::Answered(50)),
        ];
        let then = |rest: &[(i64, Look)]| broken(&[&two_reads[..], rest].concat());
        let second_answer = [
            (47, Look::Sample),
            (47, Look::Answered(60)),
            (104, Look::Sample),
        ];
        assert_eq!(then(&second_answer), 0);
        assert_eq!(then(&[(51, Look::Sample)]), 1, "more than was answered");
        assert_eq!(
            then(&[(-1, Look::Sample), (1, Look::Sample)]),
            1,
            "grown from nothing"
        );
        assert_eq!(then(&[(40, Look::Sample), (0, Look::ReadBegins)]), 0);
        assert_eq!(then(&[(40, Look::ReadBegins)]), 1, "a read while over it");
        let event = |bytes| {
            [
                (-3, Look::Sample),
                (40, Look::Receives(bytes)),
                (40, Look::Sample),
            ]
        };
        assert_eq!(broken(&event(50)), 0);
        assert!(broken(&event(30)) > 0, "more than the event takes");
    }
}
