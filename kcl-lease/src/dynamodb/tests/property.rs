//! Random writes give the same answers and items in DynamoDB and in memory.

use proptest::prelude::*;
use tokio::runtime::Builder;

use kcl_emulator::Emulator;

use super::table;
use crate::item::{Item, Value, attribute};
use crate::table::{Consistency, LeaseTable, TableError, TableErrorKind, Transacted, Written};
use crate::write::{Attribute, Change, Edit, RowWrite, Term};
use crate::{Fault, MemoryLeaseTable};

const KEYS: [&str; 3] = ["a", "b", "c"];
const ATTRIBUTES: [Attribute; 4] = [
    attribute::OWNER,
    attribute::COUNTER,
    attribute::INBOX,
    attribute::KEY,
];

fn name() -> impl Strategy<Value = Attribute> {
    prop::sample::select(ATTRIBUTES.as_slice())
}

fn texts() -> impl Strategy<Value = std::collections::BTreeSet<String>> {
    prop::collection::btree_set(prop::sample::select(vec!["x", "y", "z"]), 0..3)
        .prop_map(|set| set.into_iter().map(str::to_owned).collect())
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[ab]{0,1}".prop_map(Value::S),
        (0_u64..3).prop_map(Value::number),
        prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::B),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        texts().prop_map(Value::Ss),
        (0_u64..3).prop_map(|n| Value::L(vec![Value::number(n)])),
    ]
}

fn term() -> impl Strategy<Value = Term> {
    prop_oneof![
        name().prop_map(Term::Absent),
        name().prop_map(Term::Present),
        (name(), value()).prop_map(|(name, value)| Term::Equals(name, value)),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (name(), value()).prop_map(|(name, value)| Edit::Set(name, value)),
        1 => name().prop_map(Edit::Remove),
        1 => (name(), 0_u64..3).prop_map(|(name, number)| Edit::AddNumber(name, number)),
        1 => (name(), texts()).prop_map(|(name, texts)| Edit::AddToSet(name, texts)),
        1 => (name(), texts()).prop_map(|(name, texts)| Edit::DeleteFromSet(name, texts)),
    ]
}

fn change(key: &'static str) -> impl Strategy<Value = Change> {
    let item = prop::collection::btree_map(name().prop_map(str::to_owned), value(), 0..3);
    prop_oneof![
        3 => item.prop_map(move |mut item: Item| {
            item.insert(attribute::KEY.to_owned(), Value::text(key));
            Change::Put(item)
        }),
        6 => prop::collection::vec(edit(), 0..3).prop_map(Change::Update),
        1 => Just(Change::Delete),
        1 => Just(Change::Check),
    ]
}

fn write() -> impl Strategy<Value = RowWrite> {
    prop::sample::select(KEYS.as_slice()).prop_flat_map(|key| {
        (prop::collection::vec(term(), 0..2), change(key)).prop_map(move |(condition, change)| {
            RowWrite {
                key: key.to_owned(),
                condition,
                change,
            }
        })
    })
}

#[derive(Debug, Clone)]
enum Call {
    Write(RowWrite),
    Transact(Vec<RowWrite>),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => write().prop_map(Call::Write),
        1 => prop::collection::vec(write(), 0..4).prop_map(Call::Transact),
    ]
}

/// An answer as far as both tables must agree: the words of a refusal as invalid may differ.
#[derive(Debug, PartialEq)]
enum Answer {
    Written(Written),
    Transacted(Transacted),
    Invalid,
    Failed(TableErrorKind),
}

impl From<TableError> for Answer {
    fn from(error: TableError) -> Self {
        match error.kind() {
            TableErrorKind::Invalid { .. } => Self::Invalid,
            other => Self::Failed(other.clone()),
        }
    }
}

async fn answer(table: &dyn LeaseTable, call: Call) -> Answer {
    let answer = match call {
        Call::Write(write) => table.write(write).await.map(Answer::Written),
        Call::Transact(writes) => table.transact(writes).await.map(Answer::Transacted),
    };
    answer.unwrap_or_else(Answer::from)
}

async fn compare(calls: Vec<Call>) -> Result<(), TestCaseError> {
    let emulator = Emulator::new();
    let (dynamodb, memory) = (table(&emulator), MemoryLeaseTable::new());
    dynamodb.prepare().await.unwrap();
    for call in calls {
        let expected = answer(&memory, call.clone()).await;
        prop_assert_eq!(
            answer(&dynamodb, call.clone()).await,
            expected,
            "{:?}",
            call
        );
        for key in KEYS {
            let stored = dynamodb.get(key, Consistency::Strong).await.unwrap();
            let expected = memory.get(key, Consistency::Strong).await.unwrap();
            prop_assert_eq!(stored, expected, "{} after {:?}", key, call);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_dynamodb_agree(calls in prop::collection::vec(call(), 1..16)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(compare(calls))?;
    }
}

#[tokio::test(start_paused = true)]
async fn faults_in_memory_look_like_those_of_the_service() {
    let memory = MemoryLeaseTable::new();
    let create = || RowWrite {
        key: "a".to_owned(),
        condition: vec![Term::Absent(attribute::KEY)],
        change: Change::Update(vec![Edit::AddNumber(attribute::COUNTER, 1)]),
    };
    memory.inject(Fault::Reject(TableErrorKind::Throttled));
    memory.inject(Fault::LoseAnswer);
    let throttled = memory.write(create()).await.unwrap_err();
    assert!(throttled.is_retryable() && throttled.has_no_side_effects());
    assert!(memory.items().is_empty());
    let lost = memory.write(create()).await.unwrap_err();
    assert!(lost.is_retryable() && !lost.has_no_side_effects());
    assert_eq!(memory.items().len(), 1, "it was carried out");
    let again = memory.write(create()).await.unwrap();
    assert!(matches!(again, Written::Refused(Some(_))));
}
