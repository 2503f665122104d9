//! What was measured, as it is kept and compared.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::usage::Processors;

/// A run of some targets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub settings: Settings,
    pub measures: Vec<Measure>,
}

/// How it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    pub rounds: u32,
    pub seconds: f64,
    pub users: u32,
    pub readers: u32,
    pub followers: u32,
    pub streams: u32,
    /// Tweets a second, where they come at a rate of their own.
    #[serde(default)]
    pub rate: u32,
    #[serde(default)]
    pub commands: u64,
    /// Of each cost that is a median, one after the other.
    #[serde(default)]
    pub looks: u32,
    pub seed: u64,
}

impl Settings {
    /// How long one turn takes.
    pub fn turn(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// One figure, of the product and of what it is compared with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measure {
    /// As in `T1`; of a figure without a target, empty.
    pub target: String,
    pub what: String,
    pub unit: String,
    /// One value a round, or for each point of [`Along`].
    pub measured: Vec<f64>,
    /// What else changed from one value to the next, if it was not only time.
    #[serde(default)]
    pub along: Option<Along>,
    pub floor: Option<Floor>,
    pub bound: Option<Bound>,
    /// While the product was measured.
    pub processors: Option<Processors>,
    /// Whether more is better. What got worse is told by it.
    pub more_is_better: bool,
}

/// What was made larger, and how much so for each value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Along {
    pub what: String,
    pub at: Vec<f64>,
}

/// What a measure is divided by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Floor {
    pub what: String,
    /// One value a round, measured in turn with the product.
    pub values: Vec<f64>,
}

/// What a ratio is held against, or, without a floor, the value itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    /// Whether `value` is within it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Measure {
    /// A figure for which more is better.
    pub fn rate(target: &str, what: impl Into<String>, unit: &str, measured: Vec<f64>) -> Self {
        let more_is_better = true;
        Self { more_is_better, ..Self::cost(target, what, unit, measured) }
    }

    /// A figure for which less is better.
    pub fn cost(target: &str, what: impl Into<String>, unit: &str, measured: Vec<f64>) -> Self {
        Self {
            target: target.to_owned(),
            what: what.into(),
            unit: unit.to_owned(),
            measured,
            along: None,
            floor: None,
            bound: None,
            processors: None,
            more_is_better: false,
        }
    }

    /// The same beside a floor.
    pub fn beside(self, what: &str, values: Vec<f64>) -> Self {
        Self { floor: Some(Floor { what: what.to_owned(), values }), ..self }
    }

    /// The same with what it is held against.
    pub fn bound(self, bound: Bound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// The same with the processors in use in each round.
    pub fn with(self, processors: &[Processors]) -> Self {
        Self { processors: Some(Processors::average(processors)), ..self }
    }

    /// The same with what was made larger from one value to the next.
    pub fn along(self, along: Along) -> Self {
        Self { along: Some(along), ..self }
    }

    /// By which power of it the cost grows with what was made larger: the slope of the least-squares
    /// line through the logarithms of both. 0 is level, 1 grows as much.
    pub fn exponent(&self) -> Option<f64> {
        let at = &self.along.as_ref()?.at;
        let points: Vec<_> = at.iter().zip(&self.measured).map(|(x, y)| (x.ln(), y.ln())).collect();
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        Some(covariance / variance)
    }

    /// Product ÷ floor, of each round.
    pub fn ratio(&self) -> Option<Spread> {
        let floor = self.floor.as_ref()?;
        let ratios = self.measured.iter().zip(&floor.values).map(|(value, floor)| value / floor);
        Some(Spread::of(ratios))
    }

    /// Whether it is within its bound, if it has one.
    pub fn holds(&self) -> Option<bool> {
        let value = self.ratio().unwrap_or_else(|| Spread::of(self.measured.iter().copied()));
        Some(self.bound?.holds(value.median))
    }
}

/// The median of some numbers, and the lowest and highest.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub lowest: f64,
    pub median: f64,
    pub highest: f64,
}

impl Spread {
    /// That of `numbers`; not a number where there are none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
        let last = numbers.len().saturating_sub(1);
        // Of an even count, the mean of the two in the middle.
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { lowest: at(0), median, highest: at(last) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lowest, median, highest } = self;
        let digits = if *median < 100.0 { 2 } else { 0 };
        write!(f, "{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponent_is_the_slope_of_the_logarithms() {
        let along = Along { what: "times".to_owned(), at: vec![1.0, 4.0, 16.0] };
        let exponent = |values| {
            let curve = Measure::cost("", "it", "ms", values).along(along.clone());
            curve.exponent().expect("there is something along which it was measured")
        };
        assert!((exponent(vec![3.0, 3.0, 3.0])).abs() < 1e-9);
        assert!((exponent(vec![3.0, 6.0, 12.0]) - 0.5).abs() < 1e-9);
        assert!((exponent(vec![1.0, 4.0, 16.0]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_median_is_in_the_middle_of_odd_and_even_counts() {
        let median = |numbers: &[f64]| Spread::of(numbers.iter().copied()).median;
        assert_eq!(median(&[3.0, 1.0, 2.0]).total_cmp(&2.0), std::cmp::Ordering::Equal);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).total_cmp(&2.5), std::cmp::Ordering::Equal);
        assert!(median(&[]).is_nan());
    }
}
