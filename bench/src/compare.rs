//! Two runs, kept as JSON: what became slower beyond the noise of both.

use std::process::ExitCode;

use crate::measure::{Measure, Results, Spread};
use crate::report;

/// A change of less than this much is none, however quiet the machine was.
const SMALLEST_CHANGE: f64 = 0.05;

/// Prints what both have, and fails where something became slower.
///
/// Ratios to the floor are compared where there is a floor, so that a machine that was busier counts
/// less. Worse is what lies beyond the noise: the rounds of the one and of the other do not overlap, and
/// the medians are further apart than [`SMALLEST_CHANGE`].
pub fn compare(before: &Results, after: &Results) -> ExitCode {
    println!("before: {}\nafter:  {}", before.machine, after.machine);
    let mut table = report::titled(&["", "what", "unit", "before", "after", "change", ""]);
    let mut worse = 0;
    for new in &after.measures {
        let Some(old) = before.measures.iter().find(|old| is_same(old, new)) else { continue };
        let (old_spread, new_spread) = (spread(old), spread(new));
        let verdict = verdict(old_spread, new_spread, new.more_is_better);
        worse += u32::from(verdict == "worse");
        let unit = if new.floor.is_some() { "of the floor" } else { &new.unit };
        table.add_row([
            new.target.clone(),
            new.what.clone(),
            unit.to_owned(),
            old_spread.to_string(),
            new_spread.to_string(),
            format!("{:+.0} %", (new_spread.median / old_spread.median - 1.0) * 100.0),
            verdict.to_owned(),
        ]);
    }
    println!("{table}");
    if worse > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn is_same(old: &Measure, new: &Measure) -> bool {
    old.target == new.target && old.what == new.what && old.floor.is_some() == new.floor.is_some()
}

fn spread(measure: &Measure) -> Spread {
    measure.ratio().unwrap_or_else(|| Spread::of(measure.measured.iter().copied()))
}

fn verdict(old: Spread, new: Spread, more_is_better: bool) -> &'static str {
    let change = new.median / old.median - 1.0;
    let overlap = new.lowest <= old.highest && old.lowest <= new.highest;
    if overlap || change.abs() < SMALLEST_CHANGE {
        "same"
    } else if (change > 0.0) == more_is_better {
        "better"
    } else {
        "worse"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: [f64; 3]) -> Spread {
        Spread::of(numbers)
    }

    #[test]
    fn rounds_that_overlap_are_noise() {
        assert_eq!(verdict(of([1.0, 2.0, 3.0]), of([2.9, 4.0, 5.0]), true), "same");
    }

    #[test]
    fn what_is_worse_depends_on_what_is_measured() {
        let (low, high) = (of([1.0, 1.1, 1.2]), of([2.0, 2.1, 2.2]));
        assert_eq!(verdict(low, high, true), "better");
        assert_eq!(verdict(low, high, false), "worse");
        assert_eq!(verdict(high, low, true), "worse");
        assert_eq!(verdict(high, low, false), "better");
    }

    #[test]
    fn a_small_change_is_none_on_a_quiet_machine() {
        assert_eq!(verdict(of([1.0, 1.0, 1.0]), of([1.04, 1.04, 1.04]), false), "same");
    }
}
