use super::*;

fn describe(rig: &mut Rig, name: &str) -> Value {
    rig.call("DescribeTable", json!({"TableName": name}))["Table"].clone()
}

fn add_index() -> Value {
    json!({"TableName": "Rows", "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "owner", "AttributeType": "S"}],
        "GlobalSecondaryIndexUpdates": [{"Create": owner_index()}]})
}

fn by_owner(owner: &str) -> Value {
    json!({"TableName": "Rows", "IndexName": "by-owner", "KeyConditionExpression": "#o = :o",
        "ExpressionAttributeNames": {"#o": "owner"}, "ExpressionAttributeValues": {":o": {"S": owner}}})
}

/// D01
#[test]
fn a_table_is_creating_then_active() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    let created = rig.call("CreateTable", indexed_table("Rows"))["TableDescription"].clone();
    assert_eq!(created["TableStatus"], "CREATING");
    assert_eq!(created["CreationDateTime"], 1_800_000_000.0);
    assert_eq!(
        created["TableArn"],
        "arn:aws:dynamodb:us-east-1:000000000000:table/Rows"
    );
    assert_eq!(
        created["BillingModeSummary"]["BillingMode"],
        "PAY_PER_REQUEST"
    );
    let index = &created["GlobalSecondaryIndexes"][0];
    assert_eq!(index["IndexStatus"], "CREATING");
    assert_eq!(index.get("Backfilling"), None);

    rig.wait(99);
    let creating = describe(&mut rig, "Rows");
    assert_eq!(creating["TableStatus"], "CREATING");
    assert_eq!(creating["TableId"], created["TableId"]);
    rig.wait(1);
    let active = describe(&mut rig, "Rows");
    assert_eq!(active["TableStatus"], "ACTIVE");
    let index = &active["GlobalSecondaryIndexes"][0];
    assert_eq!(index["IndexStatus"], "ACTIVE");
    assert_eq!(
        index["IndexArn"],
        format!("{}/index/by-owner", active["TableArn"].as_str().unwrap())
    );
}

#[test]
fn a_table_that_is_creating_is_in_use_and_has_no_rows() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    rig.call("CreateTable", table("Leases"));
    let again = rig.fail("CreateTable", table("Leases"));
    assert_eq!(again.code, "ResourceInUseException");
    assert_eq!(again.message, "Table already exists: Leases");
    let delete = rig.fail("DeleteTable", json!({"TableName": "Leases"}));
    assert_eq!(delete.code, "ResourceInUseException");
    assert_eq!(
        delete.message,
        "Attempt to change a resource which is still in use: Table is being created: Leases"
    );
    for (operation, request) in [
        ("PutItem", json!({"TableName": "Leases", "Item": key("a")})),
        ("GetItem", json!({"TableName": "Leases", "Key": key("a")})),
        ("Scan", json!({"TableName": "Leases"})),
        (
            "TransactWriteItems",
            json!({"TransactItems": [
            {"Put": {"TableName": "Leases", "Item": key("a")}}]}),
        ),
    ] {
        let error = rig.fail(operation, request);
        assert_eq!(error.code, "ResourceNotFoundException", "{operation}");
        assert_eq!(error.message, "Requested resource not found");
    }
}

#[test]
fn an_unknown_table_is_not_found() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    let error = rig.fail("DescribeTable", json!({"TableName": "None"}));
    assert_eq!(error.code, "ResourceNotFoundException");
    assert_eq!(
        error.message,
        "Requested resource not found: Table: None not found"
    );
    let error = rig.fail("Scan", json!({"TableName": "None"}));
    assert_eq!(error.code, "ResourceNotFoundException");
}

