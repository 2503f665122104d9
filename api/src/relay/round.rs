//! A round: some slices of the log are published, and the cursor moves over what the broker confirmed of them.

use chrono::{DateTime, Utc};
use events::slice::{SLICE_MAX_EVENTS, Slice, SliceError};
use events::store::hops::RelayHop;
use events::store::{outbox, read};
use events::trace::{BatchSpan, SpanKind, attribute};
use events::{Clock, Mark, amqp};
use metrics::{counter, gauge, histogram};
use tokio::time::Instant;

use super::publisher::{Published, Publisher};
use super::{LEASE, LEASE_CHECK, RELAY_BATCH_MAX, Relay, RelayError};
use crate::metrics::{
    RELAY_CONFIRM, RELAY_CONFIRMED_SLICES, RELAY_POSITION, RELAY_PUBLISHED_EVENTS,
};

impl Relay {
    /// Publishes what is next after `cursor`, for a probe one slice of it, and moves it over what was confirmed.
    pub(super) async fn publish_once(
        &self,
        publisher: &Publisher,
        fence: i64,
        cursor: &mut Mark,
        is_probe: bool,
    ) -> Result<Published, RelayError> {
        let limit = if is_probe { SLICE_MAX_EVENTS } else { RELAY_BATCH_MAX };
        let events = read::after(&self.log, cursor.position, limit).await?;
        let Some(first) = events.first() else { return Ok(Published::All(0)) };
        if first.position != cursor.position.next() {
            let hole = SliceError::Hole { after: cursor.position, found: first.position };
            return Err(hole.into());
        }
        let mut slices = Slice::cut(events)?;
        if is_probe {
            slices.truncate(1);
        }
        let (began, published_at) = (Instant::now(), Clock::system().now());
        let published = self.publish_as_leader(publisher, fence, *cursor, &slices).await?;
        histogram!(RELAY_CONFIRM.name).record(began.elapsed());
        let confirmed_at = Clock::system().now();
        let confirmed = published.count();
        if confirmed > 0 {
            let moved_to = slices[confirmed - 1].mark();
            outbox::move_cursor(&self.log, fence, moved_to, LEASE).await?;
            let moved_by = (moved_to.position.0 - cursor.position.0).unsigned_abs();
            counter!(RELAY_PUBLISHED_EVENTS.name).increment(moved_by);
            counter!(RELAY_CONFIRMED_SLICES.name).increment(confirmed as u64);
            gauge!(RELAY_POSITION.name).set(moved_to.position.0 as f64);
            self.hops.record(RelayHop {
                first: cursor.position.next(),
                last: moved_to.position,
                published_at,
                confirmed_at,
            });
            add_to_traces(&slices[..confirmed], published_at, confirmed_at);
            *cursor = moved_to;
        }
        Ok(published)
    }

    /// Publishes `slices`, and keeps the lease for as long as the broker takes to confirm them.
    async fn publish_as_leader(
        &self,
        publisher: &Publisher,
        fence: i64,
        cursor: Mark,
        slices: &[Slice],
    ) -> Result<Published, RelayError> {
        let publishing = publisher.publish(slices);
        tokio::pin!(publishing);
        loop {
            tokio::select! {
                published = &mut publishing => return Ok(published?),
                () = tokio::time::sleep(LEASE_CHECK) => {
                    publisher.show_blocked();
                    outbox::move_cursor(&self.log, fence, cursor, LEASE).await?;
                }
            }
        }
    }
}

/// Adds the publishing of `slices` to the traces of their events.
fn add_to_traces(slices: &[Slice], began: DateTime<Utc>, ended: DateTime<Utc>) {
    let attributes = vec![
        attribute("messaging.system", "rabbitmq"),
        attribute("messaging.operation.name", "publish"),
        attribute("messaging.destination.name", amqp::EXCHANGE),
    ];
    let span = BatchSpan {
        kind: SpanKind::Producer,
        name: "publish".to_owned(),
        began,
        ended,
        attributes,
    };
    span.add_to_traces_of(slices.iter().flat_map(Slice::events));
}
