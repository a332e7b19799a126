use super::*;

/// D02
#[test]
fn conditional_writes_succeed_once_and_show_the_old_row() {
    let mut rig = Rig::with_table();
    let create = json!({"TableName": "Rows", "Item": {"id": {"S": "a"}, "n": {"N": "1"}},
        "ConditionExpression": "attribute_not_exists(id)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD"});
    rig.call("PutItem", create.clone());
    let error = rig.fail("PutItem", create);
    assert_eq!(error.status, 400);
    assert_eq!(error.code, "ConditionalCheckFailedException");
    assert_eq!(error.message, "The conditional request failed");
    assert_eq!(
        error.members["Item"],
        json!({"id": {"S": "a"}, "n": {"N": "1"}})
    );

    let mut update = set("a", "n", json!({"N": "2"}));
    update["ConditionExpression"] = json!("n = :seen");
    update["ExpressionAttributeValues"][":seen"] = json!({"N": "1"});
    update["ReturnValues"] = json!("ALL_NEW");
    let updated = rig.call("UpdateItem", update.clone());
    assert_eq!(updated["Attributes"]["n"]["N"], "2");
    let error = rig.fail("UpdateItem", update.clone());
    assert!(error.members.is_empty(), "the old row was not asked for");
    update["ReturnValuesOnConditionCheckFailure"] = json!("ALL_OLD");
    let error = rig.fail("UpdateItem", update);
    assert_eq!(error.members["Item"]["n"]["N"], "2");

    let delete = json!({"TableName": "Rows", "Key": key("a"), "ConditionExpression": "n = :n",
        "ExpressionAttributeValues": {":n": {"N": "9"}}, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"});
    let error = rig.fail("DeleteItem", delete);
    assert_eq!(error.members["Item"]["n"]["N"], "2");
    let deleted = rig.call(
        "DeleteItem",
        json!({"TableName": "Rows", "Key": key("a"), "ReturnValues": "ALL_OLD"}),
    );
    assert_eq!(deleted["Attributes"]["n"]["N"], "2");
    assert_eq!(rig.get("a"), Value::Null);
}

/// D03
#[test]
fn conditions_are_evaluated() {
    let mut rig = Rig::with_table();
    rig.put(
        json!({"id": {"S": "a"}, "n": {"N": "10"}, "s": {"S": "abc"},
        "l": {"L": [{"S": "x"}]}, "ss": {"SS": ["p", "q"]}, "m": {"M": {"k": {"N": "1"}}}}),
    );
    let values = json!({":n": {"N": "9"}, ":m": {"N": "11"}});
    assert!(
        rig.holds("a", "n > :n AND n < :m", values.clone()),
        "numbers, not text"
    );
    assert!(rig.holds("a", "n BETWEEN :n AND :m", values.clone()));
    assert!(!rig.holds("a", "n IN (:n, :m)", values));
    let ten = json!({":n": {"N": "10.0"}});
    assert!(!rig.holds("a", "NOT (n = :n) OR attribute_exists(nothing)", ten));
    let text = json!({":s": {"S": "ab"}});
    assert!(rig.holds("a", "begins_with(s, :s)", text.clone()));
    assert!(rig.holds("a", "contains(s, :s)", text.clone()));
    assert!(!rig.holds("a", "contains(ss, :s)", text));
    assert!(rig.holds(
        "a",
        "contains(ss, :s) AND contains(l, :x)",
        json!({":s": {"S": "p"}, ":x": {"S": "x"}})
    ));
    assert!(rig.holds("a", "size(s) = :three", json!({":three": {"N": "3"}})));
    assert!(rig.holds("a", "attribute_type(ss, :t)", json!({":t": {"S": "SS"}})));
    let parts = json!({":one": {"N": "1"}, ":x": {"S": "x"}});
    assert!(rig.holds("a", "m.k = :one AND l[0] = :x", parts));
    assert!(rig.holds("none", "attribute_not_exists(id)", json!({})));
}

/// D04
#[test]
fn the_legacy_conditions_and_updates_work() {
    let mut rig = Rig::with_table();
    let create = json!({"TableName": "Rows", "Item": {"id": {"S": "a"}, "n": {"N": "1"}},
        "Expected": {"id": {"Exists": false}}});
    rig.call("PutItem", create.clone());
    assert_eq!(
        rig.fail("PutItem", create).code,
        "ConditionalCheckFailedException"
    );
    let update = |expected: Value, operator: &str| {
        json!({"TableName": "Rows", "Key": key("a"), "Expected": expected, "ConditionalOperator": operator,
            "AttributeUpdates": {"n": {"Action": "ADD", "Value": {"N": "1"}},
                "owner": {"Action": "PUT", "Value": {"S": "me"}}}})
    };
    let one = json!({"ComparisonOperator": "EQ", "AttributeValueList": [{"N": "1"}]});
    let seven = json!({"ComparisonOperator": "EQ", "AttributeValueList": [{"N": "7"}]});
    let both = json!({"n": one, "x": seven});
    let error = rig.fail("UpdateItem", update(both.clone(), "AND"));
    assert_eq!(error.code, "ConditionalCheckFailedException");
    rig.call("UpdateItem", update(both, "OR"));
    assert_eq!(
        rig.get("a"),
        json!({"id": {"S": "a"}, "n": {"N": "2"}, "owner": {"S": "me"}})
    );
    let delete = json!({"TableName": "Rows", "Key": key("a"),
        "Expected": {"owner": {"Value": {"S": "you"}}}});
    assert_eq!(
        rig.fail("DeleteItem", delete).code,
        "ConditionalCheckFailedException"
    );
}

/// D13
#[test]
fn update_expressions_change_parts_of_a_row() {
    let mut rig = Rig::with_table();
    rig.put(
        json!({"id": {"S": "a"}, "ss": {"SS": ["p", "q"]}, "l": {"L": [{"S": "x"}]},
        "m": {"M": {"k": {"N": "1"}}}, "gone": {"S": "g"}}),
    );
    let mut update = |expression: &str, values: Value| {
        let mut request =
            json!({"TableName": "Rows", "Key": key("a"), "UpdateExpression": expression});
        if values != json!({}) {
            request["ExpressionAttributeValues"] = values;
        }
        rig.call("UpdateItem", request);
    };
    update(
        "ADD ss :r, visits :one",
        json!({":r": {"SS": ["r"]}, ":one": {"N": "1"}}),
    );
    update("DELETE ss :p REMOVE gone", json!({":p": {"SS": ["p"]}}));
    update(
        "SET l = list_append(l, :y), m.k = m.k + :one",
        json!({":y": {"L": [{"S": "y"}]}, ":one": {"N": "1"}}),
    );
    update(
        "SET origin = if_not_exists(origin, :one), l[0] = :z",
        json!({":one": {"N": "1"}, ":z": {"S": "z"}}),
    );
    update(
        "SET origin = if_not_exists(origin, :two)",
        json!({":two": {"N": "2"}}),
    );
    assert_eq!(
        rig.get("a"),
        json!({"id": {"S": "a"}, "ss": {"SS": ["q", "r"]}, "visits": {"N": "1"},
        "l": {"L": [{"S": "z"}, {"S": "y"}]}, "m": {"M": {"k": {"N": "2"}}}, "origin": {"N": "1"}})
    );
}

/// D14
#[test]
fn rows_and_keys_are_limited() {
    let mut rig = Rig::with_table();
    let large = json!({"TableName": "Rows", "Item": {"id": {"S": "a"}, "d": {"S": "x".repeat(400 * 1024)}}});
    let error = rig.fail("PutItem", large);
    assert_eq!(error.code, "ValidationException");
    assert_eq!(
        error.message,
        "Item size has exceeded the maximum allowed size"
    );
    let mut fits = json!({"TableName": "Rows", "Item": {"id": {"S": "a"}, "d": {"S": ""}}});
    fits["Item"]["d"]["S"] = json!("x".repeat(400 * 1024 - 4));
    rig.call("PutItem", fits);
    let long_key = json!({"TableName": "Rows", "Item": {"id": {"S": "k".repeat(2049)}}});
    assert_eq!(rig.fail("PutItem", long_key).code, "ValidationException");
    let empty_key = json!({"TableName": "Rows", "Item": {"id": {"S": ""}}});
    assert_eq!(rig.fail("PutItem", empty_key).code, "ValidationException");
    let wrong_type = json!({"TableName": "Rows", "Item": {"id": {"N": "1"}}});
    assert_eq!(rig.fail("PutItem", wrong_type).code, "ValidationException");
    let no_key = json!({"TableName": "Rows", "Item": {"x": {"S": "1"}}});
    let error = rig.fail("PutItem", no_key);
    assert_eq!(
        error.message,
        "One or more parameter values were invalid: Missing the key id in the item"
    );
}

/// D17: whoever comes first wins; the order of calls is the only order there is.
#[test]
fn of_many_writers_with_the_same_condition_one_wins() {
    let mut rig = Rig::with_table();
    rig.put(json!({"id": {"S": "a"}, "n": {"N": "0"}}));
    for round in 0..20 {
        let wins = (0..16).filter(|_| {
            let mut update = set("a", "n", json!({"N": (round + 1).to_string()}));
            update["ConditionExpression"] = json!("n = :seen");
            update["ExpressionAttributeValues"][":seen"] = json!({"N": round.to_string()});
            rig.send("UpdateItem", &update).is_ok()
        });
        assert_eq!(wins.count(), 1, "round {round}");
    }
}

/// D12
#[test]
fn consumed_capacity_is_returned_as_asked() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    rig.create(indexed_table("Rows"));
    let item = json!({"id": {"S": "a"}, "owner": {"S": "me"}, "d": {"S": "x".repeat(1500)}});
    let mut put = json!({"TableName": "Rows", "Item": item});
    assert_eq!(
        rig.call("PutItem", put.clone()).get("ConsumedCapacity"),
        None
    );
    put["Item"]["owner"]["S"] = json!("you");
    put["ReturnConsumedCapacity"] = json!("INDEXES");
    let consumed = rig.call("PutItem", put)["ConsumedCapacity"].clone();
    assert_eq!(consumed["Table"]["CapacityUnits"], 2.0);
    assert_eq!(
        consumed["GlobalSecondaryIndexes"]["by-owner"]["CapacityUnits"],
        2.0
    );
    assert_eq!(consumed["CapacityUnits"], 4.0);
    let get = json!({"TableName": "Rows", "Key": key("a"), "ReturnConsumedCapacity": "TOTAL"});
    let consumed = rig.call("GetItem", get)["ConsumedCapacity"].clone();
    assert_eq!(consumed, json!({"TableName": "Rows", "CapacityUnits": 0.5}));
}
