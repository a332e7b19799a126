//! How the workers of simulations and scenarios read the stream, as an option of a command line.

use clap::ValueEnum;
use kcl_core::Retrieval;

/// How workers read the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Reading {
    /// With `GetRecords`.
    #[default]
    Polling,
    /// By enhanced fan-out and nothing else.
    FanOut,
    /// By enhanced fan-out where it is to be had, else by polling.
    Auto,
}

impl Reading {
    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::FanOut => "fan-out",
            Self::Auto => "auto",
        }
    }

    /// Whether workers subscribe, or try to.
    #[must_use]
    pub fn subscribes(self) -> bool {
        self != Self::Polling
    }

    /// The worker's option.
    #[must_use]
    pub fn retrieval(self) -> Retrieval {
        match self {
            Self::Polling => Retrieval::polling(),
            Self::FanOut => Retrieval::fan_out().into(),
            Self::Auto => Retrieval::auto().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_command_line_takes() {
        for reading in Reading::value_variants() {
            assert_eq!(Reading::from_str(reading.name(), false), Ok(*reading));
        }
    }
}
