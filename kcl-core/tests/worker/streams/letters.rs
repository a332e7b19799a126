//! Dead letters of several streams, whose shards have the same names.

use std::sync::Arc;

use kcl_core::{OnFailure, StreamConfig, Worker};

use super::stage::{Stage, put};
use crate::fixture::{Log, Recorder, eventually};
use crate::poison::{Letters, refuse_poison, three_times};

#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_which_stream_it_is_from() {
    let stage = Stage::new();
    let [orders, payments] = ["orders", "payments"].map(|name| stage.create(name, 1));
    let (log, letters) = (Log::default(), Letters::default());
    let list = ["orders", "payments"].map(StreamConfig::new);
    let builder = Worker::builder("app", list, move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: Arc::new(refuse_poison),
    });
    let builder = builder
        .retrieval(crate::retrieval())
        .runtime(stage.runtime.clone())
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(letters.sink());
    let worker = stage.start(builder);
    put(&orders, &["good", "poison of orders"]);
    put(&payments, &["poison of payments", "good"]);
    eventually("the letters", || letters.texts().len() == 2).await;
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.counters().dead_letters, 2);
    worker.stop().await;
    for letter in letters.accepted.lock().unwrap().iter() {
        let text = String::from_utf8(letter.data.to_vec()).unwrap();
        let stream = text.strip_prefix("poison of ").unwrap();
        let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}");
        assert_eq!((&*letter.stream, &*letter.stream_arn), (stream, &*arn));
        assert_eq!(letter.shard.as_str(), "shardId-000000000000");
        let json = letter.to_json();
        assert!(json.contains(&format!(r#""stream":"{stream}""#)), "{json}");
        assert!(json.contains(&format!(r#""streamArn":"{arn}""#)), "{json}");
    }
}
