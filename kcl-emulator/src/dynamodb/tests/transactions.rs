use super::*;

fn two_puts(token: Option<&str>, value: &str) -> Value {
    let put = |id: &str| json!({"Put": {"TableName": "Rows", "Item": {"id": {"S": id}, "v": {"S": value}}}});
    let mut request = json!({"TransactItems": [put("a"), put("b")]});
    if let Some(token) = token {
        request["ClientRequestToken"] = json!(token);
    }
    request
}

/// D07
#[test]
fn a_transaction_happens_whole_or_not_at_all() {
    let mut rig = Rig::with_table();
    rig.call("TransactWriteItems", two_puts(None, "one"));
    let request = json!({"TransactItems": [
        {"Update": {"TableName": "Rows", "Key": key("a"), "UpdateExpression": "SET v = :v",
            "ExpressionAttributeValues": {":v": {"S": "two"}}}},
        {"Delete": {"TableName": "Rows", "Key": key("b"), "ConditionExpression": "v = :v",
            "ExpressionAttributeValues": {":v": {"S": "other"}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}},
        {"ConditionCheck": {"TableName": "Rows", "Key": key("c"),
            "ConditionExpression": "attribute_exists(id)"}}]});
    let error = rig.fail("TransactWriteItems", request);
    assert_eq!(error.code, "TransactionCanceledException");
    assert_eq!(
        error.message,
        "Transaction cancelled, please refer cancellation reasons for specific reasons \
         [None, ConditionalCheckFailed, ConditionalCheckFailed]"
    );
    let reasons = &error.members["CancellationReasons"];
    assert_eq!(reasons[0], json!({"Code": "None"}));
    assert_eq!(
        reasons[1],
        json!({"Code": "ConditionalCheckFailed",
        "Message": "The conditional request failed", "Item": {"id": {"S": "b"}, "v": {"S": "one"}}})
    );
    assert_eq!(
        reasons[2],
        json!({"Code": "ConditionalCheckFailed",
        "Message": "The conditional request failed"})
    );
    assert_eq!(rig.get("a")["v"]["S"], "one");
}

#[test]
fn a_transaction_reads_rows_in_order() {
    let mut rig = Rig::with_table();
    rig.call("TransactWriteItems", two_puts(None, "one"));
    let get = |id: &str| json!({"Get": {"TableName": "Rows", "Key": key(id)}});
    let answer = rig.call(
        "TransactGetItems",
        json!({"TransactItems": [get("b"), get("none"), get("a")]}),
    );
    assert_eq!(answer["Responses"][0]["Item"]["id"]["S"], "b");
    assert_eq!(answer["Responses"][1], json!({}));
    assert_eq!(answer["Responses"][2]["Item"]["id"]["S"], "a");
}

#[test]
fn a_token_makes_a_transaction_happen_once_in_ten_minutes() {
    let mut rig = Rig::with_table();
    rig.call("TransactWriteItems", two_puts(Some("token"), "one"));
    rig.call("UpdateItem", set("a", "v", json!({"S": "changed"})));
    rig.wait(599_999);
    rig.call("TransactWriteItems", two_puts(Some("token"), "one"));
    assert_eq!(rig.get("a")["v"]["S"], "changed", "answered, not repeated");
    let error = rig.fail("TransactWriteItems", two_puts(Some("token"), "two"));
    assert_eq!(error.code, "IdempotentParameterMismatchException");
    rig.wait(1);
    rig.call("TransactWriteItems", two_puts(Some("token"), "one"));
    assert_eq!(rig.get("a")["v"]["S"], "one", "the token is forgotten");
    let long = "t".repeat(37);
    let error = rig.fail("TransactWriteItems", two_puts(Some(&long), "one"));
    assert_eq!(error.code, "ValidationException");
}

#[test]
fn a_cancelled_transaction_does_not_use_its_token() {
    let mut rig = Rig::with_table();
    let mut request = two_puts(Some("token"), "one");
    request["TransactItems"][0]["Put"]["ConditionExpression"] = json!("attribute_exists(id)");
    rig.fail("TransactWriteItems", request.clone());
    rig.put(json!({"id": {"S": "a"}}));
    rig.call("TransactWriteItems", request);
    assert_eq!(rig.get("b")["v"]["S"], "one");
}

#[test]
fn the_capacity_of_a_transaction_is_returned_and_of_its_repetition_as_reads() {
    let mut rig = Rig::with_table();
    let mut request = two_puts(Some("token"), "one");
    rig.call("TransactWriteItems", request.clone());
    request["ReturnConsumedCapacity"] = json!("TOTAL");
    let consumed = rig.call("TransactWriteItems", request)["ConsumedCapacity"][0].clone();
    assert_eq!(consumed["ReadCapacityUnits"], 4.0);
    assert_eq!(consumed.get("WriteCapacityUnits"), None);
}
