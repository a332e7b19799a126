//! Logs of the example programs: to standard error, because standard output belongs to what they are for.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging as RUST_LOG says (`info,kcl_core=debug`), else by this filter.
pub fn start(default: &str) {
    let chosen = std::env::var("RUST_LOG").ok();
    let chosen = chosen.and_then(|text| text.parse::<Targets>().ok());
    let output = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(output)
        .with(chosen.unwrap_or_else(|| default.parse().unwrap_or_default()))
        .init();
}
