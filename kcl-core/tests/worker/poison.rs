//! Processors that refuse some records, and a sink for these.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use kcl_core::{
    BatchFailure, BoxError, DeadLetter, FailurePolicy, OnFailure, ProcessRecordsInput,
    ProcessorResult, Worker, WorkerBuilder,
};

use crate::fixture::{Behaviour, Call, Fixture, Recorder, texts};

/// Fails on every batch with a record that says so.
pub(crate) fn refuse_poison(input: &ProcessRecordsInput) -> ProcessorResult {
    match texts(input).iter().any(|text| text.starts_with("poison")) {
        true => Err("refused".into()),
        false => Ok(()),
    }
}

/// Fails as well, and says on which record.
pub(crate) fn name_poison(input: &ProcessRecordsInput) -> ProcessorResult {
    for record in input {
        if record.data().starts_with(b"poison") {
            Err(BatchFailure::at(record.position(), "refused"))?;
        }
    }
    Ok(())
}

pub(crate) fn three_times(outcome: OnFailure) -> FailurePolicy {
    FailurePolicy::retry().attempts(3).then(outcome)
}

/// A sink that can be closed.
#[derive(Clone, Default)]
pub(crate) struct Letters {
    pub(crate) accepted: Arc<Mutex<Vec<DeadLetter>>>,
    pub(crate) closed: Arc<AtomicBool>,
    pub(crate) asked: Arc<AtomicU32>,
}

impl Letters {
    pub(crate) fn sink(&self) -> impl kcl_core::DeadLetterSink + use<> {
        let letters = self.clone();
        move |letter: DeadLetter| {
            let letters = letters.clone();
            async move {
                letters.asked.fetch_add(1, Ordering::SeqCst);
                if letters.closed.load(Ordering::SeqCst) {
                    return Err(BoxError::from("closed"));
                }
                letters.accepted.lock().unwrap().push(letter);
                Ok(())
            }
        }
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let accepted = self.accepted.lock().unwrap();
        let text = |letter: &DeadLetter| String::from_utf8(letter.data.to_vec()).unwrap();
        accepted.iter().map(text).collect()
    }
}

pub(crate) fn builder(
    fixture: &Fixture,
    behaviour: impl Fn(&ProcessRecordsInput) -> ProcessorResult + Send + Sync + 'static,
) -> WorkerBuilder {
    let (log, behaviour): (_, Behaviour) = (fixture.log.clone(), Arc::new(behaviour));
    Worker::builder("app", "memory", move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: Arc::clone(&behaviour),
    })
}

pub(crate) fn put_keyed(fixture: &Fixture, records: &[(&str, &str)]) {
    for (key, text) in records {
        let put = fixture
            .stream
            .put_to(&fixture.shard(0), key, (*text).to_owned());
        put.unwrap();
    }
}

/// What was in calls that succeeded, if calls with poison fail.
pub(crate) fn processed(fixture: &Fixture) -> Vec<String> {
    let calls = fixture.log.calls_of(&fixture.shard(0));
    let succeeded = calls.into_iter().filter_map(|call| match call {
        Call::Records { data, .. } => {
            (!data.iter().any(|text| text.starts_with("poison"))).then_some(data)
        }
        _ => None,
    });
    succeeded.flatten().collect()
}

pub(crate) fn numbered(count: usize, poison: &[usize]) -> Vec<String> {
    let text = |i| match poison.contains(&i) {
        true => format!("poison {i}"),
        false => format!("{i}"),
    };
    (0..count).map(text).collect()
}

pub(crate) fn put_all(fixture: &Fixture, texts: &[String]) {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    fixture.put_many(0, &texts);
}
