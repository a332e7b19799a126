//! Hints: what one worker puts into another's inbox, as text.
//!
//! A hint is advice. One that is stale, wrong, repeated or lost changes how fast things happen, never what is allowed, so
//! whatever cannot be read is ignored.

use std::time::Duration;

use crate::key::{LeaseKey, WorkerId};

/// Longer texts are no hints. No key or worker id of ours comes near it.
const MAX_HINT: usize = 4_096;
/// As for numbers in rows: the upper half stays free, so that adding one is safe.
const MAX_NUMBER: u64 = i64::MAX as u64;

const SEPARATOR: char = '|';

/// One hint. Different hints have different texts: an inbox is a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hint {
    /// The row names the reader under this counter.
    Yours { key: LeaseKey, counter: u64 },
    /// The lease can be taken: under this counter it belonged to `owner`, whose heartbeat stood still.
    Take {
        key: LeaseKey,
        counter: u64,
        /// `None` if nobody owned the lease.
        dead: Option<Dead>,
    },
    /// The reader should hand the lease over.
    Give {
        key: LeaseKey,
        counter: u64,
        to: WorkerId,
        /// `to` has just joined and looks into its inbox all the time: it needs no time to learn what to expect.
        newcomer: bool,
    },
    /// The lease is about to be handed to the reader.
    Expect {
        key: LeaseKey,
        counter: u64,
        from: WorkerId,
    },
    /// `worker` gave the lease away because it could not work on it: others come first.
    Refused {
        key: LeaseKey,
        counter: u64,
        worker: WorkerId,
    },
    /// A worker has registered, and looks into its inbox all the time for a while.
    Joined { worker: WorkerId },
    /// There is a command for the lease that the reader may not know of. The number is random: the same text would be
    /// lost if it were added while an earlier one is taken out.
    Ordered { key: LeaseKey, nonce: u64 },
    /// The application does not read the lease's stream any more: the reader should give the lease up.
    Removed { key: LeaseKey, counter: u64 },
}

/// An owner that shows no sign of life, as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dead {
    pub(crate) owner: WorkerId,
    pub(crate) heartbeat: u64,
    /// For how long the heartbeat had this value when the hint was written. Whole milliseconds are kept.
    pub(crate) age: Duration,
}

impl Dead {
    /// An owner that has no item any more.
    pub(crate) fn without_item(owner: WorkerId) -> Self {
        Self {
            owner,
            heartbeat: 0,
            age: Duration::ZERO,
        }
    }

    /// Whether the owner has no item, instead of one that stands still: that has an age.
    pub(crate) fn has_no_item(&self) -> bool {
        self.age.is_zero()
    }
}

impl Hint {
    /// The hint's text.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Yours { key, counter } => join("yours", key, *counter, &[]),
            Self::Take {
                key,
                counter,
                dead: None,
            } => join("take", key, *counter, &[]),
            Self::Take {
                key,
                counter,
                dead: Some(dead),
            } => {
                let (heartbeat, age) = (dead.heartbeat.to_string(), millis(dead.age).to_string());
                let fields = [escape(dead.owner.as_str()), heartbeat, age];
                join("take", key, *counter, &fields)
            }
            Self::Give {
                key,
                counter,
                to,
                newcomer,
            } => {
                let how = if *newcomer { "newcomer" } else { "settled" };
                let fields = [escape(to.as_str()), how.to_owned()];
                join("give", key, *counter, &fields)
            }
            Self::Expect { key, counter, from } => {
                join("expect", key, *counter, &[escape(from.as_str())])
            }
            Self::Refused {
                key,
                counter,
                worker,
            } => join("refused", key, *counter, &[escape(worker.as_str())]),
            Self::Joined { worker } => format!("joined|{}", escape(worker.as_str())),
            Self::Ordered { key, nonce } => join("ordered", key, *nonce, &[]),
            Self::Removed { key, counter } => join("removed", key, *counter, &[]),
        }
    }

    /// A hint of a command for the lease.
    pub(crate) fn ordered(key: LeaseKey, rng: &mut fastrand::Rng) -> Self {
        let nonce = rng.u64(..=MAX_NUMBER);
        Self::Ordered { key, nonce }
    }

    /// Whether this is the text of a [`Self::Yours`]: a lease that nobody works on until its reader knows.
    pub(crate) fn is_yours(text: &str) -> bool {
        text.split(SEPARATOR).next() == Some("yours")
    }

    /// Reads a hint; `None` for any text that [`Self::encode`] does not write.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_HINT {
            return None;
        }
        let fields: Vec<&str> = text.split(SEPARATOR).collect();
        let hint = match *fields.as_slice() {
            ["yours", key, counter] => Self::Yours {
                key: lease_key(key)?,
                counter: number(counter)?,
            },
            ["take", key, counter] => Self::Take {
                key: lease_key(key)?,
                counter: number(counter)?,
                dead: None,
            },
            ["take", key, counter, owner, heartbeat, age] => Self::Take {
                key: lease_key(key)?,
                counter: number(counter)?,
                dead: Some(Dead {
                    owner: worker(owner)?,
                    heartbeat: number(heartbeat)?,
                    age: Duration::from_millis(number(age)?),
                }),
            },
            ["give", key, counter, to, how] => Self::Give {
                key: lease_key(key)?,
                counter: number(counter)?,
                to: worker(to)?,
                newcomer: how == "newcomer",
            },
            ["expect", key, counter, from] => Self::Expect {
                key: lease_key(key)?,
                counter: number(counter)?,
                from: worker(from)?,
            },
            ["refused", key, counter, id] => Self::Refused {
                key: lease_key(key)?,
                counter: number(counter)?,
                worker: worker(id)?,
            },
            ["joined", id] => Self::Joined {
                worker: worker(id)?,
            },
            ["removed", key, counter] => Self::Removed {
                key: lease_key(key)?,
                counter: number(counter)?,
            },
            ["ordered", key, nonce] => Self::Ordered {
                key: lease_key(key)?,
                nonce: number(nonce)?,
            },
            _ => return None,
        };
        // One text for each hint: no leading zeros, no signs, no other escapes.
        (hint.encode() == text).then_some(hint)
    }
}

