//! Consuming the log: what RabbitMQ brings, and where that brings nothing the log itself.
//!
//! **Invariant**: a message is acknowledged only after the transaction with its events has
//! committed. Whatever the broker loses, repeats or reorders in spite of it, the projection finds
//! by its checkpoint.
//!
//! RabbitMQ is the fast path and never the only one: a look twice a second compares the checkpoint with the log, and what
//! did not come is read. A message counts as tried only when it was the reason: while a database is away it is held,
//! not handed back.

pub mod lead;
mod listen;
mod subscription;

use std::time::Duration;

use events::amqp::Broker;
use events::metrics::{
    LOG_POSITION, Metric, PROJECTOR_FOLLOWS_LOG, PROJECTOR_LAG_EVENTS, PROJECTOR_LAG_SECONDS,
    PROJECTOR_POSITION,
};
use events::retry::{Failure, Retry};
use events::store::Connections;
use events::{Clock, Position, Slice};
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::metrics::GAP_REPAIRS;
use crate::projection::{ApplyError, Projection, ProjectionError, ReadModel};

use lead::{Follows, Lead};
use listen::Listener;
use subscription::Batch;
pub(crate) use subscription::decode;

/// How often the checkpoint is compared with the log: what no message brings is readable after twice this, and a
/// little.
const LOOK: Duration = Duration::from_millis(500);

/// How long a step may still take when the process has to stop, for instance one that a database does not answer: a
/// little longer than a transaction may.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Consumes whenever this projector leads, until `shutdown` is cancelled.
///
/// # Errors
/// [`ProjectionError`] when an operator has to act first.
pub async fn run<M: ReadModel>(
    projection: &Projection<M>,
    log: &Connections,
    lead: &Lead,
    broker: &Broker,
    shutdown: &CancellationToken,
) -> Result<(), ProjectionError> {
    let mut held = lead.watch();
    loop {
        tokio::select! {
            leads = held.wait_for(|held| *held) => if leads.is_err() { return Ok(()) },
            () = shutdown.cancelled() => return Ok(()),
        }
        let mut listener = Listener::start(broker, log, M::LAYOUT.projection, M::GATHERS_FOR);
        let end =
            Consumer::new(projection, lead, held.clone()).consume(&mut listener, shutdown).await;
        show::<M>(PROJECTOR_FOLLOWS_LOG, 0.0);
        // Who stands by does not look.
        forget_lag::<M>();
        listener.stop().await;
        end?;
    }
}

/// Until the next look nobody knows how far behind the log the read model is.
fn forget_lag<M: ReadModel>() {
    show::<M>(PROJECTOR_LAG_EVENTS, f64::NAN);
    show::<M>(PROJECTOR_LAG_SECONDS, f64::NAN);
}

fn show<M: ReadModel>(metric: Metric, value: f64) {
    gauge!(metric.name, "projection" => M::LAYOUT.projection.name()).set(value);
}

/// A projector while it leads.
struct Consumer<'a, M> {
    projection: &'a Projection<M>,
    lead: &'a Lead,
    held: watch::Receiver<bool>,
    /// The checkpoint since this projector took over; `None` when it has to find out anew.
    taken_over: Option<Checkpoint>,
    /// What has arrived and is not applied yet.
    batch: Option<Batch>,
    hearing: Hearing,
    looks: Interval,
}

impl<'a, M: ReadModel> Consumer<'a, M> {
    fn new(projection: &'a Projection<M>, lead: &'a Lead, held: watch::Receiver<bool>) -> Self {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (taken_over, batch, hearing) = (None, None, Hearing::default());
        Self { projection, lead, held, taken_over, batch, hearing, looks }
    }

    /// Consumes until this projector is relieved or asked to stop. What fails because something is away is tried
    /// again, with the same messages.
    async fn consume(
        &mut self,
        listener: &mut Listener,
        shutdown: &CancellationToken,
    ) -> Result<(), ProjectionError> {
        self.tell();
        let mut retry = Retry::new("the projector");
        while *self.held.borrow() && !shutdown.is_cancelled() {
            let out_of_time = async {
                shutdown.cancelled().await;
                tokio::time::sleep(STOP_PATIENCE).await;
            };
            let end = tokio::select! {
                end = self.step(listener, shutdown) => end,
                () = out_of_time => return Ok(()),
            };
            let Err(error) = end else { continue };
            self.taken_over = None;
            forget_lag::<M>();
            match error {
                ProjectionError::Stopping => return Ok(()),
                // Another generation went live, or another projector took over: the lead says which.
                ProjectionError::Apply(ApplyError::Fenced(_)) if self.still_leads().await => {}
                error if error.is_final() => return Err(error),
                error => retry.after(Failure::Retry(error), shutdown).await?,
            }
        }
        Ok(())
    }

