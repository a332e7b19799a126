use super::*;

fn with_rows(count: usize, bytes: usize) -> Rig {
    let mut rig = Rig::with_table();
    for n in 0..count {
        rig.put(
            json!({"id": {"S": format!("row-{n:03}")}, "n": {"N": n.to_string()},
            "d": {"S": "x".repeat(bytes)}}),
        );
    }
    rig
}

fn scan_all(rig: &mut Rig, mut request: Value) -> (Vec<String>, usize) {
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let page = rig.call("Scan", request.clone());
        pages += 1;
        found.extend(names(&page["Items"]).into_iter().map(str::to_owned));
        match page.get("LastEvaluatedKey") {
            Some(last) => request["ExclusiveStartKey"] = last.clone(),
            None => return (found, pages),
        }
    }
}

/// D05
#[test]
fn a_scan_is_paged_by_limit_and_by_size() {
    let mut rig = with_rows(25, 100 * 1024);
    let (mut found, pages) = scan_all(&mut rig, json!({"TableName": "Rows", "Limit": 4}));
    found.sort_unstable();
    found.dedup();
    assert_eq!((found.len(), pages), (25, 7));
    let (found, pages) = scan_all(&mut rig, json!({"TableName": "Rows"}));
    assert_eq!((found.len(), pages), (25, 3), "a page holds 1 MB");
}

#[test]
fn segments_of_a_scan_share_the_rows() {
    let mut rig = with_rows(50, 10);
    let mut all = Vec::new();
    for segment in 0..4 {
        let request = json!({"TableName": "Rows", "Segment": segment, "TotalSegments": 4});
        let (found, _) = scan_all(&mut rig, request);
        assert!(!found.is_empty() && found.len() < 50);
        all.extend(found);
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 50);
}

#[test]
fn a_filter_is_judged_after_the_rows_are_counted() {
    let mut rig = with_rows(10, 10);
    let request = json!({"TableName": "Rows", "FilterExpression": "n < :three",
        "ExpressionAttributeValues": {":three": {"N": "3"}}, "ProjectionExpression": "id"});
    let answer = rig.call("Scan", request);
    assert_eq!(
        (&answer["Count"], &answer["ScannedCount"]),
        (&json!(3), &json!(10))
    );
    assert_eq!(answer["Items"][0].as_object().unwrap().len(), 1);
}

/// D06
#[test]
fn an_index_is_sparse_projected_and_paged() {
    let mut rig = Rig::new(DynamoDbConfig::default());
    rig.create(indexed_table("Rows"));
    for n in 0..9 {
        let mut item = json!({"id": {"S": format!("row-{n}")}, "d": {"S": "data"}});
        if n % 3 != 0 {
            item["owner"] = json!({"S": "me"});
        }
        rig.put(item);
    }
    let mut query = json!({"TableName": "Rows", "IndexName": "by-owner", "Limit": 4,
        "KeyConditionExpression": "#o = :o", "ExpressionAttributeNames": {"#o": "owner"},
        "ExpressionAttributeValues": {":o": {"S": "me"}}});
    let first = rig.call("Query", query.clone());
    assert_eq!(first["Count"], 4);
    assert_eq!(
        first["Items"][0].get("d"),
        None,
        "the index holds keys only"
    );
    query["ExclusiveStartKey"] = first["LastEvaluatedKey"].clone();
    let second = rig.call("Query", query.clone());
    assert_eq!(
        (&second["Count"], second.get("LastEvaluatedKey")),
        (&json!(2), None)
    );
    query["ConsistentRead"] = json!(true);
    let error = rig.fail("Query", query);
    assert_eq!(
        error.message,
        "Consistent reads are not supported on global secondary indexes"
    );
}

/// D07
#[test]
fn batches_write_and_read_many_rows() {
    let mut rig = Rig::with_table();
    rig.put(json!({"id": {"S": "old"}}));
    let puts = (0..24).map(|n| json!({"PutRequest": {"Item": {"id": {"S": format!("row-{n}")}}}}));
    let mut writes: Vec<Value> = puts.collect();
    writes.push(json!({"DeleteRequest": {"Key": key("old")}}));
    let answer = rig.call("BatchWriteItem", json!({"RequestItems": {"Rows": writes}}));
    assert_eq!(answer["UnprocessedItems"], json!({}));
    assert_eq!(rig.get("old"), Value::Null);
    let keys = json!([key("row-1"), key("none"), key("row-2")]);
    let answer = rig.call(
        "BatchGetItem",
        json!({"RequestItems": {"Rows": {"Keys": keys}}}),
    );
    assert_eq!(answer["Responses"]["Rows"].as_array().unwrap().len(), 2);
    assert_eq!(answer["UnprocessedKeys"], json!({}));
    writes = vec![json!({"DeleteRequest": {"Key": key("a")}}); 26];
    let error = rig.fail("BatchWriteItem", json!({"RequestItems": {"Rows": writes}}));
    assert_eq!(error.code, "ValidationException");
}

/// The same calls give the same bytes, whatever the order of a hash map.
#[test]
fn answers_are_the_same_each_time() {
    let run = || {
        let mut rig = with_rows(20, 5);
        let nested: Value = (0..9)
            .map(|n| (format!("k{n}"), json!({"BOOL": true})))
            .collect();
        rig.put(json!({"id": {"S": "nested"}, "l": {"L": [{"M": nested}]}}));
        let request = json!({"TableName": "Rows"}).to_string();
        let caller = Caller::new("test");
        let answer = rig.db.call(rig.now, &caller, "Scan", request.as_bytes());
        String::from_utf8(answer.unwrap()).unwrap()
    };
    assert_eq!(run(), run());
}
