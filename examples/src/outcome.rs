//! How a program ends.

use std::fmt::Display;
use std::process::ExitCode;

use crate::progress::say;

/// The exit code for what became of `program`: success only if it did what it should. An error is shown.
#[must_use]
pub fn exit_code(program: &str, outcome: Result<bool, impl Display>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{program}: {error}"));
            ExitCode::FAILURE
        }
    }
}