fn join(kind: &str, key: &LeaseKey, counter: u64, more: &[String]) -> String {
    let mut text = format!("{kind}|{}|{counter}", escape(key.as_str()));
    for field in more {
        text.push(SEPARATOR);
        text.push_str(field);
    }
    text
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).map_or(MAX_NUMBER, |millis| millis.min(MAX_NUMBER))
}

/// Keys and owners of rows that others wrote may hold any character.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace(SEPARATOR, "%7C")
}

fn unescape(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.replace("%7C", "|").replace("%25", "%"))
}

fn lease_key(text: &str) -> Option<LeaseKey> {
    unescape(text).map(LeaseKey::from)
}

fn worker(text: &str) -> Option<WorkerId> {
    unescape(text).map(WorkerId::from)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= MAX_NUMBER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts with many of the characters that matter.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[|%7C25:/a]{1,12}", "\\PC{1,20}"]
    }

    fn hint() -> impl Strategy<Value = Hint> {
        let count = 0..=MAX_NUMBER;
        let dead =
            (name(), count.clone(), count.clone()).prop_map(|(owner, heartbeat, age)| Dead {
                owner: owner.into(),
                heartbeat,
                age: Duration::from_millis(age),
            });
        let dead = proptest::option::of(dead);
        (0..7, name(), count, name(), any::<bool>(), dead).prop_map(
            |(kind, key, counter, worker, newcomer, dead)| {
                let (key, worker) = (LeaseKey::from(key), WorkerId::from(worker));
                match kind {
                    0 => Hint::Yours { key, counter },
                    1 => Hint::Take { key, counter, dead },
                    2 => Hint::Give {
                        key,
                        counter,
                        to: worker,
                        newcomer,
                    },
                    3 => Hint::Expect {
                        key,
                        counter,
                        from: worker,
                    },
                    4 => Hint::Refused {
                        key,
                        counter,
                        worker,
                    },
                    5 => Hint::Joined { worker },
                    _ => Hint::Ordered {
                        key,
                        nonce: counter,
                    },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn every_hint_comes_back(hint in hint()) {
            prop_assert_eq!(Hint::parse(&hint.encode()), Some(hint));
        }

        #[test]
        fn different_hints_have_different_texts(a in hint(), b in hint()) {
            prop_assert_eq!(a == b, a.encode() == b.encode());
        }

        /// Whatever is taken for a hint is exactly what would have been written for it.
        #[test]
        fn any_text_is_survived(text in prop_oneof![
            "(yours|take|give|expect|refused|joined|ordered)(\\|[|%7C25+0-9a-z/-]{0,8}){0,6}",
            "\\PC{0,60}",
        ]) {
            if let Some(hint) = Hint::parse(&text) {
                prop_assert_eq!(hint.encode(), text);
            }
        }
    }

    #[test]
    fn texts_are_those_of_the_protocol() {
        let key = LeaseKey::from("123456789012:orders:1620000000:shardId-000000000006");
        let worker = WorkerId::from("host/00000000000000000000000000000001");
        let give = Hint::Give {
            key,
            counter: 1_700_000_000_000,
            to: worker,
            newcomer: true,
        };
        assert_eq!(
            give.encode(),
            "give|123456789012:orders:1620000000:shardId-000000000006|1700000000000\
             |host/00000000000000000000000000000001|newcomer"
        );
    }

    #[test]
    fn hostile_texts_are_no_hints() {
        let long = format!("yours|{}|1", "k".repeat(MAX_HINT));
        for text in [
            "",
            "|",
            "yours",
            "yours||1",
            "yours|k|",
            "yours|k|+1",
            "yours|k|01",
            "yours|k|-1",
            "yours|k|9223372036854775808",
            "yours|k|1|",
            "yours|%|1",
            "yours|%7c|1",
            "take|k|1|o",
            "take|k|1|o|2|x",
            "give|k|1|w|maybe",
            "refused|k|1",
            "joined|",
            "YOURS|k|1",
            &long,
        ] {
            assert_eq!(Hint::parse(text), None, "{text:.40}");
        }
    }
}
