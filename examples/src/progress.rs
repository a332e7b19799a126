//! Progress on stderr: a bar for people, plain lines for logs.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// Shows how far something is. On a terminal it draws a bar, elsewhere it writes a line every few seconds.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Counts up to `total`.
    #[must_use]
    pub fn of(what: &'static str, total: u64) -> Self {
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} ({elapsed})");
        Self::new(what, Some(total), ProgressBar::new(total), style)
    }

    /// Counts without knowing the end.
    #[must_use]
    pub fn counting(what: &'static str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} {pos} ({per_sec}, {elapsed})");
        Self::new(what, None, ProgressBar::new_spinner(), style)
    }

    fn new(
        what: &'static str,
        total: Option<u64>,
        bar: ProgressBar,
        style: Result<ProgressStyle, indicatif::style::TemplateError>,
    ) -> Self {
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what);
        let bar = std::io::stderr().is_terminal().then_some(bar);
        Self {
            what,
            total,
            bar,
            last_line: Instant::now(),
        }
    }

    /// Shows a new state.
    pub fn at(&mut self, count: u64) {
        match (&self.bar, self.total) {
            (Some(bar), _) => bar.set_position(count),
            (None, _) if self.last_line.elapsed() < BETWEEN_LINES => {}
            (None, Some(total)) => self.line(&format!("{}: {count} of {total}", self.what)),
            (None, None) => self.line(&format!("{}: {count}", self.what)),
        }
    }

    /// Removes the bar.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) {
        self.last_line = Instant::now();
        say(text);
    }
}

/// Writes one line to stderr.
pub fn say(text: &str) {
    // With stderr closed there is nobody to tell.
    let _closed = writeln!(std::io::stderr(), "{text}");
}