#[test]
fn a_deleted_table_is_deleting_then_gone() {
    let mut rig = Rig::with_table_named("Leases");
    let deleted = rig.call("DeleteTable", json!({"TableName": "Leases"}));
    assert_eq!(deleted["TableDescription"]["TableStatus"], "DELETING");
    assert_eq!(describe(&mut rig, "Leases")["TableStatus"], "DELETING");
    let tables = rig.call("ListTables", json!({}));
    assert_eq!(tables["TableNames"], json!(["Leases"]));
    assert_eq!(
        rig.fail("CreateTable", table("Leases")).code,
        "ResourceInUseException"
    );
    let scan = rig.fail("Scan", json!({"TableName": "Leases"}));
    assert_eq!(scan.code, "ResourceNotFoundException");
    let again = rig.call("DeleteTable", json!({"TableName": "Leases"}));
    assert_eq!(again["TableDescription"]["TableStatus"], "DELETING");

    rig.wait(100);
    let error = rig.fail("DescribeTable", json!({"TableName": "Leases"}));
    assert_eq!(error.code, "ResourceNotFoundException");
    assert_eq!(rig.call("ListTables", json!({}))["TableNames"], json!([]));
    rig.create(table("Leases"));
    let rows = rig.call("Scan", json!({"TableName": "Leases"}));
    assert_eq!(rows["Count"], 0);
}

#[test]
fn tables_are_listed_in_pages() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    for name in ["Lease-c", "Lease-a", "Lease-b"] {
        rig.create(table(name));
    }
    let first = rig.call("ListTables", json!({"Limit": 2}));
    assert_eq!(
        first,
        json!({"TableNames": ["Lease-a", "Lease-b"], "LastEvaluatedTableName": "Lease-b"})
    );
    let rest = rig.call(
        "ListTables",
        json!({"Limit": 2, "ExclusiveStartTableName": "Lease-b"}),
    );
    assert_eq!(rest, json!({"TableNames": ["Lease-c"]}));
    let error = rig.fail("ListTables", json!({"Limit": 0}));
    assert_eq!(error.code, "ValidationException");
}

#[test]
fn a_table_is_known_by_its_arn() {
    let mut rig = Rig::with_table_named("Leases");
    let arn = "arn:aws:dynamodb:us-east-1:000000000000:table/Leases";
    rig.call("PutItem", json!({"TableName": arn, "Item": key("a")}));
    rig.call(
        "TransactWriteItems",
        json!({"TransactItems": [{"Put": {"TableName": arn, "Item": key("b")}}]}),
    );
    let rows = rig.call("Scan", json!({"TableName": arn}));
    assert_eq!(rows["Count"], 2);
    assert_eq!(describe(&mut rig, arn)["TableName"], "Leases");
}

/// D08
#[test]
fn an_index_is_added_to_a_table_in_use() {
    let mut rig = Rig::with_table();
    rig.put(json!({"id": {"S": "a"}, "owner": {"S": "me"}}));
    rig.put(json!({"id": {"S": "b"}}));
    let updated = rig.call("UpdateTable", add_index())["TableDescription"].clone();
    assert_eq!(updated["TableStatus"], "UPDATING");
    let index = &updated["GlobalSecondaryIndexes"][0];
    assert_eq!(
        (&index["IndexStatus"], &index["Backfilling"]),
        (&json!("CREATING"), &json!(false))
    );
    let busy = rig.fail("UpdateTable", add_index());
    assert_eq!(busy.code, "ResourceInUseException");

    rig.wait(100);
    let filling = describe(&mut rig, "Rows");
    assert_eq!(filling["TableStatus"], "ACTIVE");
    let index = &filling["GlobalSecondaryIndexes"][0];
    assert_eq!(
        (&index["IndexStatus"], &index["Backfilling"]),
        (&json!("CREATING"), &json!(true))
    );
    let error = rig.fail("Query", by_owner("me"));
    assert_eq!(error.code, "ValidationException");
    assert_eq!(
        error.message,
        "Cannot read from backfilling global secondary index: by-owner"
    );
    assert_eq!(
        rig.fail("UpdateTable", add_index()).code,
        "LimitExceededException"
    );
    rig.put(json!({"id": {"S": "c"}, "owner": {"S": "me"}}));

    rig.wait(100);
    let active = describe(&mut rig, "Rows");
    let index = &active["GlobalSecondaryIndexes"][0];
    assert_eq!(
        (&index["IndexStatus"], index.get("Backfilling")),
        (&json!("ACTIVE"), None)
    );
    let found = rig.call("Query", by_owner("me"));
    let mut found = names(&found["Items"]);
    found.sort_unstable();
    assert_eq!(found, ["a", "c"]);
}

