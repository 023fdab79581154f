//! The figures as people and programs read them: medians, beside the floor and the target.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::stats::median;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At most so many times the floor's.
    AtMostFloors(f64),
    /// At least this share of the floor's.
    AtLeastOfFloor(f64),
    /// Told, not judged.
    None,
}

/// One measured quantity.
#[derive(Debug)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    goal: Goal,
    samples: Vec<f64>,
    floor: Vec<f64>,
}

/// All figures of a run of the bench.
#[derive(Debug)]
pub(crate) struct Report {
    repeat: u32,
    figures: Vec<Figure>,
    /// Share of the machine that other processes used meanwhile, in percent.
    others: f64,
}

/// From here on the figures are doubtful.
const DISTURBED: f64 = 10.0;

impl Report {
    pub(crate) fn new(repeat: u32) -> Self {
        Self { repeat, figures: Vec::new(), others: 0.0 }
    }

    /// How much of the machine other processes used meanwhile, in percent.
    pub(crate) fn disturbed_by(&mut self, others: f64) {
        self.others = others;
    }

    /// One more sample of a figure.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, goal: Goal, sample: f64) {
        self.figure(name, unit, goal).samples.push(sample);
    }

    /// The floor's sample of the same.
    pub(crate) fn add_floor(&mut self, name: &str, unit: &'static str, goal: Goal, sample: f64) {
        self.figure(name, unit, goal).floor.push(sample);
    }

    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", self.json());
        } else {
            println!("{}", self.table());
        }
    }

    fn figure(&mut self, name: &str, unit: &'static str, goal: Goal) -> &mut Figure {
        let index = self.figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            let figure = Figure { name: name.to_owned(), unit, goal, samples: Vec::new(), floor: Vec::new() };
            self.figures.push(figure);
            self.figures.len() - 1
        });
        &mut self.figures[index]
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        json!({ "figures": figures, "others_percent": self.others, "repeat": self.repeat })
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["figure", "stakpak", "floor", "target", "", "samples"]);
        for figure in &self.figures {
            table.add_row(figure.cells());
        }
        for column in 1..=3 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let doubt = if self.others < DISTURBED { "" } else { ": measure again when it is quiet" };
        let others = format!("others used {} % of the machine meanwhile{doubt}", number(self.others));
        format!("{}\n\nmedians of {}; {others}", table.trim_fmt(), self.repeat)
    }
}

impl Figure {
    fn value(&self) -> f64 {
        median(&self.samples)
    }

    /// What the value is held against.
    fn limit(&self) -> Option<f64> {
        let floor = (!self.floor.is_empty()).then(|| median(&self.floor));
        match self.goal {
            Goal::AtMost(limit) | Goal::AtLeast(limit) => Some(limit),
            Goal::AtMostFloors(times) => floor.map(|floor| floor * times),
            Goal::AtLeastOfFloor(share) => floor.map(|floor| floor * share),
            Goal::None => None,
        }
    }

    fn met(&self) -> Option<bool> {
        let (value, limit) = (self.value(), self.limit()?);
        Some(match self.goal {
            Goal::AtLeast(_) | Goal::AtLeastOfFloor(_) => value >= limit,
            Goal::AtMost(_) | Goal::AtMostFloors(_) | Goal::None => value <= limit,
        })
    }

    fn target(&self) -> String {
        let Some(limit) = self.limit().map(number) else { return String::new() };
        match self.goal {
            Goal::AtMost(_) => format!("≤ {limit}"),
            Goal::AtLeast(_) => format!("≥ {limit}"),
            Goal::AtMostFloors(times) => format!("≤ {limit} ({times} × floor)"),
            Goal::AtLeastOfFloor(share) => format!("≥ {limit} ({} % of floor)", share * 100.0),
            Goal::None => String::new(),
        }
    }

    fn cells(&self) -> [String; 6] {
        let floor = if self.floor.is_empty() { String::new() } else { number(median(&self.floor)) };
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let samples: Vec<String> = self.samples.iter().copied().map(number).collect();
        let name = format!("{} ({})", self.name, self.unit);
        [name, number(self.value()), floor, self.target(), verdict.to_owned(), samples.join(" ")]
    }

    fn json(&self) -> Value {
        let floor = (!self.floor.is_empty()).then(|| median(&self.floor));
        json!({ "figure": self.name, "floor": floor, "floor_samples": self.floor, "limit": self.limit(), "met": self.met(),
            "samples": self.samples, "unit": self.unit, "value": self.value() })
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let mut report = Report::new(3);
        for (ours, floor) in [(1000.0, 2000.0), (900.0, 2100.0), (1100.0, 1990.0)] {
            report.add("runs", "1/s", Goal::AtLeastOfFloor(0.5), ours);
            report.add_floor("runs", "1/s", Goal::AtLeastOfFloor(0.5), floor);
        }
        report.add("accept p50", "ms", Goal::AtMostFloors(3.0), 1.234);
        report.add_floor("accept p50", "ms", Goal::AtMostFloors(3.0), 0.4);
        report.add("idle", "MB", Goal::AtMost(25.0), 13.37);
        report.add("replay", "events/s", Goal::AtLeast(200_000.0), 199_999.0);
        report.add("peak", "MB", Goal::None, 5.0);
        report.disturbed_by(12.5);
        report
    }

    #[test]
    fn the_table_tells_figures_targets_and_verdicts() {
        insta::assert_snapshot!(sample().table());
    }

    #[test]
    fn the_json_tells_the_same_with_every_sample() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&sample().json()).unwrap());
    }
}
