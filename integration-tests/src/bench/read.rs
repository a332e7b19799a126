//! What reading costs: this library's loop beside the official SDK's and beside HTTP alone, and the framework beside the loop.

use kcl_core::{Runtime, Wire};

use super::case::Case;
use super::child::{Consumer, Job};
use super::consumer::Way;
use super::error::BenchError;
use super::meter::Sample;
use super::null_server::NullServer;
use super::options::ReadOptions;
use super::result::{Cost, Measured, Speed, medians};

const WIRES: [Wire; 2] = [Wire::Json, Wire::Cbor];

/// Shards of the worker that is measured. Each is read five times a second, which is the service's limit and the
/// framework's; so many keep it busy.
const FRAMEWORK_SHARDS: u32 = 64;

/// The framework rests most of the time, so that it needs more of it.
const FRAMEWORK_STRETCHES: u32 = 3;

/// Measures everything that the options ask for.
///
/// # Errors
/// If a consumer cannot be started, or cannot go on.
pub(super) async fn measure(options: &ReadOptions) -> Result<Measured, BenchError> {
    let runtime = Runtime::production();
    let mut measured = Measured::default();
    for case in super::options::cases(&options.case) {
        for shards in &options.shards {
            let speeds = loops(&runtime, options, case, *shards).await?;
            measured.speeds.extend(speeds);
        }
        if !options.no_framework {
            for wire in WIRES {
                let cost = framework(&runtime, options, case, wire).await?;
                measured.costs.push(cost);
            }
        }
    }
    Ok(measured)
}

/// All loops in turn, so that what disturbs one disturbs all.
async fn loops(
    runtime: &Runtime,
    options: &ReadOptions,
    case: Case,
    shards: u32,
) -> Result<Vec<Speed>, BenchError> {
    let server = NullServer::start(runtime, case, shards).await?;
    let mut consumers = Vec::new();
    let ours = WIRES.map(|wire| (Way::Source, wire));
    let raw = WIRES.map(|wire| (Way::Raw, wire));
    let fan_out = WIRES.map(|wire| (Way::FanOut, wire));
    for (way, wire) in [(Way::Official, Wire::Json)]
        .into_iter()
        .chain(ours)
        .chain(raw)
        .chain([(Way::OfficialFanOut, Wire::Json)])
        .chain(fan_out)
    {
        let job = Job {
            way,
            wire,
            case,
            shards,
            limit: case.limit(),
        };
        consumers.push(Consumer::start(job, &server.endpoint()).await?);
    }
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); consumers.len()];
    for _ in 0..options.pairs {
        for (consumer, samples) in consumers.iter_mut().zip(&mut samples) {
            samples.push(consumer.run(options.stretch).await?);
        }
    }
    let jobs = consumers.iter().map(|consumer| consumer.job);
    let all: Vec<(Job, Vec<Sample>)> = jobs.zip(samples).collect();
    Ok(Speed::of_all(&all))
}

/// A worker and a bare loop with the same client, decoder, pauses and size of answers, in turn.
async fn framework(
    runtime: &Runtime,
    options: &ReadOptions,
    case: Case,
    wire: Wire,
) -> Result<Cost, BenchError> {
    let server = NullServer::start(runtime, case, FRAMEWORK_SHARDS).await?;
    let job = Job {
        way: Way::Framework,
        wire,
        case,
        shards: FRAMEWORK_SHARDS,
        limit: case.limit(),
    };
    let stretch = options.stretch * FRAMEWORK_STRETCHES;
    let mut worker = Consumer::start(job, &server.endpoint()).await?;
    // The first answers are small, until the worker knows how large records are.
    worker.run(stretch).await?;
    server.records_per_answer();
    worker.run(stretch).await?;
    let limit = server.records_per_answer();
    let job = Job {
        way: Way::SourcePaced,
        limit,
        ..job
    };
    let mut bare = Consumer::start(job, &server.endpoint()).await?;
    let mut pairs = Vec::new();
    for _ in 0..options.pairs {
        pairs.push((worker.run(stretch).await?, bare.run(stretch).await?));
    }
    Ok(Cost {
        case,
        wire,
        limit,
        worker: medians(pairs.iter().map(|(worker, _)| worker)),
        bare: medians(pairs.iter().map(|(_, bare)| bare)),
        ratio: super::result::median(
            pairs
                .iter()
                .map(|(worker, bare)| bare.records_per_second() / worker.records_per_second()),
        ),
    })
}
