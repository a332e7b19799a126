//! Logs of the example programs: to standard error, because standard output belongs to what they are for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging as RUST_LOG says, else by this filter.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
