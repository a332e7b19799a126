//! Figures, their bounds, and how both are shown.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// One measured figure and its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    name: String,
    unit: &'static str,
    /// Infinite: it never came.
    value: f64,
    bound: Bound,
}

impl Figure {
    fn holds(&self) -> bool {
        match self.bound {
            Bound::None => true,
            Bound::AtMost(limit) => self.value <= limit,
            Bound::AtLeast(limit) => self.value >= limit,
        }
    }

    fn value_text(&self) -> String {
        match self.unit {
            "" => number(self.value),
            unit => format!("{} {unit}", number(self.value)),
        }
    }

    fn bound_text(&self) -> String {
        match self.bound {
            Bound::None => String::new(),
            Bound::AtMost(limit) => format!("at most {}", number(limit)),
            Bound::AtLeast(limit) => format!("at least {}", number(limit)),
        }
    }

    fn to_json(&self) -> Value {
        match self.bound {
            Bound::None => json!({ "value": finite(self.value), "unit": self.unit }),
            Bound::AtMost(limit) => {
                json!({ "value": finite(self.value), "unit": self.unit, "at_most": limit, "holds": self.holds() })
            }
            Bound::AtLeast(limit) => {
                json!({ "value": finite(self.value), "unit": self.unit, "at_least": limit, "holds": self.holds() })
            }
        }
    }
}

/// The figures of one scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    scenario: String,
    figures: Vec<Figure>,
}

impl Report {
    pub(super) fn new(scenario: impl Into<String>) -> Self {
        Self {
            scenario: scenario.into(),
            figures: Vec::new(),
        }
    }

    fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64, bound: Bound) {
        self.figures.push(Figure {
            name: name.into(),
            unit,
            value,
            bound,
        });
    }

    /// A figure that is only told.
    pub(super) fn tell(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        self.add(name, unit, value, Bound::None);
    }

    pub(super) fn at_most(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        limit: f64,
    ) {
        self.add(name, unit, value, Bound::AtMost(limit));
    }

    /// A time; none if what it ends with never came.
    pub(super) fn time_at_most(
        &mut self,
        name: impl Into<String>,
        time: Option<Duration>,
        limit: Duration,
    ) {
        let seconds = time.map_or(f64::INFINITY, |time| time.as_secs_f64());
        self.add(name, "s", seconds, Bound::AtMost(limit.as_secs_f64()));
    }

    pub(super) fn tell_time(&mut self, name: impl Into<String>, time: Option<Duration>) {
        let seconds = time.map_or(f64::INFINITY, |time| time.as_secs_f64());
        self.tell(name, "s", seconds);
    }

    pub(super) fn count_at_most(&mut self, name: impl Into<String>, count: usize, limit: usize) {
        self.add(name, "", count_of(count), Bound::AtMost(count_of(limit)));
    }

    /// Without so many of these the scenario shows nothing.
    pub(super) fn count_at_least(&mut self, name: impl Into<String>, count: usize, limit: usize) {
        self.add(name, "", count_of(count), Bound::AtLeast(count_of(limit)));
    }

    pub(super) fn tell_count(&mut self, name: impl Into<String>, count: usize) {
        self.tell(name, "", count_of(count));
    }

    /// The bounds that are broken, in words.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let broken = self.figures.iter().filter(|figure| !figure.holds());
        broken
            .map(|figure| {
                let (name, value) = (&figure.name, figure.value_text());
                format!(
                    "{}: {name} is {value}, {}",
                    self.scenario,
                    figure.bound_text()
                )
            })
            .collect()
    }
}

/// All figures as one table.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["scenario", "figure", "measured", "bound", ""]);
    for report in reports {
        for figure in &report.figures {
            let verdict = match (figure.bound, figure.holds()) {
                (Bound::None, _) => "",
                (_, true) => "holds",
                (_, false) => "BROKEN",
            };
            table.add_row([
                report.scenario.clone(),
                figure.name.clone(),
                figure.value_text(),
                figure.bound_text(),
                verdict.to_owned(),
            ]);
        }
    }
    table.to_string()
}

/// All figures as one line of JSON.
#[must_use]
pub fn json_line(reports: &[Report]) -> String {
    let broken: Vec<String> = reports.iter().flat_map(Report::broken).collect();
    let scenarios: Map<String, Value> = reports
        .iter()
        .map(|report| {
            let figures = report.figures.iter();
            let figures: Map<String, Value> = figures
                .map(|figure| (figure.name.clone(), figure.to_json()))
                .collect();
            (report.scenario.clone(), Value::Object(figures))
        })
        .collect();
    json!({ "ok": broken.is_empty(), "broken": broken, "scenarios": scenarios }).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn count_of(count: usize) -> f64 {
    count as f64
}

fn finite(value: f64) -> Value {
    // JSON has no infinity.
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn number(value: f64) -> String {
    if value.is_infinite() {
        "never".to_owned()
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_bound_can_break() {
        let mut report = Report::new("failover");
        report.count_at_most("missing", 0, 0);
        report.count_at_least("taken over", 1, 1);
        report.time_at_most(
            "takeover",
            Some(Duration::from_secs(13)),
            Duration::from_secs(13),
        );
        report.tell_time("nothing", None);
        assert_eq!(report.broken(), [""; 0]);
        report.count_at_most("duplicates", 2, 0);
        report.count_at_least("moves", 0, 1);
        report.time_at_most(
            "pause",
            Some(Duration::from_millis(1500)),
            Duration::from_secs(1),
        );
        report.time_at_most("resumed", None, Duration::from_secs(1));
        assert_eq!(
            report.broken(),
            [
                "failover: duplicates is 2, at most 0",
                "failover: moves is 0, at least 1",
                "failover: pause is 1.500 s, at most 1",
                "failover: resumed is never s, at most 1",
            ]
        );
        let line: Value = serde_json::from_str(&json_line(&[report.clone()])).unwrap();
        assert_eq!(line["ok"], false);
        assert_eq!(
            line["scenarios"]["failover"]["resumed"]["value"],
            Value::Null
        );
        assert_eq!(line["scenarios"]["failover"]["missing"]["holds"], true);
        assert!(table(&[report]).contains("BROKEN"));
    }
}
