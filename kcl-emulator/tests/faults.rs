//! Every kind of fault through the real SDK, and what removing one does to the others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, TransactWriteItem, Update,
};
use kcl_emulator::faults::{Fault, FaultCall, FaultScript, Outcome, Rule};
use kcl_emulator::{Caller, Emulator, Service};
use tokio::time::{Instant, sleep};

const TABLE: &str = "leases";

/// A client that does not retry, so that each call is one request.
fn dynamodb(emulator: &Emulator, caller: &str) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::config::Builder::from(&emulator.sdk_config(caller))
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(Duration::from_secs(5))
                .build(),
        )
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

fn kinesis(emulator: &Emulator, caller: &str) -> aws_sdk_kinesis::Client {
    let config = aws_sdk_kinesis::config::Builder::from(&emulator.sdk_config(caller))
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_kinesis::Client::from_conf(config)
}

async fn with_table(emulator: &Emulator) {
    let key = KeySchemaElement::builder()
        .attribute_name("leaseKey")
        .key_type(KeyType::Hash)
        .build();
    let attribute = AttributeDefinition::builder()
        .attribute_name("leaseKey")
        .attribute_type(ScalarAttributeType::S)
        .build();
    dynamodb(emulator, "setup")
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.unwrap())
        .attribute_definitions(attribute.unwrap())
        .send()
        .await
        .unwrap();
}

fn key(lease: &str) -> AttributeValue {
    AttributeValue::S(lease.to_owned())
}

/// Adds one to a lease's counter.
async fn bump(
    client: &aws_sdk_dynamodb::Client,
    lease: &str,
) -> Result<(), SdkError<aws_sdk_dynamodb::operation::update_item::UpdateItemError>> {
    client
        .update_item()
        .table_name(TABLE)
        .key("leaseKey", key(lease))
        .update_expression("ADD leaseCounter :one")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
        .send()
        .await
        .map(drop)
}

async fn read(client: &aws_sdk_dynamodb::Client, lease: &str, consistent: bool) -> Option<String> {
    let answer = client
        .get_item()
        .table_name(TABLE)
        .key("leaseKey", key(lease))
        .consistent_read(consistent)
        .send()
        .await
        .unwrap();
    let counter = answer.item?.get("leaseCounter")?.as_n().unwrap().clone();
    Some(counter)
}

async fn counter(emulator: &Emulator, lease: &str) -> Option<String> {
    read(&dynamodb(emulator, "observer"), lease, true).await
}

fn of_worker(fault: Fault) -> Rule {
    Rule::new(fault).caller("worker").operation("UpdateItem")
}

