//! A sink that is slow and answers in any order: records are acknowledged when it has stored them.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use examples::emulated;
use examples::outcome::exit_code;
use examples::progress::say;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kcl_core::{
    Ack, BoxError, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Worker,
    async_trait,
};
use tokio::sync::mpsc;

const STREAM: &str = "readings";
const RECORDS: usize = 2_000;
/// So many requests to the sink are under way.
const AT_A_TIME: usize = 64;

/// A record on its way to the sink.
struct Request {
    text: String,
    ack: Ack,
}

/// Hands every record to the sink and does not wait for it.
struct Forwarder(mpsc::Sender<Request>);

#[async_trait]
impl RecordProcessor for Forwarder {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        for record in &input {
            let text = String::from_utf8_lossy(record.data()).into_owned();
            // The handle outlives the call. Until it is answered no checkpoint passes the record.
            let ack = input.defer(record);
            self.0.send(Request { text, ack }).await?;
        }
        Ok(())
    }
}

/// How often each record came to the sink.
type Stored = Arc<Mutex<BTreeMap<String, u32>>>;

/// Stores one record, which takes 5 to 50 ms. Every tenth one fails at first, and is delivered again by itself.
async fn store(request: Request, stored: Stored, latency: Duration) -> Result<(), BoxError> {
    tokio::time::sleep(latency).await;
    let times = {
        let mut stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
        let times = stored.entry(request.text.clone()).or_default();
        *times += 1;
        *times
    };
    match times == 1 && request.text.ends_with('7') {
        true => request.ack.fail("the sink is busy")?,
        false => request.ack.done()?,
    }
    Ok(())
}

/// Serves requests until nobody sends any more. Returns how many were under way at most.
async fn serve(mut requests: mpsc::Receiver<Request>, stored: Stored) -> usize {
    let mut rng = Runtime::production().rng("sink");
    let mut running = FuturesUnordered::new();
    let mut most = 0;
    loop {
        tokio::select! {
            request = requests.recv(), if running.len() < AT_A_TIME => match request {
                Some(request) => {
                    let latency = Duration::from_millis(rng.u64(5..50));
                    running.push(store(request, Arc::clone(&stored), latency));
                    most = most.max(running.len());
                }
                None => return most,
            },
            Some(outcome) = running.next() => if let Err(error) = outcome {
                say(&format!("async-sink: {error}"));
            },
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::logging::start("error");
    exit_code("async-sink", run().await)
}

/// True if every record was stored, and only what had failed came again.
async fn run() -> Result<bool, BoxError> {
    let records = (0..RECORDS).map(|n| (format!("sensor-{}", n % 100), format!("reading {n}")));
    let emulator = emulated::one_shard(STREAM, records).await?;
    let stored = Stored::default();
    let (sender, requests) = mpsc::channel(AT_A_TIME);
    let sink = Runtime::production().spawn(serve(requests, Arc::clone(&stored)));
    let worker = Worker::builder("forwarder", STREAM, move |_shard| Forwarder(sender.clone()))
        .max_in_flight(500)
        .build(&emulator.sdk_config("worker"))?;
    let handle = worker.handle();
    let caught_up = async move { handle.caught_up().await };
    worker.with_graceful_shutdown(caught_up).run().await?;
    let most = sink.await?;

    let stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
    let again = stored.values().filter(|times| **times == 2).count();
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "stored {}, delivered again {again}, at most {most} at a time",
        stored.len()
    )?;
    Ok(stored.len() == RECORDS && again == RECORDS / 10)
}