#[test]
fn an_index_is_dropped() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    rig.create(indexed_table("Rows"));
    let drop = json!({"TableName": "Rows",
        "GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "by-owner"}}]});
    let updated = rig.call("UpdateTable", drop)["TableDescription"].clone();
    assert_eq!(updated["TableStatus"], "UPDATING");
    let indexes = updated["GlobalSecondaryIndexes"].as_array().unwrap();
    assert_eq!(indexes.len(), 1);
    assert_eq!(indexes[0]["IndexStatus"], "DELETING");
    rig.wait(100);
    let after = describe(&mut rig, "Rows");
    assert_eq!(after["TableStatus"], "ACTIVE");
    assert!(
        after["GlobalSecondaryIndexes"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}

/// D09
#[test]
fn time_to_live_is_switched_on() {
    let mut rig = Rig::with_table();
    let before = rig.call("DescribeTimeToLive", json!({"TableName": "Rows"}));
    assert_eq!(
        before["TimeToLiveDescription"]["TimeToLiveStatus"],
        "DISABLED"
    );
    let on = json!({"TableName": "Rows",
        "TimeToLiveSpecification": {"Enabled": true, "AttributeName": "expires"}});
    let answer = rig.call("UpdateTimeToLive", on.clone());
    assert_eq!(
        answer["TimeToLiveSpecification"],
        on["TimeToLiveSpecification"]
    );
    let after = rig.call("DescribeTimeToLive", json!({"TableName": "Rows"}));
    assert_eq!(
        after["TimeToLiveDescription"]["TimeToLiveStatus"],
        "ENABLED"
    );
    assert_eq!(after["TimeToLiveDescription"]["AttributeName"], "expires");
}

/// D10
#[test]
fn point_in_time_recovery_is_switched_on_and_off() {
    let mut rig = Rig::with_table_named("Leases");
    let describe = |rig: &mut Rig| {
        let answer = rig.call("DescribeContinuousBackups", json!({"TableName": "Leases"}));
        let description = answer["ContinuousBackupsDescription"].clone();
        assert_eq!(description["ContinuousBackupsStatus"], "ENABLED");
        description["PointInTimeRecoveryDescription"].clone()
    };
    let switch = |rig: &mut Rig, on: bool| {
        let request = json!({"TableName": "Leases",
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": on}});
        rig.call("UpdateContinuousBackups", request);
    };
    assert_eq!(describe(&mut rig)["PointInTimeRecoveryStatus"], "DISABLED");
    switch(&mut rig, true);
    let since = rig.now.as_seconds();
    rig.wait(3_600_000);
    let on = describe(&mut rig);
    assert_eq!(on["PointInTimeRecoveryStatus"], "ENABLED");
    assert_eq!(on["RecoveryPeriodInDays"], 35);
    assert_eq!(on["EarliestRestorableDateTime"], since);
    assert_eq!(on["LatestRestorableDateTime"], rig.now.as_seconds() - 300.0);
    switch(&mut rig, false);
    assert_eq!(
        describe(&mut rig),
        json!({"PointInTimeRecoveryStatus": "DISABLED"})
    );
    let unknown = rig.fail("DescribeContinuousBackups", json!({"TableName": "None"}));
    assert_eq!(unknown.code, "TableNotFoundException");
    assert_eq!(unknown.message, "Table not found: None");
}

/// D11
#[test]
fn tags_are_kept() {
    let mut rig = Rig::with_table_named("Leases");
    let arn = describe(&mut rig, "Leases")["TableArn"].clone();
    let tags = json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]);
    rig.call("TagResource", json!({"ResourceArn": arn, "Tags": tags}));
    let listed = rig.call("ListTagsOfResource", json!({"ResourceArn": arn}));
    assert_eq!(listed["Tags"], tags);
    rig.call(
        "UntagResource",
        json!({"ResourceArn": arn, "TagKeys": ["a"]}),
    );
    let listed = rig.call("ListTagsOfResource", json!({"ResourceArn": arn}));
    assert_eq!(listed["Tags"], json!([{"Key": "b", "Value": "2"}]));
}

#[test]
fn limits_are_described_and_unknown_operations_refused() {
    let mut rig = Rig::with_table();
    let limits = rig.call("DescribeLimits", json!({}));
    assert_eq!(limits["TableMaxWriteCapacityUnits"], 40_000);
    let error = rig.fail("RestoreTableToPointInTime", json!({}));
    assert_eq!(error.code, "UnknownOperationException");
}
