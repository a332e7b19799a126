//! What the emulated DynamoDB costs a lease table: one conditional update, one scan of 2,000 leases.

#![expect(clippy::expect_used, reason = "a bench stops at the first error")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kcl_emulator::dynamodb::{DynamoDb, DynamoDbConfig};
use kcl_emulator::{Caller, Timestamp};
use serde_json::{Value, json};

const LEASES: usize = 2000;

/// A lease row of about 350 bytes, as the Java library writes it.
fn lease(shard: usize, counter: u64) -> Value {
    json!({
        "leaseKey": {"S": format!("shardId-{shard:012}")},
        "leaseOwner": {"S": "ip-10-0-12-34.eu-central-1.compute.internal:3f2b9c"},
        "leaseCounter": {"N": counter.to_string()},
        "checkpoint": {"S": "49590338271490256608559692538361571095921575989136588898"},
        "checkpointSubSequenceNumber": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "3"},
        "parentShardId": {"SS": ["shardId-000000000000", "shardId-000000000001"]},
        "startingHashKey": {"S": "170141183460469231731687303715884105728"},
        "endingHashKey": {"S": "340282366920938463463374607431768211455"},
        "throughputKBps": {"N": "512.25"}
    })
}

fn call(db: &mut DynamoDb, operation: &str, request: &Value) -> Vec<u8> {
    let body = request.to_string();
    db.call(
        Timestamp(1_800_000_000_000),
        &Caller::new("bench"),
        operation,
        body.as_bytes(),
    )
    .expect("the service answers")
}

fn lease_table(row_versions: usize) -> DynamoDb {
    let mut config = DynamoDbConfig::default();
    config.table_creation = std::time::Duration::ZERO;
    config.row_versions = row_versions;
    let mut db = DynamoDb::new(config);
    let table = json!({"TableName": "leases", "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}]});
    call(&mut db, "CreateTable", &table);
    for shard in 0..LEASES {
        let put = json!({"TableName": "leases", "Item": lease(shard, 0)});
        call(&mut db, "PutItem", &put);
    }
    db
}

fn renewal(shard: usize, counter: u64) -> Value {
    json!({"TableName": "leases", "Key": {"leaseKey": {"S": format!("shardId-{shard:012}")}},
        "UpdateExpression": "SET leaseCounter = :next",
        "ConditionExpression": "leaseCounter = :seen AND leaseOwner = :owner",
        "ExpressionAttributeValues": {
            ":seen": {"N": counter.to_string()}, ":next": {"N": (counter + 1).to_string()},
            ":owner": {"S": "ip-10-0-12-34.eu-central-1.compute.internal:3f2b9c"}}})
}

fn benches(criterion: &mut Criterion) {
    for (kept, versions) in [("no versions", 0), ("64 versions", 64)] {
        let mut db = lease_table(versions);
        let mut calls = 0;
        criterion.bench_function(&format!("conditional update, {kept} kept"), |bencher| {
            bencher.iter(|| {
                let request = renewal(calls % LEASES, (calls / LEASES) as u64);
                calls += 1;
                black_box(call(&mut db, "UpdateItem", &request))
            });
        });
    }
    let mut db = lease_table(0);
    criterion.bench_function("consistent get", |bencher| {
        let request = json!({"TableName": "leases", "ConsistentRead": true,
            "Key": {"leaseKey": {"S": "shardId-000000000007"}}});
        bencher.iter(|| black_box(call(&mut db, "GetItem", &request)));
    });
    criterion.bench_function("scan of 2,000 leases", |bencher| {
        let request = json!({"TableName": "leases", "ConsistentRead": true});
        bencher.iter(|| black_box(call(&mut db, "Scan", &request)));
    });
}

criterion_group! {
    name = lease_rows;
    config = Criterion::default().sample_size(20);
    targets = benches
}
criterion_main!(lease_rows);
