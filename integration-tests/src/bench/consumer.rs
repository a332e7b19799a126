//! A process that consumes in one way, in the stretches of time that it is told.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kcl_core::{Runtime, Wire};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::error::BenchError;
use super::gate::Gate;
use super::loops::{fan_out, framework, official, official_fan_out, pace::Pace, raw, source};
use super::meter::{CountAllocations, Reading, Tally};

/// The first argument of a consumer process.
pub const CONSUME: &str = "consume";

/// Before anything is measured: connections stand, buffers have their size.
const WARM_UP: Duration = Duration::from_millis(300);
/// What is under way when a stretch ends is counted, too.
const SETTLE: Duration = Duration::from_millis(40);
/// A worker has an answer and one more ahead of it when a stretch begins, and fetches as much until this after its end; the
/// largest answers are half a second apart.
const REFILL: Duration = Duration::from_millis(1_500);

/// What a consumer process is started with.
#[derive(Debug, Clone, Parser)]
pub struct ConsumerOptions {
    /// In which way.
    #[arg(long, value_enum)]
    pub(super) way: Way,
    /// Ask for CBOR.
    #[arg(long)]
    pub(super) cbor: bool,
    #[arg(long)]
    pub(super) endpoint: String,
    #[arg(long)]
    pub(super) shards: u32,
    /// Kinesis records in one answer.
    #[arg(long)]
    pub(super) limit: u16,
    /// User records in each of them.
    #[arg(long)]
    pub(super) users: usize,
}

/// A way to consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// A loop around the official SDK.
    Official,
    /// A loop around the source of this library: its client and decoder.
    Source,
    /// A loop around subscriptions of the official SDK.
    OfficialFanOut,
    /// A loop around subscriptions of this library.
    FanOut,
    /// As `source`, with the pauses that the service's limits ask for.
    SourcePaced,
    /// Answers over HTTP, not looked into.
    Raw,
    /// A worker of this library with a record processor.
    Framework,
}

impl Way {
    /// The official SDK's loop that reads in the same way.
    pub(super) fn official(self) -> Self {
        match self {
            Self::OfficialFanOut | Self::FanOut => Self::OfficialFanOut,
            Self::Official | Self::Source | Self::SourcePaced | Self::Raw | Self::Framework => {
                Self::Official
            }
        }
    }
}

impl ConsumerOptions {
    pub(super) fn wire(&self) -> Wire {
        match self.cbor {
            true => Wire::Cbor,
            false => Wire::Json,
        }
    }

    pub(super) fn is_aggregated(&self) -> bool {
        self.users > 1
    }
}

/// What every loop is given.
#[derive(Debug, Clone)]
pub(super) struct Consumption {
    pub(super) options: Arc<ConsumerOptions>,
    pub(super) gate: Gate,
    pub(super) tally: Arc<Tally>,
    pub(super) runtime: Runtime,
}

/// Consumes until standard input ends. Each line of it is a number of milliseconds; after that time a line of JSON says
/// what was done.
///
/// # Errors
/// The first failure of a loop, or of standard input or output.
pub async fn consume(
    options: ConsumerOptions,
    allocations: CountAllocations,
) -> Result<(), BenchError> {
    let (keeper, gate) = Gate::new();
    let consumption = Consumption {
        options: Arc::new(options),
        gate,
        tally: Arc::new(Tally::default()),
        runtime: Runtime::production(),
    };
    let tally = Arc::clone(&consumption.tally);
    let settle = match consumption.options.way {
        Way::Framework => REFILL,
        Way::Official
        | Way::Source
        | Way::OfficialFanOut
        | Way::FanOut
        | Way::SourcePaced
        | Way::Raw => SETTLE,
    };
    let mut loops = start(&consumption);
    let answer_stretches = async {
        wait_for_first(&tally).await;
        sleep(WARM_UP).await;
        keeper.send_replace(false);
        say("ready")?;
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await.map_err(broken)? {
            let millis = line.parse().unwrap_or(0);
            sleep(SETTLE).await;
            let before = Reading::take(&tally, allocations);
            keeper.send_replace(true);
            sleep(Duration::from_millis(millis)).await;
            keeper.send_replace(false);
            sleep(settle).await;
            let sample = before.until(Reading::take(&tally, allocations));
            say(&serde_json::to_string(&sample).map_err(|error| broken(error.into()))?)?;
        }
        Ok(())
    };
    tokio::select! {
        answered = answer_stretches => answered,
        reason = &mut loops => Err(failure(&consumption, reason.unwrap_or_else(|error| error.to_string()))),
    }
}

/// Ends with the reason when a loop cannot go on.
fn start(consumption: &Consumption) -> AbortOnDropHandle<String> {
    let (runtime, given) = (consumption.runtime.clone(), consumption.clone());
    runtime.spawn(async move {
        let shards = usize::try_from(given.options.shards).unwrap_or(usize::MAX);
        let ended = match given.options.way {
            Way::Official => official::run(&given, shards).await,
            Way::Source => source::run(&given, shards, Pace::None).await,
            Way::OfficialFanOut => official_fan_out::run(&given, shards).await,
            Way::FanOut => fan_out::run(&given, shards).await,
            Way::SourcePaced => source::run(&given, shards, Pace::OfTheService).await,
            Way::Raw => raw::run(&given, shards).await,
            Way::Framework => framework::run(&given).await,
        };
        ended.err().map_or_else(
            || "it ended by itself".to_owned(),
            |error| error.to_string(),
        )
    })
}

async fn wait_for_first(tally: &Tally) {
    while tally.answers() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

fn failure(consumption: &Consumption, reason: String) -> BenchError {
    BenchError::Consumer {
        consumer: format!("{:?}", consumption.options.way),
        reason,
    }
}

fn broken(error: std::io::Error) -> BenchError {
    BenchError::system("the harness cannot be heard", error)
}

pub(super) fn say(line: &str) -> Result<(), BenchError> {
    let mut stdout = std::io::stdout();
    let said = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    said.map_err(|error| BenchError::system("the harness does not listen", error))
}
