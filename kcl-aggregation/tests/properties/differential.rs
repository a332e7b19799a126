//! The decoder accepts and reads exactly what the oracle accepts and reads.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::message::messages;
use crate::oracle::check;

/// Runs a check over generated input and returns how many of `cases` were accepted.
fn accepted<T: std::fmt::Debug>(
    cases: u32,
    input: impl Strategy<Value = T>,
    check: impl Fn(&T) -> bool,
) -> u32 {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let accepted = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&input, |value| {
            accepted.set(accepted.get() + u32::from(check(&value)));
            Ok(())
        })
        .unwrap();
    accepted.get()
}

#[test]
fn messages_with_fields_in_any_order() {
    let accepted = accepted(1000, messages(), |message| check(message));
    assert!(
        (100..900).contains(&accepted),
        "the generator should give both kinds, but {accepted} of 1000 were accepted"
    );
}

#[test]
fn messages_with_damaged_bytes() {
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let accepted = accepted(1000, (messages(), damage), |(message, damage)| {
        let mut message = message.clone();
        for (at, byte) in damage {
            *at.get_mut(&mut message) = *byte;
        }
        check(&message)
    });
    assert!(accepted > 50, "{accepted} of 1000 were accepted");
}

#[test]
fn random_bytes() {
    accepted(500, vec(any::<u8>(), 0..64), |bytes| check(bytes));
}

#[test]
fn random_bytes_that_resemble_a_message() {
    const FREQUENT: [u8; 12] = [0x0A, 0x12, 0x1A, 0x08, 0x10, 0x1B, 0x1C, 0, 1, 2, 3, 4];
    let resemble = |byte: u8| FREQUENT.get(usize::from(byte % 16)).copied();
    let bytes = vec(any::<u8>(), 0..40)
        .prop_map(move |bytes| bytes.iter().map(|b| resemble(*b).unwrap_or(*b)).collect());
    accepted(2000, bytes, |bytes: &Vec<u8>| check(bytes));
}