    /// Asks the lease itself, which may have run out while this process stood still.
    async fn still_leads(&self) -> bool {
        matches!(self.lead.hold().await, Ok(true))
    }

    /// Applies what is in hand, or waits for something to do.
    async fn step(
        &mut self,
        listener: &mut Listener,
        shutdown: &CancellationToken,
    ) -> Result<(), ProjectionError> {
        if self.batch.is_some() {
            return self.apply_batch().await;
        }
        // In this order: what no event asks for comes up seldom, and has its turn however much there is to apply. What is under way goes
        // on when nothing else is to be done, and else between its transactions.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            _ = self.held.changed() => {}
            () = self.projection.until_due() => self.tend().await?,
            batch = listener.next() => self.batch = Some(batch),
            _ = self.looks.tick() => self.look(listener).await?,
            () = std::future::ready(()), if self.has_work_under_way() => self.go_on().await?,
        }
        Ok(())
    }

    /// Whether work is under way, as far as this projector knows.
    fn has_work_under_way(&self) -> bool {
        self.taken_over.is_some_and(|own| own.under_way.is_some())
    }

    async fn go_on(&mut self) -> Result<(), ProjectionError> {
        let projection = self.projection;
        projection.go_on(self.take_over_once().await?).await
    }

    async fn tend(&mut self) -> Result<(), ProjectionError> {
        let projection = self.projection;
        let checkpoint = *self.take_over_once().await?;
        projection.tend(checkpoint).await
    }

    /// Applies what the batch in hand brings, without what is of another history.
    async fn apply_batch(&mut self) -> Result<(), ProjectionError> {
        let projection = self.projection;
        let checkpoint = *self.take_over_once().await?;
        let Some(batch) = &mut self.batch else { return Ok(()) };
        let foreign = projection.foreign(checkpoint, &batch.slices).await?;
        batch.set_foreign_aside(&foreign).await;
        let slices = std::mem::take(&mut batch.slices);
        let was_tried = batch.end;
        batch.end = slices.iter().map(Slice::last).max().or(was_tried);
        let reached = batch.end;
        let checkpoint = self.take_over_once().await?;
        match was_tried {
            None => projection.apply_slices(checkpoint, slices).await?,
            // What the slices had was not applied, or not all of it: the log has it too.
            Some(end) => projection.apply_from_log(checkpoint, end).await?,
        }
        // Messages have come as far as the log was read, whether they brought something new or not.
        if reached.is_some_and(|reached| reached >= checkpoint.position) {
            self.hear();
        }
        if let Some(batch) = self.batch.take() {
            batch.acknowledge().await;
        }
        Ok(())
    }

    async fn take_over_once(&mut self) -> Result<&mut Checkpoint, ProjectionError> {
        if self.taken_over.is_none() {
            let checkpoint = self.projection.take_over().await?;
            tracing::info!(
                projection = M::LAYOUT.projection.name(),
                projection.position = checkpoint.position.0,
                projection.fence = checkpoint.fence,
                "projecting"
            );
            self.taken_over = Some(checkpoint);
        }
        Ok(self.taken_over.as_mut().expect("it was set above"))
    }

    /// Messages can be purged, refused or expire, or be lost with a queue; the broker can be away; after a crash of its
    /// database the checkpoint can stand behind what was acknowledged. All of it looks the same: the log is ahead,
    /// and the checkpoint stands still.
    async fn look(&mut self, listener: &Listener) -> Result<(), ProjectionError> {
        let projection = self.projection;
        let found = projection.checkpoint().await?;
        if self.taken_over.is_some_and(|own| own != found) {
            // Lost with a crash, or another generation.
            self.taken_over = None;
        }
        if found.under_way.is_some() {
            // What somebody else has begun.
            self.take_over_once().await?;
        }
        let head = projection.head().await?;
        self.measure(found.position, head).await?;
        if !self.hearing.is_missing(found.position, head) {
            return Ok(());
        }
        let checkpoint = self.take_over_once().await?;
        let from = checkpoint.position;
        if !self.hearing.follows_log {
            tracing::warn!(
                projection = M::LAYOUT.projection.name(),
                projection.position = from.0,
                log.position = head.0,
                "RabbitMQ does not bring what is in the log; following the log itself"
            );
            counter!(GAP_REPAIRS.name, "projection" => M::LAYOUT.projection.name()).increment(1);
        }
        if self.hearing.read_log() {
            listener.miss();
        }
        self.tell();
        let checkpoint = self.take_over_once().await?;
        projection.apply_from_log(checkpoint, head).await?;
        Ok(())
    }

    /// Shows how far behind the log the read model is.
    async fn measure(&self, reached: Position, head: Position) -> Result<(), ProjectionError> {
        let waits_since =
            if reached < head { self.projection.recorded_at(reached.next()).await? } else { None };
        let seconds =
            waits_since.map_or(0.0, |since| (Clock::system().now() - since).as_seconds_f64());
        gauge!(LOG_POSITION.name).set(head.0 as f64);
        show::<M>(PROJECTOR_POSITION, reached.0 as f64);
        show::<M>(PROJECTOR_LAG_EVENTS, (head.0 - reached.0).max(0) as f64);
        show::<M>(PROJECTOR_LAG_SECONDS, seconds.max(0.0));
        Ok(())
    }

    /// Messages bring what is in the log.
    fn hear(&mut self) {
        if self.hearing.follows_log {
            tracing::info!("RabbitMQ brings what is in the log again");
            self.hearing = Hearing { seen: self.hearing.seen, ..Hearing::default() };
            self.tell();
        }
    }

    fn tell(&self) {
        let follows = if self.hearing.follows_log { Follows::Log } else { Follows::Messages };
        show::<M>(PROJECTOR_FOLLOWS_LOG, f64::from(u8::from(self.hearing.follows_log)));
        self.lead.follow(follows);
    }
}