#[tokio::test(start_paused = true)]
async fn errors_are_answered_and_nothing_is_done() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let worker = dynamodb(&emulator, "worker");
    let teapot = Fault::Error {
        status: 418,
        code: "Teapot".to_owned(),
        message: "short and stout".to_owned(),
    };
    for (fault, status, code) in [
        (Fault::InternalError, 500, "InternalFailure"),
        (Fault::Unavailable, 503, "ServiceUnavailable"),
        (Fault::Throttle, 400, "ThrottlingException"),
        (
            Fault::ThroughputExceeded,
            400,
            "ProvisionedThroughputExceededException",
        ),
        (teapot, 418, "Teapot"),
    ] {
        emulator
            .faults()
            .add(of_worker(fault).nth(1).named("error"));
        let refused = bump(&worker, "a").await.unwrap_err();
        let answer = refused.raw_response().unwrap();
        assert_eq!(
            (answer.status().as_u16(), refused.code()),
            (status, Some(code))
        );
        emulator.faults().remove("error");
    }
    assert_eq!(counter(&emulator, "a").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_does_nothing_and_a_lost_answer_hides_what_was_done() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let worker = dynamodb(&emulator, "worker");
    emulator.faults().add(of_worker(Fault::LoseRequest).nth(1));
    emulator.faults().add(of_worker(Fault::LoseAnswer).nth(2));
    assert!(matches!(
        bump(&worker, "a").await,
        Err(SdkError::DispatchFailure(_))
    ));
    assert_eq!(counter(&emulator, "a").await, None);
    assert!(matches!(
        bump(&worker, "a").await,
        Err(SdkError::DispatchFailure(_))
    ));
    assert_eq!(counter(&emulator, "a").await.as_deref(), Some("1"));
    bump(&worker, "a").await.unwrap();
    assert_eq!(counter(&emulator, "a").await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_late_write_lands_after_its_caller_is_gone() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let late = Fault::ApplyLate {
        by: Duration::from_secs(30),
    };
    emulator.faults().add(of_worker(late));
    let start = Instant::now();
    let worker = dynamodb(&emulator, "worker");
    let outcome = bump(&worker, "a").await;
    drop(worker);
    assert!(
        matches!(outcome, Err(SdkError::TimeoutError(_))),
        "{outcome:?}"
    );
    assert_eq!(start.elapsed().as_secs(), 5);
    sleep(Duration::from_secs(24)).await;
    assert_eq!(counter(&emulator, "a").await, None);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(counter(&emulator, "a").await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_takes_its_time_and_lands_even_if_nobody_waits() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let worker = dynamodb(&emulator, "worker");
    let delay = |seconds| Fault::Delay {
        by: Duration::from_secs(seconds),
    };
    emulator.faults().add(of_worker(delay(3)).nth(1));
    emulator.faults().add(of_worker(delay(10)).nth(2));
    let start = Instant::now();
    bump(&worker, "a").await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    assert!(matches!(
        bump(&worker, "a").await,
        Err(SdkError::TimeoutError(_))
    ));
    assert_eq!(counter(&emulator, "a").await.as_deref(), Some("1"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(counter(&emulator, "a").await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_request_never_lands() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    emulator.faults().add(of_worker(Fault::Hang).first(1));
    let worker = dynamodb(&emulator, "worker");
    assert!(matches!(
        bump(&worker, "a").await,
        Err(SdkError::TimeoutError(_))
    ));
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(counter(&emulator, "a").await, None);
    bump(&worker, "a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_cuts_one_caller_off_from_all_services() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let (cut, other) = (dynamodb(&emulator, "worker"), dynamodb(&emulator, "other"));
    emulator.faults().partition("worker");
    assert!(matches!(
        bump(&cut, "a").await,
        Err(SdkError::TimeoutError(_))
    ));
    let streams = kinesis(&emulator, "worker").list_streams().send();
    assert!(
        tokio::time::timeout(Duration::from_secs(60), streams)
            .await
            .is_err()
    );
    bump(&other, "a").await.unwrap();
    emulator.faults().heal("worker");
    bump(&cut, "a").await.unwrap();
    assert_eq!(counter(&emulator, "a").await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_denied_action_is_refused_as_iam_does() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    emulator.create_stream("orders", 1).unwrap();
    emulator.faults().deny("worker", "dynamodb:UpdateItem");
    emulator.faults().deny("worker", "kinesis:*");
    let worker = dynamodb(&emulator, "worker");
    let refused = bump(&worker, "a").await.unwrap_err();
    assert_eq!(refused.code(), Some("AccessDeniedException"));
    assert_eq!(
        refused.message(),
        Some(
            "User: arn:aws:iam::000000000000:user/worker is not authorized to perform: dynamodb:UpdateItem on \
             resource: arn:aws:dynamodb:us-east-1:000000000000:table/leases because no identity-based policy \
             allows the dynamodb:UpdateItem action"
        )
    );
    read(&worker, "a", true).await;
    let refused = kinesis(&emulator, "worker")
        .list_shards()
        .stream_name("orders")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        refused.message(),
        Some(
            "User: arn:aws:iam::000000000000:user/worker is not authorized to perform: kinesis:ListShards on \
             resource: arn:aws:kinesis:us-east-1:000000000000:stream/orders because no identity-based policy \
             allows the kinesis:ListShards action"
        )
    );
    emulator.faults().allow("worker", "dynamodb:UpdateItem");
    bump(&worker, "a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_writes_of_a_transaction_are_denied_by_their_own_actions() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let worker = dynamodb(&emulator, "worker");
    let update = Update::builder()
        .table_name(TABLE)
        .key("leaseKey", key("a"))
        .update_expression("ADD leaseCounter :one")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
        .build()
        .unwrap();
    let transaction = worker
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().update(update).build());
    emulator.faults().deny("worker", "dynamodb:PutItem");
    transaction.clone().send().await.unwrap();
    emulator.faults().deny("worker", "dynamodb:UpdateItem");
    let refused = transaction.send().await.unwrap_err();
    assert_eq!(refused.code(), Some("AccessDeniedException"));
    assert!(
        refused
            .message()
            .unwrap()
            .contains("dynamodb:UpdateItem on resource")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stale_read_sees_an_older_row_unless_it_is_consistent() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let worker = dynamodb(&emulator, "worker");
    for _ in 0..3 {
        bump(&worker, "a").await.unwrap();
    }
    emulator
        .faults()
        .add(Rule::new(Fault::StaleRead { versions: 2 }).caller("worker"));
    assert_eq!(read(&worker, "a", false).await.as_deref(), Some("1"));
    assert_eq!(read(&worker, "a", true).await.as_deref(), Some("3"));
    assert_eq!(
        read(&dynamodb(&emulator, "other"), "a", false)
            .await
            .as_deref(),
        Some("3")
    );
}

#[tokio::test(start_paused = true)]
async fn an_iterator_expires_on_demand() {
    let emulator = Emulator::new();
    emulator.create_stream("orders", 2).unwrap();
    let client = kinesis(&emulator, "worker");
    let expired = Rule::new(Fault::ExpiredIterator).resource("shardId-000000000001");
    emulator.faults().add(expired.first(1));
    for (shard, fails) in [
        ("shardId-000000000000", false),
        ("shardId-000000000001", true),
    ] {
        let iterator = client
            .get_shard_iterator()
            .stream_name("orders")
            .shard_id(shard)
            .shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon)
            .send()
            .await
            .unwrap();
        let get = client
            .get_records()
            .shard_iterator(iterator.shard_iterator.unwrap());
        let outcome = get.clone().send().await;
        let expired =
            outcome.is_err_and(|error| error.into_service_error().is_expired_iterator_exception());
        assert_eq!(expired, fails, "{shard}");
        get.send().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn rules_select_by_lease_and_time() {
    let emulator = Emulator::new();
    with_table(&emulator).await;
    let worker = dynamodb(&emulator, "worker");
    let (from, until) = (Duration::from_secs(10), Duration::from_secs(20));
    let rule = Rule::new(Fault::InternalError).resource("shardId-0*");
    emulator.faults().add(rule.between(from, until));
    bump(&worker, "shardId-01").await.unwrap();
    sleep(from).await;
    bump(&worker, "shardId-01").await.unwrap_err();
    bump(&worker, "shardId-11").await.unwrap();
    sleep(from).await;
    bump(&worker, "shardId-01").await.unwrap();
}

/// How the calls of two callers fare over ten seconds, ten calls a second each.
fn fates(seed: u64, rules: &[Rule]) -> Vec<(String, Duration, Outcome)> {
    let emulator = Emulator::builder().seed(seed).build();
    for rule in rules {
        emulator.faults().add(rule.clone());
    }
    let mut fates = Vec::new();
    for tick in 0..100 {
        let running = Duration::from_millis(tick * 100);
        for caller in ["a", "b"] {
            let call = FaultCall {
                caller: &Caller::new(caller),
                service: Service::DynamoDb,
                operation: "UpdateItem",
                resources: &[TABLE.to_owned(), "shardId-0".to_owned()],
                actions: &[],
            };
            let outcome = emulator.faults().plan(call, running).outcome;
            fates.push((caller.to_owned(), running, outcome));
        }
    }
    fates
}

#[test]
fn a_seed_decides_and_each_rule_for_itself() {
    let rules = [
        Rule::new(Fault::LoseAnswer).caller("a").probability(0.3),
        Rule::new(Fault::InternalError).caller("b").probability(0.3),
    ];
    let all = fates(1, &rules);
    assert_eq!(all, fates(1, &rules));
    assert_ne!(all, fates(2, &rules));
    let faulty = all.iter().filter(|fate| fate.2 != Outcome::Proceed).count();
    assert!((35..85).contains(&faulty), "{faulty} of 200");
    let of_b = |fates: Vec<(String, Duration, Outcome)>| -> Vec<_> {
        fates.into_iter().filter(|fate| fate.0 == "b").collect()
    };
    assert_eq!(of_b(all), of_b(fates(1, &rules[1..])));
}

#[test]
fn a_request_more_shifts_decisions_only_within_its_second() {
    let faults = Emulator::builder().seed(3).build().faults().clone();
    let others = Emulator::builder().seed(3).build().faults().clone();
    let rule = Rule::new(Fault::LoseAnswer).probability(0.5);
    faults.add(rule.clone());
    others.add(rule);
    let caller = Caller::new("a");
    let call = FaultCall {
        caller: &caller,
        service: Service::Kinesis,
        operation: "GetRecords",
        resources: &[],
        actions: &[],
    };
    let at = |tick: u64| Duration::from_millis(tick * 50);
    let first: Vec<_> = (0..40).map(|tick| faults.plan(call, at(tick))).collect();
    let _one_more = others.plan(call, at(0));
    let second: Vec<_> = (0..40).map(|tick| others.plan(call, at(tick))).collect();
    assert_ne!(first[..20], second[..20]);
    assert_eq!(first[20..], second[20..]);
    assert_ne!(first[..20], first[20..]);
}

#[test]
fn scripts_are_read_and_written() {
    let json = r#"{"rules": [
        {"caller": "w*", "service": "dynamodb", "operation": "UpdateItem", "resource": "shardId-0", "nth": 3,
         "fault": {"action": "emulator:apply-late", "by": "1m 30s"}},
        {"probability": 0.25, "from": "10s", "until": "20s",
         "fault": {"action": "aws:kinesis:inject-api-expired-iterator-exception"}},
        {"fault": {"action": "emulator:cut-subscription"}}
    ]}"#;
    let script = FaultScript::from_json(json).unwrap();
    let expected = Rule::new(Fault::ApplyLate {
        by: Duration::from_secs(90),
    })
    .caller("w*")
    .service(Service::DynamoDb)
    .operation("UpdateItem")
    .resource("shardId-0")
    .nth(3);
    assert_eq!(script.rules[0], expected);
    assert_eq!(script.rules[1].fault, Fault::ExpiredIterator);
    let written = serde_json::to_string(&script).unwrap();
    assert_eq!(FaultScript::from_json(&written).unwrap(), script);
    for (bad, complaint) in [
        (
            r#"{"rules": [{"fault": {"action": "no:such"}}]}"#,
            "unknown variant",
        ),
        (
            r#"{"rules": [{"opration": "x", "fault": {"action": "emulator:hang"}}]}"#,
            "unknown field",
        ),
        (
            r#"{"rules": [{"fault": {"action": "emulator:delay", "by": "soon"}}]}"#,
            "250ms",
        ),
        (
            r#"{"rules": [{"probability": 2, "fault": {"action": "emulator:hang"}}]}"#,
            "0 to 1",
        ),
        ("{", "EOF"),
    ] {
        let error = FaultScript::from_json(bad).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn swarms_differ_by_seed_and_stop() {
    let until = Duration::from_secs(60);
    let swarm = FaultScript::swarm(1, Some(until));
    assert_eq!(swarm, FaultScript::swarm(1, Some(until)));
    assert_ne!(swarm, FaultScript::swarm(2, Some(until)));
    assert!(swarm.rules.iter().all(|rule| rule.until == Some(until)));
    let kinds = |seed| FaultScript::swarm(seed, None).rules.len();
    let sum: usize = (0..100).map(kinds).sum();
    assert!((400..600).contains(&sum), "{sum} kinds in 100 seeds of 10");
}

/// What a worker sees of a swarm of faults, with times.
async fn trace(seed: u64) -> Vec<(u128, String)> {
    let emulator = Emulator::builder()
        .seed(seed)
        .latency(Duration::from_millis(7))
        .build();
    with_table(&emulator).await;
    emulator.faults().run(FaultScript::swarm(seed, None));
    let worker = dynamodb(&emulator, "worker");
    let start = Instant::now();
    let mut trace = Vec::new();
    for call in 0..200 {
        let lease = format!("shardId-{}", call % 3);
        let outcome = match bump(&worker, &lease).await {
            Ok(()) => "done".to_owned(),
            Err(error) => error.code().unwrap_or("no answer").to_owned(),
        };
        trace.push((start.elapsed().as_millis(), outcome));
    }
    trace
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_makes_the_same_trace() {
    // A seed that draws at least a delay and an error, so that there is something to compare.
    let seed = 5;
    let first = trace(seed).await;
    assert!(first.iter().any(|(_, outcome)| outcome != "done"));
    assert_eq!(first, trace(seed).await);
    assert_ne!(first, trace(seed + 1).await);
}
