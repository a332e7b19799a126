use super::*;

fn back(versions_back: usize) -> ReadView {
    ReadView::Stale { versions_back }
}

/// A row `a` whose `n` has been 1, 2 and 3.
fn rig() -> Rig {
    let mut rig = Rig::with_table();
    rig.put(json!({"id": {"S": "a"}, "n": {"N": "1"}, "x": {"S": "x"}}));
    for n in ["2", "3"] {
        rig.call("UpdateItem", set("a", "n", json!({"N": n})));
    }
    rig
}

fn get(rig: &mut Rig, request: &Value, view: ReadView) -> Value {
    rig.read("GetItem", request, view).unwrap()["Item"].clone()
}

#[test]
fn an_eventually_consistent_get_sees_older_versions() {
    let mut rig = rig();
    let mut request = json!({"TableName": "Rows", "Key": key("a"), "ProjectionExpression": "#n",
        "ExpressionAttributeNames": {"#n": "n"}});
    for (versions, seen) in [(0, "3"), (1, "2"), (2, "1")] {
        let item = get(&mut rig, &request, back(versions));
        assert_eq!(item, json!({"n": {"N": seen}}));
    }
    assert_eq!(
        get(&mut rig, &request, back(3)),
        Value::Null,
        "before the first write there was no row"
    );
    assert_eq!(get(&mut rig, &request, back(99)), Value::Null);
    request["ConsistentRead"] = json!(true);
    assert_eq!(get(&mut rig, &request, back(2))["n"]["N"], "3");
}

#[test]
fn a_deleted_row_is_still_seen() {
    let mut rig = rig();
    rig.call("DeleteItem", json!({"TableName": "Rows", "Key": key("a")}));
    let request = json!({"TableName": "Rows", "Key": key("a")});
    assert_eq!(get(&mut rig, &request, ReadView::Current), Value::Null);
    assert_eq!(get(&mut rig, &request, back(1))["n"]["N"], "3");
    let scan = rig
        .read("Scan", &json!({"TableName": "Rows"}), back(1))
        .unwrap();
    assert_eq!(
        (&scan["Count"], &scan["Items"][0]["n"]["N"]),
        (&json!(1), &json!("3"))
    );
}

#[test]
fn a_scan_sees_older_versions_and_not_yet_new_rows() {
    let mut rig = rig();
    rig.put(json!({"id": {"S": "new"}}));
    let scan = rig
        .read("Scan", &json!({"TableName": "Rows"}), back(1))
        .unwrap();
    assert_eq!(scan["Count"], 1);
    assert_eq!(
        scan["Items"],
        json!([{"id": {"S": "a"}, "n": {"N": "2"}, "x": {"S": "x"}}])
    );
    let request = json!({"TableName": "Rows", "ConsistentRead": true});
    let scan = rig.read("Scan", &request, back(1)).unwrap();
    assert_eq!(scan["Count"], 2);
}

#[test]
fn transactions_and_batches_make_versions_too() {
    let mut rig = rig();
    rig.call(
        "TransactWriteItems",
        json!({"TransactItems": [{"Update": {"TableName": "Rows",
        "Key": key("a"), "UpdateExpression": "SET n = :v",
        "ExpressionAttributeValues": {":v": {"N": "4"}}}}]}),
    );
    let put = json!({"PutRequest": {"Item": {"id": {"S": "a"}, "n": {"N": "5"}}}});
    rig.call("BatchWriteItem", json!({"RequestItems": {"Rows": [put]}}));
    let request = json!({"TableName": "Rows", "Key": key("a")});
    assert_eq!(get(&mut rig, &request, back(1))["n"]["N"], "4");
    assert_eq!(get(&mut rig, &request, back(2))["n"]["N"], "3");
}

#[test]
fn a_failed_write_makes_no_version() {
    let mut rig = rig();
    let mut update = set("a", "n", json!({"N": "9"}));
    update["ConditionExpression"] = json!("attribute_not_exists(id)");
    rig.fail("UpdateItem", update);
    let request = json!({"TableName": "Rows", "Key": key("a")});
    assert_eq!(get(&mut rig, &request, back(1))["n"]["N"], "2");
}

#[test]
fn a_stale_index_does_not_show_rows_under_a_key_they_did_not_have() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    rig.create(indexed_table("Rows"));
    for owner in ["you", "me"] {
        rig.put(json!({"id": {"S": "a"}, "owner": {"S": owner}, "d": {"S": "data"}}));
    }
    let query = json!({"TableName": "Rows", "IndexName": "by-owner",
        "KeyConditionExpression": "#o = :o", "ExpressionAttributeNames": {"#o": "owner"},
        "ExpressionAttributeValues": {":o": {"S": "me"}}});
    assert_eq!(rig.read("Query", &query, back(0)).unwrap()["Count"], 1);
    assert_eq!(rig.read("Query", &query, back(1)).unwrap()["Count"], 0);
    rig.put(json!({"id": {"S": "a"}, "owner": {"S": "me"}, "d": {"S": "later"}}));
    let found = rig.read("Query", &query, back(1)).unwrap();
    assert_eq!(
        found["Items"],
        json!([{"id": {"S": "a"}, "owner": {"S": "me"}}])
    );
}

#[test]
fn versions_are_bounded_by_row_and_by_bytes() {
    let mut rig = Rig::new(DynamoDbConfig {
        row_versions: 3,
        row_version_bytes: 2000,
        ..DynamoDbConfig::default()
    });
    rig.create(table("Rows"));
    for n in 0..10 {
        rig.put(json!({"id": {"S": "a"}, "n": {"N": n.to_string()}}));
    }
    let request = json!({"TableName": "Rows", "Key": key("a")});
    assert_eq!(
        get(&mut rig, &request, back(9))["n"]["N"],
        "7",
        "the oldest kept"
    );
    for n in 0..30 {
        rig.put(json!({"id": {"S": format!("b{n}")}, "d": {"S": "x".repeat(100)}}));
    }
    assert_eq!(
        get(&mut rig, &request, back(1))["n"]["N"],
        "9",
        "forgotten, so served as it is"
    );
    let last = json!({"TableName": "Rows", "Key": key("b29")});
    assert_eq!(get(&mut rig, &last, back(1)), Value::Null);
}

#[test]
fn a_table_created_again_has_no_past() {
    let mut rig = rig();
    rig.call("DeleteTable", json!({"TableName": "Rows"}));
    rig.wait(1000);
    rig.create(table("Rows"));
    rig.put(json!({"id": {"S": "a"}, "n": {"N": "7"}}));
    let request = json!({"TableName": "Rows", "Key": key("a")});
    assert_eq!(get(&mut rig, &request, back(1)), Value::Null);
}
