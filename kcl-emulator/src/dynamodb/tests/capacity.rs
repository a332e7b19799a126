use super::*;

fn provisioned(read: u32, write: u32) -> Value {
    let mut table = table("Rows");
    table["BillingMode"] = json!("PROVISIONED");
    table["ProvisionedThroughput"] =
        json!({"ReadCapacityUnits": read, "WriteCapacityUnits": write});
    table
}

/// A rig whose table has just become active and has saved nothing but one second of capacity.
fn rig(read: u32, write: u32) -> Rig {
    let mut rig = Rig::new(DynamoDbConfig::default());
    rig.call("CreateTable", provisioned(read, write));
    rig.wait(100);
    rig
}

fn put(id: usize) -> Value {
    json!({"TableName": "Rows", "Item": {"id": {"S": format!("row-{id}")}}})
}

/// How many of 2,000 writes at one moment are taken.
fn taken(rig: &mut Rig) -> usize {
    (0..2000)
        .filter(|n| rig.send("PutItem", &put(*n)).is_ok())
        .count()
}

/// D16
#[test]
fn writes_beyond_the_provisioned_throughput_are_refused() {
    let mut rig = rig(5, 5);
    assert_eq!(taken(&mut rig), 5);
    let error = rig.fail("PutItem", put(0));
    assert_eq!(
        (error.status, error.code.as_str()),
        (400, "ProvisionedThroughputExceededException")
    );
    assert_eq!(
        error.message,
        "The level of configured provisioned throughput for the table was exceeded. \
         Consider increasing your provisioning level with the UpdateTable API."
    );
    rig.wait(2000);
    assert_eq!(taken(&mut rig), 10);
    rig.wait(3_600_000);
    assert_eq!(taken(&mut rig), 1500, "unused capacity is kept for 300 s");
}

#[test]
fn reads_and_writes_have_capacity_of_their_own() {
    let mut rig = rig(1, 5);
    assert_eq!(taken(&mut rig), 5);
    let scan = json!({"TableName": "Rows", "ConsistentRead": true});
    rig.call("Scan", scan.clone());
    assert_eq!(
        rig.fail("Scan", scan).code,
        "ProvisionedThroughputExceededException"
    );
}

#[test]
fn a_failed_condition_costs_a_write() {
    let mut rig = rig(5, 2);
    let mut request = put(0);
    request["ConditionExpression"] = json!("attribute_exists(id)");
    for _ in 0..2 {
        assert_eq!(
            rig.fail("PutItem", request.clone()).code,
            "ConditionalCheckFailedException"
        );
    }
    assert_eq!(
        rig.fail("PutItem", request).code,
        "ProvisionedThroughputExceededException"
    );
}

#[test]
fn a_starved_index_refuses_writes_of_its_table() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    let mut table = indexed_table("Rows");
    table["BillingMode"] = json!("PROVISIONED");
    table["ProvisionedThroughput"] = json!({"ReadCapacityUnits": 9, "WriteCapacityUnits": 9});
    table["GlobalSecondaryIndexes"][0]["ProvisionedThroughput"] =
        json!({"ReadCapacityUnits": 1, "WriteCapacityUnits": 1});
    rig.call("CreateTable", table);
    rig.wait(100);
    let item =
        |id: &str| json!({"TableName": "Rows", "Item": {"id": {"S": id}, "owner": {"S": "me"}}});
    rig.call("PutItem", item("a"));
    let error = rig.fail("PutItem", item("b"));
    assert!(
        error.message.contains("global secondary indexes"),
        "{error}"
    );
}

#[test]
fn a_batch_returns_what_was_throttled() {
    let mut rig = rig(5, 1);
    rig.create(table("Other"));
    assert_eq!(
        taken(&mut rig),
        2,
        "a second was saved while the other table was created"
    );
    let writes = json!([{"PutRequest": {"Item": {"id": {"S": "x"}}}}]);
    let both = json!({"RequestItems": {"Rows": writes, "Other": writes}});
    let answer = rig.call("BatchWriteItem", both);
    assert_eq!(answer["UnprocessedItems"], json!({"Rows": writes}));
    let error = rig.fail("BatchWriteItem", json!({"RequestItems": {"Rows": writes}}));
    assert_eq!(error.code, "ProvisionedThroughputExceededException");
}

#[test]
fn a_transaction_on_a_throttled_table_is_cancelled() {
    let mut rig = rig(5, 1);
    rig.create(table("Other"));
    assert_eq!(taken(&mut rig), 2);
    let put = |table: &str| json!({"Put": {"TableName": table, "Item": {"id": {"S": "x"}}}});
    let error = rig.fail(
        "TransactWriteItems",
        json!({"TransactItems": [put("Other"), put("Rows")]}),
    );
    assert_eq!(error.code, "TransactionCanceledException");
    let reasons = &error.members["CancellationReasons"];
    assert_eq!(reasons[0]["Code"], "None");
    assert_eq!(reasons[1]["Code"], "ProvisionedThroughputExceeded");
}

#[test]
fn more_throughput_helps_at_once_and_on_demand_has_no_limit() {
    let mut rig = rig(5, 1);
    assert_eq!(taken(&mut rig), 1);
    let more = json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 100});
    rig.call(
        "UpdateTable",
        json!({"TableName": "Rows", "ProvisionedThroughput": more}),
    );
    rig.wait(1000);
    assert_eq!(taken(&mut rig), 100);
    rig.call(
        "UpdateTable",
        json!({"TableName": "Rows", "BillingMode": "PAY_PER_REQUEST"}),
    );
    assert_eq!(taken(&mut rig), 2000);
}

#[test]
fn a_cap_on_demand_and_the_switch_are_obeyed() {
    let config = DynamoDbConfig {
        on_demand_cap: Some((3, 3)),
        ..DynamoDbConfig::default()
    };
    let mut rig = Rig::new(config);
    rig.call("CreateTable", table("Rows"));
    rig.wait(100);
    assert_eq!(taken(&mut rig), 3);
    rig.db.set_throttling(false);
    assert_eq!(taken(&mut rig), 2000);
}

#[test]
fn what_was_not_asked_for_is_not_returned_from_a_metered_table() {
    let mut rig = rig(5, 5);
    assert_eq!(rig.call("PutItem", put(0)), json!({}));
    let mut total = put(0);
    total["ReturnConsumedCapacity"] = json!("TOTAL");
    let consumed = rig.call("PutItem", total)["ConsumedCapacity"].clone();
    assert_eq!(consumed, json!({"TableName": "Rows", "CapacityUnits": 1.0}));
    let mut wrong = put(0);
    wrong["ReturnConsumedCapacity"] = json!("SOME");
    assert_eq!(rig.fail("PutItem", wrong).code, "ValidationException");
}
