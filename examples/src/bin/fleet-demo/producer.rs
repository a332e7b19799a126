//! A steady stream of records.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use bytes::Bytes;
use examples::put::{Entry, Sender};
use examples::stream_name::StreamName;
use kcl_core::BoxError;

use crate::script::STREAM;

const TICK: Duration = Duration::from_millis(100);
/// Records of one tick, each with a key of its own.
const KEYS: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(30);

/// Puts records for ever.
pub(crate) async fn put_for_ever(client: Client) -> Result<(), BoxError> {
    let mut sender = Sender::new(client, StreamName::from(STREAM), PATIENCE);
    let mut interval = tokio::time::interval(TICK);
    for tick in 0_u64.. {
        interval.tick().await;
        for key in 0..KEYS {
            let data = Bytes::from(tick.to_string());
            let key = format!("sensor-{}", key + tick % 8 * KEYS);
            sender.put(Entry::plain(key, data)).await?;
        }
        sender.flush().await?;
    }
    Ok(())
}
