//! Runs the simulation over many seeds and reports what it found.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use integration_tests::simulation::cli::{self, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    match cli::main(&options, &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _told = writeln!(std::io::stderr(), "simulate: {error}");
            ExitCode::from(2)
        }
    }
}
