//! What was measured, as a table.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::measure::{Bound, Measure, Spread};

/// A line for each measure: the median of the rounds, and the lowest and highest.
pub fn table(measures: &[Measure]) -> Table {
    let header = ["", "what", "unit", "measured", "floor", "ratio", "target", ""];
    let mut table = titled(&header);
    for measure in measures {
        let floor = measure.floor.as_ref();
        let holds = measure.holds().map_or("", |holds| if holds { "holds" } else { "missed" });
        table.add_row([
            measure.target.clone(),
            measure.what.clone(),
            measure.unit.clone(),
            Spread::of(measure.measured.iter().copied()).to_string(),
            floor.map_or_else(String::new, |floor| Spread::of(floor.values.clone()).to_string()),
            measure.ratio().map_or_else(String::new, |ratio| ratio.to_string()),
            measure.bound.map_or_else(String::new, describe),
            holds.to_owned(),
        ]);
    }
    table
}

/// The same in Markdown, for a document: targets only, as medians.
pub fn markdown(measures: &[Measure]) -> String {
    let mut lines = vec![
        "| | what | measured | floor | ratio (lowest to highest) | target | |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for measure in measures.iter().filter(|measure| measure.bound.is_some()) {
        let Measure { target, what, unit, measured, floor, .. } = measure;
        let median = |values: &[f64]| rounded(Spread::of(values.iter().copied()).median);
        let floor = floor.as_ref().map_or_else(String::new, |floor| median(&floor.values));
        let ratio = measure.ratio().map_or_else(String::new, |ratio| ratio.to_string());
        let bound = measure.bound.map_or_else(String::new, describe);
        let holds = if measure.holds() == Some(true) { "holds" } else { "missed" };
        let measured = median(measured);
        lines.push(format!(
            "| {target} | {what} | {measured} {unit} | {floor} | {ratio} | {bound} | {holds} |"
        ));
    }
    lines.join("\n")
}

/// Three digits, or all before the point.
fn rounded(number: f64) -> String {
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$}")
}

/// An empty table.
pub fn titled(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header);
    for column in 3..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// What each floor is, and what used the processors while the product was measured: a line each.
pub fn notes(measures: &[Measure]) -> Vec<String> {
    let of = |measure: &Measure| {
        let Measure { target, what, floor, processors, measured, along, .. } = measure;
        let floor = floor.as_ref().map(|floor| format!("{target} {what}: beside {}", floor.what));
        let processors = processors
            .as_ref()
            .map(|processors| format!("{target} {what}: processors in use: {processors}"));
        let curve = along.as_ref().zip(measure.exponent()).map(|(along, exponent)| {
            let points = along.at.iter().zip(measured);
            let points = points.map(|(at, value)| format!("{} at {at}", rounded(*value)));
            let points = points.collect::<Vec<_>>().join(", ");
            format!("{what}: {points} {}: exponent {exponent:.2}", along.what)
        });
        [floor, processors, curve]
    };
    measures.iter().flat_map(of).flatten().collect()
}

fn describe(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(least) => format!("≥ {least}"),
        Bound::AtMost(most) => format!("≤ {most}"),
    }
}