/// Whether messages bring what is in the log.
#[derive(Debug, Default)]
struct Hearing {
    /// The checkpoint at the last look, where the log was ahead of it or not.
    seen: Option<Position>,
    /// The log was read, and messages have not come as far since.
    follows_log: bool,
    /// How often it was read since.
    readings: u32,
}

/// After so many readings of the log the topology is declared again, in case that is what keeps messages away.
const READINGS_PER_DECLARATION: u32 = 20;

impl Hearing {
    /// Whether the log has to be read up to `head`: it is ahead, and either nothing was heard for a while already, or
    /// the checkpoint stands where it stood at the last look.
    fn is_missing(&mut self, checkpoint: Position, head: Position) -> bool {
        let is_still = self.seen == Some(checkpoint);
        self.seen = (checkpoint < head).then_some(checkpoint);
        checkpoint < head && (is_still || self.follows_log)
    }

    /// Remembers that the log is read now; whether it is time to declare the topology again.
    fn read_log(&mut self) -> bool {
        self.follows_log = true;
        self.readings += 1;
        self.readings % READINGS_PER_DECLARATION == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_is_what_stands_still_below_the_head() {
        let mut hearing = Hearing::default();
        assert!(!hearing.is_missing(Position(5), Position(9)), "the first look only remembers");
        assert!(hearing.is_missing(Position(5), Position(9)));
    }

    #[test]
    fn what_moves_or_has_arrived_misses_nothing() {
        let mut hearing = Hearing::default();
        for checkpoint in 1..20 {
            assert!(!hearing.is_missing(Position(checkpoint), Position(99)));
        }
        for _ in 0..5 {
            assert!(!hearing.is_missing(Position(99), Position(99)));
        }
        // It stood still because there was nothing.
        assert!(!hearing.is_missing(Position(99), Position(100)));
        assert!(hearing.is_missing(Position(99), Position(100)));
    }

    #[test]
    fn where_nothing_is_heard_the_log_is_read_at_once() {
        let mut hearing = Hearing { follows_log: true, ..Hearing::default() };
        assert!(hearing.is_missing(Position(5), Position(9)));
        assert!(!hearing.is_missing(Position(9), Position(9)));
        assert!(hearing.is_missing(Position(9), Position(10)));
    }
}
