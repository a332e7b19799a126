//! The IAM policy of the manual allows what a worker calls.

use integration_tests::Stage;
use kcl_emulator::Service;

/// Actions that make up a transaction, for IAM.
const INSIDE_A_TRANSACTION: &[&str] = &["PutItem", "UpdateItem", "ConditionCheckItem"];

#[tokio::test(start_paused = true)]
async fn the_policy_in_the_manual_is_enough() {
    let manual = include_str!("../../../docs/configuration.md");
    let stage = Stage::new(2);
    stage.put_numbered(0, 20).await;
    let script = async {
        stage.wait_for_records(20).await;
        stage.split("shardId-000000000000").await;
        stage
            .merge("shardId-000000000003", "shardId-000000000001")
            .await;
        stage.put_numbered(20, 20).await;
        stage.wait_for_records(40).await;
        // Long enough for finished rows to be deleted.
        tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    };
    stage.run_until("a", script).await;
    let calls = stage.emulator.calls();
    let by_worker = calls.iter().filter(|(key, _)| key.caller.0 == "a");
    for (key, _) in by_worker {
        let service = match key.service {
            Service::Kinesis => "kinesis",
            Service::DynamoDb => "dynamodb",
            other => panic!("a worker calls {other:?}"),
        };
        let operation = [key.operation.as_str()];
        let actions = match key.operation.as_str() {
            "TransactWriteItems" => INSIDE_A_TRANSACTION,
            _ => &operation[..],
        };
        for action in actions {
            let action = format!("{service}:{action}");
            assert!(
                manual.contains(&action),
                "the manual's policy lacks {action}"
            );
        }
    }
}
