//! Consuming the feed's queue: gathers what has arrived, has it applied, acknowledges it.
//!
//! **Invariant**: a message is acknowledged only after the transaction with its events has
//! committed. Whatever the broker loses, repeats or reorders in spite of it, the projection finds
//! by its checkpoint.

use std::time::Duration;

use events::Position;
use events::amqp::{self, Broker, BrokerError};
use events::retry::{Failure, Retry};
use events::slice::SliceKey;
use events::store::{Connections, outbox};
use metrics::{counter, gauge};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::projection::{Projection, ProjectionError};
use crate::subscription::{Batch, Subscription};

/// How long a subscription may take to come about, topology and all.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a silent queue is compared with the outbox.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// After this many checks in a row in which the checkpoint stood still below the relay's cursor,
/// the messages are taken for lost and the log is read instead.
const STALL_CHECKS: u32 = 2;

/// Why a session with the broker ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
}

impl From<lapin::Error> for ConsumeError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

impl From<ConsumeError> for Failure<ConsumeError> {
    fn from(error: ConsumeError) -> Self {
        match &error {
            ConsumeError::Projection(inner) if inner.is_final() => Self::Stop(error),
            _ => Self::Retry(error),
        }
    }
}

/// Consumes until `shutdown` is cancelled, reconnecting for ever.
///
/// # Errors
/// [`ConsumeError`] when an operator has to act first.
pub async fn run(
    projection: &Projection,
    log: &Connections,
    broker: &Broker,
    shutdown: &CancellationToken,
) -> Result<(), ConsumeError> {
    let mut retry = Retry::new("the projector");
    while let Err(error) = session(projection, log, broker, shutdown).await {
        gauge!("rookery_projector_broker_connected").set(0.0);
        retry.after(error.into(), shutdown).await?;
    }
    Ok(())
}

async fn session(
    projection: &Projection,
    log: &Connections,
    broker: &Broker,
    shutdown: &CancellationToken,
) -> Result<(), ConsumeError> {
    if shutdown.is_cancelled() {
        return Ok(());
    }
    // Both databases answer before the first message is taken: one that cannot be applied would
    // only come back, and be set aside after too many times.
    let key = outbox::slice_key(log).await.map_err(ProjectionError::Log)?;
    let checkpoint = projection.checkpoint().await?;
    let subscription = tokio::select! {
        opened = tokio::time::timeout(OPEN_TIMEOUT, Subscription::open(broker)) => {
            opened.map_err(|_| BrokerError::Timeout)??
        }
        () = shutdown.cancelled() => return Ok(()),
    };
    gauge!("rookery_projector_broker_connected").set(1.0);
    tracing::info!(feed.position = checkpoint.position.0, "subscribed to {}", amqp::FEED_QUEUE);
    let mut session =
        Session { projection, key, subscription, taken_over: None, stall: Stall::new() };
    let end = session.consume(shutdown).await;
    session.subscription.close().await;
    match end {
        Err(ConsumeError::Projection(ProjectionError::Stopping)) => Ok(()),
        end => end,
    }
}

struct Session<'a> {
    projection: &'a Projection,
    key: SliceKey,
    subscription: Subscription,
    /// The checkpoint since this session took over; `None` while another projector is the active
    /// consumer and this one stands by.
    taken_over: Option<Checkpoint>,
    stall: Stall,
}

impl Session<'_> {
    async fn consume(&mut self, shutdown: &CancellationToken) -> Result<(), ConsumeError> {
        loop {
            tokio::select! {
                delivery = self.subscription.next() => {
                    let mut batch = self.subscription.batch_from(delivery?, &self.key).await?;
                    self.apply(&mut batch).await?;
                    batch.acknowledge().await?;
                }
                _ = self.stall.interval.tick() => self.repair_if_stalled().await?,
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Applies what `batch` brings, without what is of another history.
    async fn apply(&mut self, batch: &mut Batch) -> Result<(), ConsumeError> {
        let projection = self.projection;
        let checkpoint = self.take_over_once().await?;
        let foreign = projection.foreign(*checkpoint, &batch.slices).await?;
        batch.set_foreign_aside(&foreign).await?;
        projection.apply_slices(checkpoint, std::mem::take(&mut batch.slices)).await?;
        Ok(())
    }

    /// The broker has one active consumer a queue, so the first message says that it is us.
    async fn take_over_once(&mut self) -> Result<&mut Checkpoint, ConsumeError> {
        if self.taken_over.is_none() {
            let checkpoint = self.projection.take_over().await?;
            tracing::info!(
                feed.position = checkpoint.position.0,
                feed.fence = checkpoint.fence,
                "projecting"
            );
            self.taken_over = Some(checkpoint);
        }
        Ok(self.taken_over.as_mut().expect("it was set above"))
    }

    /// Messages can be purged or expire, or be lost with a queue; after a crash of its database the
    /// checkpoint can stand behind what was acknowledged. All of it looks the same: the relay's
    /// cursor is ahead, nothing arrives, and the checkpoint stands still.
    async fn repair_if_stalled(&mut self) -> Result<(), ConsumeError> {
        self.subscription.check()?;
        let published = self.projection.published().await?;
        let checkpoint = self.projection.checkpoint().await?.position;
        if !self.stall.is_reached(checkpoint, published) {
            return Ok(());
        }
        tracing::warn!(
            feed.position = checkpoint.0,
            relay.position = published.0,
            "published events did not arrive; reading them from the log"
        );
        counter!("rookery_projector_gap_repairs_total").increment(1);
        self.taken_over = None;
        let projection = self.projection;
        let checkpoint = self.take_over_once().await?;
        projection.apply_from_log(checkpoint, published).await?;
        self.stall.reset();
        Ok(())
    }
}

/// Notices that the checkpoint stands still while it should not.
struct Stall {
    interval: Interval,
    last_seen: Option<Position>,
    still_for: u32,
}

impl Stall {
    fn new() -> Self {
        let mut interval = tokio::time::interval(STALL_CHECK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, last_seen: None, still_for: 0 }
    }

    fn reset(&mut self) {
        self.interval.reset();
        self.last_seen = None;
        self.still_for = 0;
    }

    fn is_reached(&mut self, checkpoint: Position, published: Position) -> bool {
        let still = checkpoint < published && self.last_seen == Some(checkpoint);
        self.still_for = if still { self.still_for + 1 } else { 0 };
        self.last_seen = Some(checkpoint);
        self.still_for >= STALL_CHECKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stall_is_a_checkpoint_that_stands_still_below_the_cursor() {
        let mut stall = Stall::new();
        assert!(!stall.is_reached(Position(5), Position(9)), "the first look only remembers");
        assert!(!stall.is_reached(Position(5), Position(9)));
        assert!(stall.is_reached(Position(5), Position(9)));
    }

    #[tokio::test]
    async fn a_checkpoint_that_moves_or_has_arrived_is_no_stall() {
        let mut stall = Stall::new();
        for checkpoint in 1..20 {
            assert!(!stall.is_reached(Position(checkpoint), Position(99)));
        }
        for _ in 0..5 {
            assert!(!stall.is_reached(Position(99), Position(99)));
        }
    }
}
