use proptest::prelude::*;

use super::*;

const OPERATIONS: [&str; 25] = [
    "CreateTable",
    "DescribeTable",
    "UpdateTable",
    "DeleteTable",
    "ListTables",
    "PutItem",
    "GetItem",
    "UpdateItem",
    "DeleteItem",
    "Query",
    "Scan",
    "BatchGetItem",
    "BatchWriteItem",
    "TransactWriteItems",
    "TransactGetItems",
    "UpdateTimeToLive",
    "DescribeTimeToLive",
    "TagResource",
    "UntagResource",
    "ListTagsOfResource",
    "DescribeLimits",
    "DescribeContinuousBackups",
    "UpdateContinuousBackups",
    "",
    "Nothing",
];

/// D15
#[test]
fn bodies_that_are_no_objects_are_refused() {
    let mut rig = Rig::with_table();
    let caller = Caller::new("test");
    for body in ["", "[]", "null", "{", "{\"TableName\":", "\u{1}"] {
        let error = rig
            .db
            .call(rig.now, &caller, "GetItem", body.as_bytes())
            .unwrap_err();
        assert_eq!(
            (error.status, error.code.as_str()),
            (400, "SerializationException"),
            "{body}"
        );
    }
}

#[test]
fn mistyped_and_missing_members_are_named() {
    let mut rig = Rig::with_table();
    let error = rig.fail("GetItem", json!({"TableName": 5, "Key": key("a")}));
    assert_eq!(error.code, "SerializationException");
    assert_eq!(error.message, "NUMBER_VALUE cannot be converted to String");
    let error = rig.fail("GetItem", json!({"Key": key("a")}));
    assert_eq!(error.code, "ValidationException");
    assert!(error.message.contains("tableName"), "{error}");
    let error = rig.fail("PutItem", json!({"TableName": "Rows", "Item": {"id": {}}}));
    assert_eq!(
        error.message,
        "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
    );
    let error = rig.fail(
        "PutItem",
        json!({"TableName": "Rows", "Item": {"id": {"S": "a"}, "n": {"N": "x"}}}),
    );
    assert_eq!(error.code, "ValidationException");
    let error = rig.fail("GetItem", json!({"TableName": "bad name", "Key": key("a")}));
    assert_eq!(error.code, "ValidationException");
}

#[test]
fn deep_values_are_refused() {
    let mut rig = Rig::with_table();
    for depth in [33, 60, 100_000] {
        let body = format!(
            r#"{{"TableName":"Rows","Item":{{"id":{{"S":"a"}},"d":{}{}}}}}"#,
            r#"{"L":["#.repeat(depth),
            "]}".repeat(depth)
        );
        let caller = Caller::new("test");
        let error = rig
            .db
            .call(rig.now, &caller, "PutItem", body.as_bytes())
            .unwrap_err();
        assert_eq!(error.status, 400);
    }
}

#[test]
fn deep_and_long_expressions_are_refused() {
    let mut rig = Rig::with_table();
    rig.put(json!({"id": {"S": "a"}}));
    let condition =
        |text: String| json!({"TableName": "Rows", "Item": key("a"), "ConditionExpression": text});
    for (open, close) in [("(", ")"), ("NOT ", ""), ("NOT (", ")")] {
        let nested = |depth| {
            format!(
                "{}attribute_exists(id){}",
                open.repeat(depth),
                close.repeat(depth)
            )
        };
        let deep = rig.fail("PutItem", condition(nested(400)));
        assert_eq!(deep.code, "ValidationException");
        if let Err(error) = rig.send("PutItem", &condition(nested(40))) {
            assert!(error.message.contains("redundant parentheses"), "{error}");
        }
    }
    let long = "attribute_exists(id) AND ".repeat(200) + "attribute_exists(id)";
    let error = rig.fail("PutItem", condition(long));
    assert!(error.message.contains("expression size"), "{error}");
    let wide = "attribute_exists(id) AND ".repeat(150) + "attribute_exists(id)";
    rig.call("PutItem", condition(wide));
    let path = format!("SET {} = id", vec!["a"; 1000].join("."));
    let update = json!({"TableName": "Rows", "Key": key("a"), "UpdateExpression": path});
    assert_eq!(rig.fail("UpdateItem", update).status, 400);
    let in_transaction = json!({"TransactItems": [{"Put": condition("(".repeat(400))}]});
    assert_eq!(
        rig.fail("TransactWriteItems", in_transaction).code,
        "ValidationException"
    );
}

/// JSON of the shapes and names that requests have.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(Rows|id|a|:v|#n|1|-1e999|\\PC{0,8})".prop_map(Value::from),
    ];
    let member = prop_oneof![
        "(TableName|Key|Item|id|S|N|B|L|M|SS|NS|Limit|Segment|TotalSegments|IndexName|Expected|Select)",
        "(RequestItems|TransactItems|Rows|Put|Update|Delete|Get|ConditionCheck|Keys|PutRequest|owner)",
        "(ConditionExpression|UpdateExpression|FilterExpression|KeyConditionExpression|Tags)",
        "(ExpressionAttributeValues|ExpressionAttributeNames|ExclusiveStartKey|ReturnConsumedCapacity)",
        "(GlobalSecondaryIndexUpdates|Create|KeySchema|AttributeDefinitions|ProvisionedThroughput)",
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(member.clone(), inner, 0..6).prop_map(|members| members
                .into_iter()
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_requests_never_panic(
        requests in prop::collection::vec((0..OPERATIONS.len(), value(), any::<bool>()), 1..30),
    ) {
        let mut rig = Rig::new(DynamoDbConfig { on_demand_cap: Some((50, 50)), ..DynamoDbConfig::default() });
        rig.create(indexed_table("Rows"));
        for (operation, mut request, named) in requests {
            if let (true, Value::Object(request)) = (named, &mut request) {
                request.insert("TableName".to_owned(), json!("Rows"));
            }
            let view = ReadView::Stale { versions_back: 1 };
            let _ = rig.read(OPERATIONS[operation], &request, view);
            rig.wait(50);
        }
    }

    #[test]
    fn hostile_bytes_never_panic(operation in 0..OPERATIONS.len(), body: Vec<u8>) {
        let mut rig = Rig::with_table();
        let _ = rig.db.call(rig.now, &Caller::new("test"), OPERATIONS[operation], &body);
    }

    #[test]
    fn hostile_expressions_never_panic(
        expression in "([a-z]|#n|:v|NOT|AND|SET|ADD|REMOVE|size|[(),.+=<>]|\\[0\\]| ){0,60}",
    ) {
        let mut rig = Rig::with_table();
        rig.put(json!({"id": {"S": "a"}, "a": {"N": "1"}}));
        for part in ["ConditionExpression", "UpdateExpression", "FilterExpression", "ProjectionExpression", "KeyConditionExpression"] {
            for operation in ["UpdateItem", "Query", "Scan", "GetItem"] {
                let request = json!({"TableName": "Rows", "Key": key("a"), part: expression,
                    "ExpressionAttributeNames": {"#n": "a"}, "ExpressionAttributeValues": {":v": {"N": "1"}}});
                let _ = rig.send(operation, &request);
            }
        }
    }
}
