//! Registered consumers and subscriptions.

use serde_json::json;

use super::{HALF, Lab, STREAM_ARN, shard_id, text};
use crate::kinesis::{EngineConfig, SubscriptionPoll, api::SubscribeToShardEvent};

fn keys(event: &SubscribeToShardEvent) -> Vec<&str> {
    event
        .records
        .iter()
        .map(|record| &*record.partition_key)
        .collect()
}

fn trim_horizon() -> serde_json::Value {
    json!({"Type": "TRIM_HORIZON"})
}

#[test]
fn k17_consumers_are_registered_described_listed_and_deregistered() {
    let mut lab = Lab::slow();
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    lab.pass(1_000);
    let arn = lab.register("app");
    assert_eq!(arn, format!("{STREAM_ARN}/consumer/app:1790000001"));
    let by_name = json!({"StreamARN": STREAM_ARN, "ConsumerName": "app"});
    let described = lab.ok("DescribeStreamConsumer", by_name.clone());
    assert_eq!(
        described["ConsumerDescription"]["ConsumerStatus"],
        "CREATING"
    );
    assert_eq!(
        lab.code("RegisterStreamConsumer", by_name.clone()),
        "ResourceInUseException"
    );
    lab.pass(1_000);
    let described = lab.ok("DescribeStreamConsumer", json!({"ConsumerARN": arn}));
    assert_eq!(
        described["ConsumerDescription"],
        json!({
            "ConsumerName": "app", "ConsumerARN": arn, "ConsumerStatus": "ACTIVE",
            "ConsumerCreationTimestamp": 1_790_000_001.0, "StreamARN": STREAM_ARN,
        })
    );
    let summary = lab.ok("DescribeStreamSummary", json!({"StreamName": "s"}));
    assert_eq!(summary["StreamDescriptionSummary"]["ConsumerCount"], 1);
    assert_eq!(
        lab.code("DeleteStream", json!({"StreamName": "s"})),
        "ResourceInUseException"
    );
    lab.ok("DeregisterStreamConsumer", json!({"ConsumerARN": arn}));
    let described = lab.ok("DescribeStreamConsumer", by_name.clone());
    assert_eq!(
        described["ConsumerDescription"]["ConsumerStatus"],
        "DELETING"
    );
    lab.pass(1_000);
    assert_eq!(
        lab.code("DescribeStreamConsumer", by_name),
        "ResourceNotFoundException"
    );
    assert_eq!(
        lab.code("DescribeStreamConsumer", json!({"ConsumerARN": arn})),
        "ResourceNotFoundException"
    );
    assert_eq!(
        lab.code("DescribeStreamConsumer", json!({})),
        "InvalidArgumentException"
    );
}

#[test]
fn k17_twenty_consumers_five_of_them_new() {
    let mut lab = Lab::slow();
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    lab.pass(1_000);
    let input =
        |number: i32| json!({"StreamARN": STREAM_ARN, "ConsumerName": format!("c{number:02}")});
    for number in 0..20 {
        if number % 5 == 0 && number > 0 {
            assert_eq!(
                lab.code("RegisterStreamConsumer", input(number)),
                "LimitExceededException"
            );
            lab.pass(1_000);
        }
        lab.ok("RegisterStreamConsumer", input(number));
    }
    lab.pass(1_000);
    assert_eq!(
        lab.code("RegisterStreamConsumer", input(20)),
        "LimitExceededException"
    );
    let page = lab.ok(
        "ListStreamConsumers",
        json!({"StreamARN": STREAM_ARN, "MaxResults": 15}),
    );
    let rest = lab.ok(
        "ListStreamConsumers",
        json!({"StreamARN": STREAM_ARN, "NextToken": page["NextToken"]}),
    );
    assert_eq!(rest["Consumers"].as_array().unwrap().len(), 5);
    assert_eq!(text(&rest["Consumers"][0]["ConsumerName"]), "c15");
    assert!(rest.get("NextToken").is_none());
    lab.ok(
        "DeleteStream",
        json!({"StreamName": "s", "EnforceConsumerDeletion": true}),
    );
}

#[test]
fn k18_records_come_at_once_and_heartbeats_every_five_seconds() {
    let mut lab = Lab::stream(1);
    let consumer = lab.register("app");
    lab.put("old", 0, b"1");
    let id = lab.subscribe(&consumer, 0, &json!({"Type": "LATEST"}));
    let event = lab.event(id);
    assert!(event.records.is_empty() && event.continuation_sequence_number.is_some());
    assert_eq!(
        lab.poll(id),
        SubscriptionPoll::Idle {
            wake_at: lab.now.plus(5_000)
        }
    );
    lab.pass(100);
    let number = lab.put("new", 0, b"2");
    assert_eq!(lab.engine.take_woken().collect::<Vec<_>>(), [id]);
    let event = lab.event(id);
    assert_eq!(keys(&event), ["new"]);
    assert_eq!(event.millis_behind_latest, 0);
    assert_eq!(
        event.continuation_sequence_number.unwrap().to_string(),
        number
    );
    assert_eq!(
        lab.poll(id),
        SubscriptionPoll::Idle {
            wake_at: lab.now.plus(5_000)
        }
    );
    lab.pass(5_000);
    assert_eq!(
        lab.event(id)
            .continuation_sequence_number
            .unwrap()
            .to_string(),
        number
    );
}

