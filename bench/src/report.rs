//! What was measured, as a table: the median of the rounds, their spread, the ratio.

use std::fmt;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::load::Outcome;

/// See the module.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<[String; 5]>,
}

impl Report {
    /// Adds the outcomes of one phase, those before and those after.
    pub fn add(&mut self, phase: &str, outcomes: &[Vec<Outcome>; 2]) {
        self.add_measure(phase, "per second", outcomes, |outcome| outcome.per_second);
        self.add_measure(phase, "p50, ms", outcomes, |outcome| milliseconds(outcome, 0.5));
        self.add_measure(phase, "p99, ms", outcomes, |outcome| milliseconds(outcome, 0.99));
    }

    fn add_measure(
        &mut self,
        phase: &str,
        name: &str,
        outcomes: &[Vec<Outcome>; 2],
        measure: impl Fn(&Outcome) -> f64,
    ) {
        let [before, after] =
            outcomes.each_ref().map(|outcomes| Spread::of(outcomes.iter().map(&measure)));
        let ratio = format!("{:.2}", after.median / before.median);
        let (before, after) = (before.to_string(), after.to_string());
        self.rows.push([phase.to_owned(), name.to_owned(), before, after, ratio]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["", "", "before", "after", "after ÷ before"]);
        for row in &self.rows {
            table.add_row(row);
        }
        for column in 2..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{table}")
    }
}

/// The median of some numbers, and the lowest and highest.
struct Spread {
    lowest: f64,
    median: f64,
    highest: f64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.sort_by(f64::total_cmp);
        let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
        let count = numbers.len();
        Self { lowest: at(0), median: at(count / 2), highest: at(count.saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lowest, median, highest } = self;
        let digits = if *median < 100.0 { 2 } else { 0 };
        write!(f, "{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
    }
}

fn milliseconds(outcome: &Outcome, quantile: f64) -> f64 {
    outcome.latencies.value_at_quantile(quantile) as f64 / 1_000.0
}
