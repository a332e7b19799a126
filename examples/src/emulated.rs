//! An emulated account inside the process, for programs that need nothing else.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use bytes::Bytes;
use kcl_core::BoxError;
use kcl_emulator::Emulator;

use crate::put::{Entry, Sender};
use crate::stream_name::StreamName;

const PATIENCE: Duration = Duration::from_secs(30);

/// Makes an account with a stream of one shard, and puts records into it: partition keys and payloads, in this order.
///
/// # Errors
/// When the stream cannot be made, or a record is refused for good.
pub async fn one_shard(
    stream: &str,
    records: impl IntoIterator<Item = (String, String)>,
) -> Result<Emulator, BoxError> {
    let emulator = Emulator::builder().wall_clock().build();
    emulator
        .create_stream(stream, 1)
        .map_err(|error| error.message)?;
    let client = Client::new(&emulator.sdk_config("producer"));
    let mut sender = Sender::new(client, StreamName::from(stream), PATIENCE);
    for (key, payload) in records {
        sender.put(Entry::plain(key, Bytes::from(payload))).await?;
    }
    sender.flush().await?;
    Ok(emulator)
}