#[test]
fn k18_a_reader_continues_after_the_number_of_an_empty_event() {
    for start in [
        json!({"Type": "LATEST"}),
        trim_horizon(),
        json!({"Type": "AT_TIMESTAMP", "Timestamp": 1}),
    ] {
        let mut lab = Lab::stream(2);
        let consumer = lab.register("app");
        lab.put("elsewhere", HALF, b"0");
        let id = lab.subscribe(&consumer, 0, &start);
        let number = lab.event(id).continuation_sequence_number.unwrap();
        lab.pass(5_000);
        lab.put("later", 0, b"1");
        let after = json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number.to_string()});
        let id = lab.subscribe(&consumer, 0, &after);
        assert_eq!(keys(&lab.event(id)), ["later"]);
    }
}

#[test]
fn k18_subscriptions_end_after_five_minutes() {
    let mut lab = Lab::stream(1);
    let consumer = lab.register("app");
    let id = lab.subscribe(&consumer, 0, &trim_horizon());
    lab.pass(299_999);
    lab.event(id);
    assert_eq!(
        lab.poll(id),
        SubscriptionPoll::Idle {
            wake_at: lab.now.plus(1)
        }
    );
    lab.pass(1);
    assert_eq!(lab.poll(id), SubscriptionPoll::Ended);
    assert_eq!(lab.poll(id), SubscriptionPoll::Ended);
    lab.subscribe(&consumer, 0, &trim_horizon());
}

#[test]
fn k18_a_subscription_gets_2_mib_a_second() {
    let mut lab = Lab::with(EngineConfig {
        throttle_writes: false,
        ..EngineConfig::default()
    });
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    let consumer = lab.register("app");
    for _ in 0..100 {
        lab.put("k", 0, &[0; 100 * 1024]);
    }
    let id = lab.subscribe(&consumer, 0, &trim_horizon());
    let began = lab.now;
    let (mut records, mut events) = (0, 0);
    while records < 100 {
        match lab.poll(id) {
            SubscriptionPoll::Event(event) => {
                events += 1;
                records += event.records.len();
                assert!(
                    event.records.len() <= 20,
                    "more than a second's worth at once"
                );
            }
            SubscriptionPoll::Idle { wake_at } => lab.now = wake_at,
            other => panic!("{other:?}"),
        }
    }
    let took = lab.now.since(began);
    assert!((3_500..4_500).contains(&took), "10 MiB took {took} ms");
    assert!(events < 60, "{events} events");
}

#[test]
fn k19_a_second_subscription_is_refused_for_five_seconds_then_takes_over() {
    let mut lab = Lab::stream(2);
    let consumer = lab.register("app");
    let other = lab.register("other");
    let first = lab.subscribe(&consumer, 0, &trim_horizon());
    lab.event(first);
    lab.pass(4_999);
    let refused = lab
        .try_subscribe(&consumer, 0, &trim_horizon())
        .unwrap_err();
    assert_eq!(refused.code, "ResourceInUseException");
    lab.subscribe(&consumer, 1, &trim_horizon());
    lab.subscribe(&other, 0, &trim_horizon());
    lab.pass(1);
    let second = lab.subscribe(&consumer, 0, &trim_horizon());
    assert_eq!(lab.engine.take_woken().collect::<Vec<_>>(), [first]);
    assert_eq!(lab.poll(first), SubscriptionPoll::Ended);
    lab.event(second);
}

#[test]
fn k20_a_shard_ends_with_children_and_without_a_continuation() {
    let mut lab = Lab::stream(1);
    let consumer = lab.register("app");
    let id = lab.subscribe(&consumer, 0, &trim_horizon());
    lab.event(id);
    lab.put("last", 0, b"1");
    lab.split(0, HALF);
    lab.pass(1);
    let event = lab.event(id);
    assert_eq!(keys(&event), ["last"]);
    assert_eq!(event.continuation_sequence_number, None);
    let children = event.child_shards.unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[0].parent_shards, [shard_id(0)]);
    assert_eq!(lab.poll(id), SubscriptionPoll::Ended);
    lab.pass(5_000);
    let again = lab.subscribe(&consumer, 0, &json!({"Type": "LATEST"}));
    assert!(lab.event(again).child_shards.is_some());
}

#[test]
fn k20_a_waiting_subscription_wakes_when_a_split_is_through() {
    let mut lab = Lab::slow();
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    lab.pass(1_000);
    let consumer = lab.register("app");
    let refused = lab
        .try_subscribe(&consumer, 0, &trim_horizon())
        .unwrap_err();
    assert_eq!(refused.code, "ResourceInUseException");
    lab.pass(1_000);
    let id = lab.subscribe(&consumer, 0, &trim_horizon());
    lab.event(id);
    lab.split(0, HALF);
    assert_eq!(
        lab.poll(id),
        SubscriptionPoll::Idle {
            wake_at: lab.now.plus(1_000)
        }
    );
    lab.pass(1_000);
    assert!(lab.event(id).child_shards.is_some());
}

#[test]
fn subscriptions_end_with_their_consumer_and_when_cut() {
    let mut lab = Lab::stream(1);
    let consumer = lab.register("app");
    let id = lab.subscribe(&consumer, 0, &trim_horizon());
    lab.engine.cut_subscription(id);
    assert_eq!(lab.engine.take_woken().collect::<Vec<_>>(), [id]);
    assert_eq!(lab.poll(id), SubscriptionPoll::Ended);
    lab.pass(5_000);
    let id = lab.subscribe(&consumer, 0, &trim_horizon());
    lab.event(id);
    lab.ok("DeregisterStreamConsumer", json!({"ConsumerARN": consumer}));
    assert!(lab.engine.take_woken().any(|woken| woken == id));
    let SubscriptionPoll::Error(error) = lab.poll(id) else {
        panic!("the subscription goes on");
    };
    assert_eq!(error.code, "ResourceNotFoundException");
}
