//! Everything in one process: an emulated account, a producer, and a worker that is replaced half-way.

mod ledger;
mod load;
mod processor;
mod report;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use examples::outcome::exit_code;
use examples::progress::Progress;
use kcl_core::{BoxError, Runtime, ShutdownReport, Worker};
use kcl_emulator::Emulator;

use load::{Load, STREAM};
use processor::{Recorder, SharedLedger};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Nothing new for so long means that nothing more comes.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    examples::logging::start("error");
    exit_code("quickstart", run().await)
}

/// Runs it all; true if every record was processed once and in order.
async fn run() -> Result<bool, BoxError> {
    let emulator = Emulator::builder().wall_clock().build();
    emulator
        .create_stream(STREAM, 4)
        .map_err(|error| error.message)?;
    let ledger = SharedLedger::default();
    let mut load = Load::new(&emulator.sdk_config("producer"), &ledger);
    load.put_next(load::BEFORE_START).await?;

    let runtime = Runtime::production();
    let producer = runtime.spawn(load.put_rest_and_reshard());
    let watcher = runtime.spawn(show_progress(ledger.clone()));
    let first = work(&emulator, &ledger, 1).await?;
    let second = work(&emulator, &ledger, 2).await?;
    producer.await??;
    watcher.await?;

    let verdict = ledger.lock().verdict();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", report::table(&ledger.lock()))?;
    writeln!(stdout, "{}", report::last_line(&ledger.lock(), &verdict))?;
    Ok(verdict.is_clean() && first.abandoned == 0 && second.abandoned == 0)
}

/// Runs one worker: the first until half of the records are processed, the second until all are.
async fn work(
    emulator: &Emulator,
    ledger: &SharedLedger,
    number: u8,
) -> Result<ShutdownReport, BoxError> {
    let aws = emulator.sdk_config(&format!("worker-{number}"));
    let records = ledger.clone();
    let worker = Worker::builder("quickstart", STREAM, move |_shard| {
        Recorder::new(records.clone(), number)
    })
    .worker_name(format!("worker-{number}"))
    .build(&aws)?;
    let (handle, ledger) = (worker.handle(), ledger.clone());
    ledger.lock().start_clock();
    let stop = async move {
        if number == 1 {
            wait_for(ledger, load::USER_RECORDS / 2).await;
        } else {
            wait_for(ledger, load::USER_RECORDS).await;
            // Whatever comes beyond the expected number is to be seen as well.
            let _timed_out = tokio::time::timeout(PATIENCE, handle.caught_up()).await;
        }
    };
    Ok(worker.with_graceful_shutdown(stop).run().await?)
}

/// Waits until so many records are processed, or until nothing has moved for too long.
async fn wait_for(ledger: SharedLedger, count: u64) {
    let mut last = (0, tokio::time::Instant::now());
    loop {
        let processed = ledger.lock().processed();
        if processed != last.0 {
            last = (processed, tokio::time::Instant::now());
        }
        if processed >= count || last.1.elapsed() >= PATIENCE {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn show_progress(ledger: SharedLedger) {
    let mut progress = Progress::of("processed", load::USER_RECORDS);
    let all = wait_for(ledger.clone(), load::USER_RECORDS);
    tokio::pin!(all);
    loop {
        tokio::select! {
            () = &mut all => break,
            () = tokio::time::sleep(LOOK) => progress.at(ledger.lock().processed()),
        }
    }
    progress.end();
}
