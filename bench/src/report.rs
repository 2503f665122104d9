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
        let Measure { target, what, floor, processors, .. } = measure;
        let floor = floor.as_ref().map(|floor| format!("{target} {what}: beside {}", floor.what));
        let processors = processors
            .as_ref()
            .map(|processors| format!("{target} {what}: processors in use: {processors}"));
        [floor, processors]
    };
    measures.iter().flat_map(of).flatten().collect()
}

fn describe(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(least) => format!("≥ {least}"),
        Bound::AtMost(most) => format!("≤ {most}"),
    }
}
