//! The outbox relay: publishes the log to RabbitMQ, in order, and remembers how far.
//!
//! Any number of relays may run; the one that holds the lease leads. Publishing is at least once:
//! the cursor moves after the broker has confirmed, so a crash in between repeats a slice, and the
//! projector knows by its positions that it has it.
//!
//! **Invariant**: the cursor moves only over the contiguous confirmed prefix, and only by the
//! relay with the latest fence.

mod publisher;
mod refusals;

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::amqp::{self, Broker, BrokerError, Queue};
use events::projection::{PROJECTIONS, ProjectionName};
use events::retry::{Failure, Retry};
use events::slice::{SLICE_MAX_EVENTS, Slice, SliceError};
use events::store::hops::{Recorder, RelayHop};
use events::store::outbox::{self, Lead, LeadError};
use events::store::read;
use events::store::{Connections, history};
use events::trace::{BatchSpan, SpanKind, attribute};
use events::{Clock, Mark, Position};
use metrics::{counter, gauge, histogram};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::{
    RELAY_BROKER_CONNECTED, RELAY_CONFIRM, RELAY_CONFIRMED_SLICES, RELAY_LEADING, RELAY_POSITION,
    RELAY_PUBLISHED_EVENTS, RELAY_REFUSED_ROUNDS, show_queues,
};
use publisher::{Published, Publisher};
use refusals::Refusals;

/// The most events read and published before the cursor moves: four slices, so that reading,
/// publishing and confirming each happen once for many events and memory stays small.
const RELAY_BATCH_MAX: usize = 1_024;

/// While events keep coming, a round begins at most so often: each costs the log, the broker and the projector
/// about the same, however many events it has. The first event after a pause goes out at once, a full batch too.
const ROUND_EVERY: Duration = Duration::from_millis(10);

/// How long a leader may be silent before another relay takes over.
const LEASE: Duration = Duration::from_secs(3);

/// How often an idle leader renews its lease, and a follower tries to take it.
const LEASE_CHECK: Duration = Duration::from_millis(500);

/// How long a session may take to come about, topology and all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the last round before the end may take.
const LAST_ROUND_TIMEOUT: Duration = Duration::from_secs(2);

/// What this process's relay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayState {
    /// No connection to the broker; commands are accepted all the same.
    Disconnected,
    /// The log cannot be read, or its server takes no writes.
    WithoutLog,
    /// Another relay leads.
    Standby,
    Leading,
}

/// What this process knows of its relay and the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayStatus {
    pub state: RelayState,
    /// The queues at the last look.
    pub queues: Queues,
}

/// What the broker says of the queues of each of [`PROJECTIONS`], in their order.
pub type Queues = [QueuesOf; PROJECTIONS.len()];

/// Of one projection; `None` when there is no connection, or no such queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueuesOf {
    pub queue: Option<Queue>,
    pub dead_letters: Option<Queue>,
}

impl RelayStatus {
    /// The queue of the home feeds.
    #[must_use]
    pub fn feed_queue(&self) -> Option<Queue> {
        let of = PROJECTIONS
            .iter()
            .zip(&self.queues)
            .find(|(projection, _)| **projection == ProjectionName::Feed);
        of.and_then(|(_, queues)| queues.queue)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Relay {
    log: Connections,
    broker: Broker,
    /// How this relay is called in the outbox and in the RabbitMQ UI.
    name: String,
    log_head: watch::Receiver<Position>,
    status: watch::Sender<RelayStatus>,
    hops: Recorder<RelayHop>,
}

/// Why a session of the relay ended.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the log cannot be read: {0}")]
    Log(#[from] sqlx::Error),
    #[error(transparent)]
    Lead(#[from] LeadError),
    #[error(
        "the outbox is of another history: it is at {0}, which the log does not have; update outbox \
         set position = 0, event_id = '00000000-0000-0000-0000-000000000000' publishes this log again"
    )]
    OtherHistory(Mark),
    #[error("the log has a hole: {0}")]
    Hole(#[from] SliceError),
}

impl From<RelayError> for Failure<RelayError> {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Hole(_) => Self::Stop(error),
            RelayError::Broker(_)
            | RelayError::Log(_)
            | RelayError::Lead(_)
            | RelayError::OtherHistory(_) => Self::Retry(error),
        }
    }
}

impl Relay {
    /// A relay that wakes when `log_head` moves, shows what it does in `status` and records it in `hops`.
    #[must_use]
    pub fn new(
        log: Connections,
        broker: Broker,
        name: String,
        log_head: watch::Receiver<Position>,
        status: watch::Sender<RelayStatus>,
        hops: Recorder<RelayHop>,
    ) -> Self {
        Self { log, broker, name, log_head, status, hops }
    }

