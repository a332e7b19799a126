//! What happens in the demo, one thing after the other.

use aws_sdk_kinesis::Client;
use examples::aws_error::explain;
use kcl_core::{BoxError, Runtime};
use kcl_emulator::Emulator;

use crate::Options;
use crate::members::Members;
use crate::processor::SharedBoard;
use crate::{producer, screen};

pub(crate) const STREAM: &str = "sensors";
const SHARDS: u32 = 6;
const WORKERS: usize = 3;
/// After the last record was put everything is processed within so many looks.
const CATCH_UP_LOOKS: usize = 200;
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

/// Plays the demo; true if every record was processed.
pub(crate) async fn play(options: &Options) -> Result<bool, BoxError> {
    let emulator = Emulator::builder().wall_clock().build();
    emulator
        .create_stream(STREAM, SHARDS)
        .map_err(|error| error.message)?;
    let board = SharedBoard::new();
    let runtime = Runtime::production();
    let client = Client::new(&emulator.sdk_config("producer"));
    let screen = runtime.spawn(screen::show(emulator.clone(), board.clone()));
    let mut producer = runtime.spawn(producer::put_for_ever(client.clone()));
    let mut fleet = Members::new(emulator.clone(), board.clone(), options.lease_duration);
    tokio::select! {
        acted = act(&mut fleet, &board, &client, options) => acted?,
        failed = &mut producer => failed??,
    }
    drop(producer);
    board.say("nothing more is put");
    let complete = catch_up(&emulator, &board).await;
    board.say("all workers are told to stop");
    let drained = fleet.stop_all().await?;
    // One more look at what is left to show.
    tokio::time::sleep(LOOK * 4).await;
    drop(screen);
    let totals = board.lock().totals(&screen::put(&emulator));
    screen::print(&format!("{}\n", screen::summary(&totals)))?;
    Ok(complete && drained && totals.missing == 0)
}

async fn act(
    fleet: &mut Members,
    board: &SharedBoard,
    client: &Client,
    options: &Options,
) -> Result<(), BoxError> {
    for _ in 0..WORKERS {
        let name = fleet.add()?;
        board.say(format!("{name} is started"));
    }
    tokio::time::sleep(options.step).await;

    let victim = board.lock().busiest(&fleet.names()).cloned();
    let victim = victim.ok_or("nobody to kill")?;
    fleet.kill(&victim);
    board.say(format!(
        "{victim} is killed: its shards rest until its leases expire"
    ));
    tokio::time::sleep(options.lease_duration + options.step / 2).await;

    let name = fleet.add()?;
    board.say(format!("{name} is started: it is given its share"));
    tokio::time::sleep(options.step).await;

    let shard = board.lock().any_open_shard().cloned();
    let shard = shard.ok_or("no shard to split")?;
    split(client, &shard).await?;
    board.say(format!(
        "{shard} is split: its children start when it is complete"
    ));
    tokio::time::sleep(options.step).await;

    let leaver = board.lock().busiest(&fleet.names()).cloned();
    let leaver = leaver.ok_or("nobody to stop")?;
    board.say(format!(
        "{leaver} is told to stop: it hands its shards over"
    ));
    fleet.stop(&leaver).await?;
    board.say(format!("{leaver} has ended"));
    tokio::time::sleep(options.step).await;
    Ok(())
}

/// Splits a shard in the middle.
async fn split(client: &Client, shard: &str) -> Result<(), BoxError> {
    let list = client.list_shards().stream_name(STREAM).send().await;
    let listed = list.map_err(|error| explain(&error))?;
    let listed = listed.shards.unwrap_or_default();
    let range = listed.iter().find(|listed| listed.shard_id == shard);
    let range = range.and_then(|listed| listed.hash_key_range.as_ref());
    let range = range.ok_or("the shard is not listed")?;
    let start: u128 = range.starting_hash_key.parse()?;
    let end: u128 = range.ending_hash_key.parse()?;
    let split = client
        .split_shard()
        .stream_name(STREAM)
        .shard_to_split(shard);
    let middle = start + (end - start) / 2 + 1;
    let split = split.new_starting_hash_key(middle.to_string());
    split.send().await.map_err(|error| explain(&error))?;
    Ok(())
}

/// Waits until nothing is left to process; false if that takes too long.
async fn catch_up(emulator: &Emulator, board: &SharedBoard) -> bool {
    for _ in 0..CATCH_UP_LOOKS {
        if board.lock().totals(&screen::put(emulator)).missing == 0 {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}
