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
mod round;
mod status;

use std::time::Duration;

use events::amqp::{Broker, BrokerError};
use events::retry::{Failure, Retry};
use events::slice::SliceError;
use events::store::hops::{Recorder, RelayHop};
use events::store::outbox::{self, Lead, LeadError};
use events::store::{Connections, history};
use events::{Mark, Position};
use metrics::counter;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::RELAY_REFUSED_ROUNDS;
use publisher::{Published, Publisher};
use refusals::Refusals;
pub use status::{Queues, QueuesOf, RelayState, RelayStatus};

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
        let mut publisher = tokio::select! {
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
                return self.lead(&mut publisher, lead, shutdown).await;
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
        publisher: &mut Publisher,
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
        publisher: &mut Publisher,
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
                let is_probe = refusals.is_probing();
                let round = async {
                    if is_probe {
                        publisher.change_channel().await?;
                    }
                    self.publish_once(publisher, lead.fence, &mut cursor, is_probe).await
                };
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
}