    /// Publishes until `shutdown` is cancelled, reconnecting for ever.
    ///
    /// # Errors
    /// [`RelayError::Hole`]: the log itself is damaged, and publishing past it would hide that.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RelayError> {
        let mut retry = Retry::new("the relay");
        while let Err(error) = self.session(&shutdown).await {
            self.enter(match error {
                RelayError::Log(_) | RelayError::Lead(_) | RelayError::OtherHistory(_) => {
                    RelayState::WithoutLog
                }
                RelayError::Broker(_) | RelayError::Hole(_) => RelayState::Disconnected,
            });
            retry.after(error.into(), &shutdown).await?;
        }
        Ok(())
    }

    /// One connection to the broker. Only a relay that has one tries to lead.
    async fn session(&mut self, shutdown: &CancellationToken) -> Result<(), RelayError> {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        let key = outbox::slice_key(&self.log).await?;
        let publisher = tokio::select! {
            connected = timeout(CONNECT_TIMEOUT, Publisher::connect(&self.broker, &self.name, key)) => {
                connected.map_err(|_| BrokerError::Timeout)??
            }
            () = shutdown.cancelled() => return Ok(()),
        };
        self.enter(RelayState::Standby);
        while !shutdown.is_cancelled() {
            publisher.check()?;
            self.look_at_queues(&publisher).await?;
            if let Some(lead) = outbox::take_lead(&self.log, &self.name, LEASE).await? {
                return self.lead(&publisher, lead, shutdown).await;
            }
            tokio::select! {
                () = tokio::time::sleep(LEASE_CHECK) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn lead(
        &mut self,
        publisher: &Publisher,
        lead: Lead,
        shutdown: &CancellationToken,
    ) -> Result<(), RelayError> {
        self.enter(RelayState::Leading);
        tracing::info!(relay.fence = lead.fence, relay.position = lead.position.0, "relay leads");
        let end = self.publish_until_stopped(publisher, lead, shutdown).await;
        // Best effort: without it the lease runs out by itself.
        if let Err(error) = outbox::release_lead(&self.log, lead.fence).await {
            tracing::debug!(%error, "the lead was not given up and will run out");
        }
        end
    }

    async fn publish_until_stopped(
        &mut self,
        publisher: &Publisher,
        lead: Lead,
        shutdown: &CancellationToken,
    ) -> Result<(), RelayError> {
        let mut cursor = Mark { position: lead.position, event_id: lead.event_id };
        if !history::foreign(&self.log, &[cursor]).await?.is_empty() {
            return Err(RelayError::OtherHistory(cursor));
        }
        let mut renewed = Instant::now();
        let mut refusals = Refusals::default();
        let mut next_round = Instant::now();
        loop {
            self.gather(cursor.position, next_round, shutdown).await;
            next_round = Instant::now() + ROUND_EVERY;
            // Once more after being asked to stop: what was appended until then goes out, and a
            // longer backlog waits in the log for the next relay.
            let last_round = shutdown.is_cancelled();
            self.log_head.borrow_and_update();
            let is_waiting = refusals.is_waiting();
            if !is_waiting || last_round {
                let round =
                    self.publish_once(publisher, lead.fence, &mut cursor, refusals.is_probing());
                // A broker that does not confirm any more must not keep the process.
                let out_of_time = async {
                    shutdown.cancelled().await;
                    tokio::time::sleep(LAST_ROUND_TIMEOUT).await;
                };
                let published = tokio::select! {
                    published = round => published?,
                    () = out_of_time => return Ok(()),
                };
                if last_round {
                    return Ok(());
                }
                if matches!(published, Published::Refused(_)) {
                    counter!(RELAY_REFUSED_ROUNDS.name).increment(1);
                }
                if refusals.count(published) {
                    tracing::warn!(
                        relay.position = cursor.position.0,
                        "RabbitMQ refuses more (a queue is full?); probing with one slice"
                    );
                }
                match published {
                    Published::All(0) => self.wait_for_more(shutdown).await,
                    Published::All(_) if renewed.elapsed() < LEASE_CHECK => continue,
                    Published::All(_) | Published::Refused(_) => {}
                }
            } else {
                tokio::select! {
                    () = tokio::time::sleep(LEASE_CHECK) => {}
                    () = shutdown.cancelled() => {}
                }
            }
            publisher.check()?;
            if renewed.elapsed() >= LEASE_CHECK {
                outbox::move_cursor(&self.log, lead.fence, cursor, LEASE).await?;
                renewed = Instant::now();
                self.look_at_queues(publisher).await?;
            }
        }
    }

    /// Waits until `next_round`, or until there is a full batch after `cursor`.
    async fn gather(
        &mut self,
        cursor: Position,
        next_round: Instant,
        shutdown: &CancellationToken,
    ) {
        if Instant::now() >= next_round {
            return;
        }
        let is_full = |head: &Position| {
            usize::try_from(head.0 - cursor.0).is_ok_and(|waiting| waiting >= RELAY_BATCH_MAX)
        };
        tokio::select! {
            () = tokio::time::sleep_until(next_round) => {}
            // An error says that nobody tells us of the log any more: the process is stopping.
            _ = self.log_head.wait_for(is_full) => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn wait_for_more(&mut self, shutdown: &CancellationToken) {
        tokio::select! {
            changed = self.log_head.changed() => if changed.is_err() {
                // Nobody tells us of the log any more: the process is stopping.
                shutdown.cancelled().await;
            },
            () = tokio::time::sleep(LEASE_CHECK) => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Publishes what is next after `cursor`, for a probe one slice of it, and moves it over what was confirmed.
    async fn publish_once(
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

    fn enter(&self, state: RelayState) {
        self.status.send_modify(|status| {
            status.state = state;
        });
        gauge!(RELAY_LEADING.name).set(f64::from(u8::from(state == RelayState::Leading)));
        let connected = matches!(state, RelayState::Standby | RelayState::Leading);
        gauge!(RELAY_BROKER_CONNECTED.name).set(f64::from(u8::from(connected)));
        if !connected {
            self.found(Queues::default());
        }
    }

    async fn look_at_queues(&self, publisher: &Publisher) -> Result<(), RelayError> {
        let queues = publisher.queues().await?;
        self.found(queues.unwrap_or_default());
        // Where others still take what is published, the broker does not say that this one is missing.
        if queues.is_some_and(|queues| queues.iter().any(|of| of.queue.is_none())) {
            return Err(BrokerError::QueueGone.into());
        }
        Ok(())
    }

    fn found(&self, queues: Queues) {
        show_queues(queues);
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.queues, queues) != queues);
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
