//! What is the same for each transaction that applies events: that they follow on what was applied before, and what is told
//! of it to metrics and traces.

use std::time::Instant;

use chrono::{DateTime, Utc};
use events::trace::{BatchSpan, SpanKind, attribute};
use events::{Clock, Mark, Position, ProjectionName, RecordedEvent};
use metrics::{counter, histogram};

use super::ApplyError;
use crate::metrics::{APPLIED_EVENTS, APPLY, EVENT_AGE};

/// The last of `events`; `None` when there are none.
pub(crate) fn run_after(
    checkpoint: Position,
    events: &[RecordedEvent],
) -> Result<Option<Mark>, ApplyError> {
    let mut last = checkpoint;
    for event in events {
        if event.position != last.next() {
            return Err(ApplyError::Hole { after: last, found: event.position });
        }
        last = event.position;
    }
    Ok(events.last().map(Mark::from))
}

/// Measures that `events` were applied to `projection` by a transaction that `began`.
pub(crate) fn measure_applied(
    projection: ProjectionName,
    events: &[RecordedEvent],
    began: Instant,
) {
    counter!(APPLIED_EVENTS.name, "projection" => projection.name()).increment(events.len() as u64);
    histogram!(APPLY.name, "projection" => projection.name()).record(began.elapsed());
    if let Some(oldest) = events.first() {
        let age = (Clock::system().now() - oldest.recorded_at).as_seconds_f64();
        histogram!(EVENT_AGE.name, "projection" => projection.name()).record(age.max(0.0));
    }
}

/// Adds to the traces of `events` that they were applied to `projection` just now.
pub(crate) fn add_to_traces(
    projection: ProjectionName,
    events: &[RecordedEvent],
    received_at: DateTime<Utc>,
) {
    let attributes = vec![
        attribute("rookery.projection", projection.name()),
        attribute("rookery.transaction.events", events.len().cast_signed() as i64),
    ];
    let (kind, ended) = (SpanKind::Consumer, Clock::system().now());
    let name = format!("apply {}", projection.name());
    let span = BatchSpan { kind, name, began: received_at, ended, attributes };
    span.add_to_traces_of(events);
}
