//! Curves of a run as pictures.

use std::path::Path;

use anyhow::{Context, ensure};
use plotters::prelude::*;

use crate::measure::{Along, Measure};

const SIZE: (u32, u32) = (900, 560);

/// Draws what was measured along something, each curve relative to its first point, on logarithmic
/// scales: what does not grow is level, what grows as much as its cause rises by the diagonal.
pub fn plot(measures: &[Measure], path: &Path) -> anyhow::Result<()> {
    let curves: Vec<_> = measures.iter().filter_map(Curve::of).collect();
    let first = curves.first().context("nothing in this run was measured along something")?;
    let along = &first.along.what;
    ensure!(curves.iter().all(|curve| curve.along.what == *along), "more than one axis");
    let (least, most) = first.ends();
    let values = || curves.iter().flat_map(|curve| curve.points().map(|(_, y)| y));
    let (low, high) = (values().fold(0.5, f64::min), values().fold(2.0, f64::max));

    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("cost, relative to the smallest", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((least..most).log_scale(), (low..high).log_scale())?;
    chart.configure_mesh().x_desc(along).y_desc("times as much").draw()?;
    for (number, curve) in curves.iter().enumerate() {
        let colour = Palette99::pick(number).mix(1.0);
        let line = LineSeries::new(curve.points(), colour.stroke_width(2)).point_size(4);
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
        chart.draw_series(line)?.label(curve.label()).legend(legend);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present().with_context(|| path.display().to_string())
}

struct Curve<'a> {
    measure: &'a Measure,
    along: &'a Along,
}

impl<'a> Curve<'a> {
    fn of(measure: &'a Measure) -> Option<Self> {
        Some(Self { measure, along: measure.along.as_ref()? })
    }

    /// From its first to its last.
    fn ends(&self) -> (f64, f64) {
        let at = &self.along.at;
        (at.first().copied().unwrap_or(1.0), at.last().copied().unwrap_or(1.0))
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let first = self.measure.measured.first().copied().unwrap_or(f64::NAN);
        let values = self.measure.measured.iter().map(move |value| value / first);
        self.along.at.iter().copied().zip(values)
    }

    fn label(&self) -> String {
        let exponent = self.measure.exponent().unwrap_or(f64::NAN);
        format!("{} (exponent {exponent:.2})", self.measure.what)
    }
}
