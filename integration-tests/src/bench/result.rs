//! What was measured, and the bounds on it.

use kcl_core::Wire;

use super::case::Case;
use super::child::Job;
use super::consumer::Way;
use super::meter::Sample;

/// A worker executes at most a tenth more instructions than a bare loop.
pub(super) const MOST_FRAMEWORK_COST: f64 = 1.10;
/// Processor time differs by more, from run to run as well: with many shards at once records wait for their processors in
/// colder memory.
const MOST_FRAMEWORK_TIME: f64 = 1.5;
/// In answers with 1,000 records of 100 bytes.
const MOST_ALLOCATIONS: f64 = 0.5;

/// All results of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub(super) speeds: Vec<Speed>,
    pub(super) costs: Vec<Cost>,
}

/// Medians over samples of the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Medians {
    pub(super) records_per_second: f64,
    pub(super) megabytes_per_second: f64,
    pub(super) allocations_per_record: f64,
    pub(super) peak_memory: u64,
}

/// How fast one loop was.
#[derive(Debug, Clone)]
pub(super) struct Speed {
    pub(super) job: Job,
    pub(super) medians: Medians,
    /// Records per second of processor time, against those of the official SDK's loop beside it that reads in the same way.
    pub(super) to_official: f64,
    /// The same, against HTTP alone in the same wire.
    pub(super) to_raw: f64,
}

impl Speed {
    /// Of loops that ran in turn.
    pub(super) fn of_all(all: &[(Job, Vec<Sample>)]) -> Vec<Self> {
        let beside = |way: Way, wire: Wire| {
            let found = all
                .iter()
                .find(|(job, _)| job.way == way && job.wire == wire);
            found.map_or(&[][..], |(_, samples)| samples)
        };
        let speed = |(job, samples): &(Job, Vec<Sample>)| Self {
            job: *job,
            medians: medians(samples),
            to_official: median(ratios(samples, beside(job.way.official(), Wire::Json))),
            to_raw: median(ratios(samples, beside(Way::Raw, job.wire))),
        };
        all.iter().map(speed).collect()
    }

    /// The least that it must be, against the official SDK's loop.
    pub(super) fn bound(&self) -> Option<f64> {
        match (self.job.way, self.job.wire, self.job.case) {
            (Way::Source | Way::FanOut, Wire::Json, Case::Bytes100) => Some(2.0),
            (Way::Source | Way::FanOut, Wire::Json, Case::Kilobyte) => Some(1.8),
            (Way::Source | Way::FanOut, Wire::Json, Case::Aggregated) => Some(1.7),
            (Way::Source | Way::FanOut, Wire::Cbor, Case::Bytes100 | Case::Kilobyte) => Some(3.5),
            (Way::Source | Way::FanOut, Wire::Cbor, Case::Aggregated) => Some(2.5),
            _ => None,
        }
    }

    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let name = self.job.name();
        if let Some(bound) = self.bound().filter(|bound| self.to_official < *bound) {
            let is = self.to_official;
            broken.push(format!(
                "{name}: {is:.2} times the official SDK's loop, at least {bound}"
            ));
        }
        let allocations = self.medians.allocations_per_record;
        let is_ours = matches!(self.job.way, Way::Source | Way::FanOut);
        let is_bound = is_ours && self.job.case == Case::Bytes100;
        if is_bound && allocations > MOST_ALLOCATIONS {
            broken.push(format!(
                "{name}: {allocations:.2} allocations per record, at most {MOST_ALLOCATIONS}"
            ));
        }
        broken
    }
}

/// What the framework takes beside a bare loop.
#[derive(Debug, Clone)]
pub(super) struct Cost {
    pub(super) case: Case,
    pub(super) wire: Wire,
    /// Kinesis records in an answer, as the worker asks for them.
    pub(super) limit: u16,
    pub(super) worker: Medians,
    pub(super) bare: Medians,
    /// Processor time per record, against the bare loop's.
    pub(super) ratio: f64,
}

impl Cost {
    fn broken(&self) -> Option<String> {
        (self.ratio > MOST_FRAMEWORK_TIME).then(|| {
            let (wire, case, ratio) = (self.wire, self.case.name(), self.ratio);
            format!("framework {wire:?} {case}: {ratio:.2} times the processor time of a bare loop, at most {MOST_FRAMEWORK_TIME}")
        })
    }
}

impl Measured {
    /// The bounds that do not hold.
    pub(super) fn broken(&self) -> Vec<String> {
        let speeds = self.speeds.iter().flat_map(Speed::broken);
        speeds
            .chain(self.costs.iter().filter_map(Cost::broken))
            .collect()
    }
}

pub(super) fn medians<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Medians {
    let samples: Vec<&Sample> = samples.into_iter().collect();
    let of = |value: fn(&Sample) -> f64| median(samples.iter().map(|sample| value(sample)));
    Medians {
        records_per_second: of(Sample::records_per_second),
        megabytes_per_second: of(Sample::megabytes_per_second),
        allocations_per_record: of(Sample::allocations_per_record),
        peak_memory: samples
            .iter()
            .map(|sample| sample.peak_memory)
            .max()
            .unwrap_or(0),
    }
}

fn ratios<'a>(ours: &'a [Sample], theirs: &'a [Sample]) -> impl Iterator<Item = f64> + 'a {
    let pairs = ours.iter().zip(theirs);
    pairs.map(|(ours, theirs)| ours.records_per_second() / theirs.records_per_second())
}

/// The middle one, or the mean of the two in the middle; not a number without any.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(f64::NAN);
    let lower = values.get(middle.wrapping_sub(1)).copied().unwrap_or(upper);
    match values.len() % 2 {
        0 => f64::midpoint(lower, upper),
        _ => upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([7.0]), 7.0);
        assert!(median([]).is_nan());
    }
}
