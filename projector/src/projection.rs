//! The projection of the home feed: takes slices in whatever order and number they come, and keeps
//! the read model exactly at its checkpoint.

pub mod apply;
pub mod hops;
pub mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use events::store::hops::Recorder;
use events::store::{Connections, history, read};
use events::{Clock, Mark, Position, RecordedEvent, Slice};
use metrics::counter;
use tokio_util::sync::CancellationToken;

use crate::bounds::{APPLY_MAX_EVENTS, Bounds};
use crate::checkpoint::{self, Checkpoint};
use crate::read_model::fan_out::{self, FAN_OUTS_MAX, Stepped};

use apply::{Applied, ApplyError, apply};
use hops::ProjectorHop;
use work::{FAN_OUTS_BEGUN_MAX, Work};

/// The most that one transaction may take, connection and all: a hundred times what its work is
/// bounded to. For a server that is gone without a word.
const TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a transaction may still take when the process has to stop. Then it is given up, and done anew by whoever
/// projects next.
const STOP_PATIENCE: Duration = Duration::from_secs(4);

/// Why the projection does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the log cannot be read: {0}")]
    Log(#[source] sqlx::Error),
    #[error(transparent)]
    OtherHistory(#[from] OtherHistory),
    #[error("the log ends before position {0}, which a message carries")]
    Beyond(Position),
    #[error("the read model did not answer within {} s", TRANSACTION_TIMEOUT.as_secs())]
    Silent,
    #[error("asked to stop before all of it was applied")]
    Stopping,
}

/// A read model that was made from another log than this one is, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the read model is of another history: it is at {0}, which the log does not have; the log was \
     restored from an older backup, or FEED_DATABASE_URL belongs to another log; projector rebuild \
     makes the read model again from this log"
)]
pub struct OtherHistory(pub Mark);

impl ProjectionError {
    /// Whether an operator has to act before another try makes sense.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::OtherHistory(_)
            | Self::Apply(ApplyError::Decode(_) | ApplyError::Hole { .. }) => true,
            Self::Apply(ApplyError::Fenced(_) | ApplyError::Database(_))
            | Self::Log(_)
            | Self::Beyond(_)
            | Self::Silent
            | Self::Stopping => false,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Projection {
    log: Connections,
    feed: Connections,
    bounds: Bounds,
    shutdown: CancellationToken,
    hops: Option<Recorder<ProjectorHop>>,
    /// Until then fan-outs under way wait while there is something else to do.
    fan_outs_rest: Arc<Mutex<Option<Instant>>>,
}

impl Projection {
    /// The projection of `log` into `feed` within `bounds`. Once `shutdown` is cancelled no further
    /// transaction begins.
    #[must_use]
    pub fn new(
        log: Connections,
        feed: Connections,
        bounds: Bounds,
        shutdown: CancellationToken,
    ) -> Self {
        Self { log, feed, bounds, shutdown, hops: None, fan_outs_rest: Arc::default() }
    }

    /// The same, which records in `hops` what it applies.
    #[must_use]
    pub fn recording(self, hops: Recorder<ProjectorHop>) -> Self {
        Self { hops: Some(hops), ..self }
    }

    /// Takes over from whoever projected before.
    ///
    /// # Errors
    /// [`ProjectionError::OtherHistory`] when the read model does not belong to this log.
    pub async fn take_over(&self) -> Result<Checkpoint, ProjectionError> {
        let checkpoint = checkpoint::take_over(&self.feed).await.map_err(ApplyError::from)?;
        self.foreign(checkpoint, &[]).await?;
        Ok(checkpoint)
    }

    /// The checkpoint as it is now, whoever wrote it.
    ///
    /// # Errors
    /// [`ProjectionError`] when the read model is away, or does not belong to this log.
    pub async fn checkpoint(&self) -> Result<Checkpoint, ProjectionError> {
        let checkpoint = checkpoint::load(&self.feed).await.map_err(ApplyError::from)?;
        self.foreign(checkpoint, &[]).await?;
        Ok(checkpoint)
    }

    /// The last events of those of `slices` that are not of the log's history. One look for all of
    /// them, and for the read model at `checkpoint`.
    ///
    /// # Errors
    /// [`ProjectionError::OtherHistory`] when the read model itself is not.
    pub async fn foreign(
        &self,
        checkpoint: Checkpoint,
        slices: &[Slice],
    ) -> Result<Vec<Mark>, ProjectionError> {
        let mut marks = vec![checkpoint.mark()];
        marks.extend(slices.iter().map(Slice::mark));
        let foreign = history::foreign(&self.log, &marks).await.map_err(ProjectionError::Log)?;
        if foreign.contains(&checkpoint.mark()) {
            return Err(OtherHistory(checkpoint.mark()).into());
        }
        Ok(foreign)
    }

    /// Where the log ends.
    ///
    /// # Errors
    /// [`ProjectionError`] when the log is away.
    pub async fn head(&self) -> Result<Position, ProjectionError> {
        read::head(&self.log).await.map_err(ProjectionError::Log)
    }

    /// Applies what `slices`, of which none is [foreign](Self::foreign), bring. What is known is passed over; what is missing before a slice is
    /// read from the log.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    pub async fn apply_slices(
        &self,
        checkpoint: &mut Checkpoint,
        mut slices: Vec<Slice>,
    ) -> Result<(), ProjectionError> {
        slices.sort_by_key(Slice::first);
        let mut run = Run::after(checkpoint.position);
        for slice in slices {
            if slice.first() > run.end.next() {
                self.apply_run(checkpoint, &mut run).await?;
                let missing_to = Position(slice.first().0 - 1);
                tracing::warn!(
                    feed.position = checkpoint.position.0,
                    slice.first = slice.first().0,
                    "messages are missing; reading their events from the log"
                );
                counter!("rookery_projector_gap_repairs_total").increment(1);
                self.apply_from_log(checkpoint, missing_to).await?;
                run = Run::after(checkpoint.position);
            }
            run.extend(slice);
        }
        self.apply_run(checkpoint, &mut run).await
    }

    /// Applies the log itself up to `to`.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    pub async fn apply_from_log(
        &self,
        checkpoint: &mut Checkpoint,
        to: Position,
    ) -> Result<(), ProjectionError> {
        while checkpoint.position < to {
            let wanted = usize::try_from(to.0 - checkpoint.position.0).unwrap_or(usize::MAX);
            let limit = wanted.min(APPLY_MAX_EVENTS);
            let events = read::after(&self.log, checkpoint.position, limit)
                .await
                .map_err(ProjectionError::Log)?;
            if events.is_empty() {
                return Err(ProjectionError::Beyond(to));
            }
            // The server may be another one than a page ago.
            self.foreign(*checkpoint, &[]).await?;
            self.apply_all(checkpoint, &events).await?;
        }
        Ok(())
    }

    async fn apply_run(
        &self,
        checkpoint: &mut Checkpoint,
        run: &mut Run,
    ) -> Result<(), ProjectionError> {
        self.apply_all(checkpoint, &run.events).await?;
        run.events.clear();
        Ok(())
    }

    /// Between two transactions the fan-outs under way go a step on, for as much of the time as the events get: neither
    /// waits for the end of the other.
    async fn apply_all(
        &self,
        checkpoint: &mut Checkpoint,
        mut events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        let received_at = Clock::system().now();
        let work = Work::of(&self.feed, events, self.bounds).await.map_err(ApplyError::from)?;
        for count in work.transactions {
            if !work.many_read.is_empty() {
                self.make_room_for_fan_outs(checkpoint).await?;
            }
            let (now, later) = events.split_at(count);
            let applying = apply(&self.feed, *checkpoint, now, &work.many_read, self.bounds.kept);
            let Applied { checkpoint: moved, deliveries, applied_at } =
                self.in_time(applying).await?;
            let first = checkpoint.position.next();
            self.record(first, moved.position, received_at, applied_at, deliveries);
            *checkpoint = moved;
            events = later;
            if self.fan_outs_are_due() {
                self.go_on_with_fan_outs(checkpoint).await?;
            }
        }
        Ok(())
    }

    /// Goes one step on with the fan-outs under way, if there are any.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    pub async fn go_on_with_fan_outs(
        &self,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), ProjectionError> {
        if checkpoint.under_way.is_none() {
            return Ok(());
        }
        let (began, began_at) = (Instant::now(), Clock::system().now());
        let stepping = fan_out::step(&self.feed, *checkpoint, self.bounds);
        let Stepped { checkpoint: moved, deliveries, applied_at } = self.in_time(stepping).await?;
        // No position was applied, so it is one of none.
        self.record(moved.position.next(), moved.position, began_at, applied_at, deliveries);
        *checkpoint = moved;
        *self.fan_outs_rest() = Some(Instant::now() + began.elapsed());
        Ok(())
    }

    fn fan_outs_are_due(&self) -> bool {
        self.fan_outs_rest().is_none_or(|until| until <= Instant::now())
    }

    fn fan_outs_rest(&self) -> MutexGuard<'_, Option<Instant>> {
        self.fan_outs_rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fan-outs that are under way cost every page of their readers a little: there are never more than
    /// [`FAN_OUTS_MAX`].
    async fn make_room_for_fan_outs(
        &self,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), ProjectionError> {
        while let Some(under_way) = checkpoint.under_way {
            let count = fan_out::count(&self.feed, under_way).await.map_err(ApplyError::from)?;
            if count + FAN_OUTS_BEGUN_MAX <= FAN_OUTS_MAX {
                break;
            }
            self.go_on_with_fan_outs(checkpoint).await?;
        }
        Ok(())
    }

    /// A transaction, which neither a server that is gone nor a shutdown waits for.
    async fn in_time<T>(
        &self,
        transaction: impl Future<Output = Result<T, impl Into<ApplyError>>>,
    ) -> Result<T, ProjectionError> {
        if self.shutdown.is_cancelled() {
            return Err(ProjectionError::Stopping);
        }
        let out_of_time = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            done = tokio::time::timeout(TRANSACTION_TIMEOUT, Box::pin(transaction)) => {
                Ok(done.map_err(|_| ProjectionError::Silent)?.map_err(Into::into)?)
            }
            () = out_of_time => Err(ProjectionError::Stopping),
        }
    }

    fn record(
        &self,
        first: Position,
        last: Position,
        received_at: DateTime<Utc>,
        applied_at: DateTime<Utc>,
        deliveries: u64,
    ) {
        if let Some(hops) = &self.hops {
            let readable_at = Clock::system().now();
            hops.record(ProjectorHop {
                first,
                last,
                received_at,
                applied_at,
                readable_at,
                deliveries,
            });
        }
    }
}

/// Events without a hole, beginning right after a position.
struct Run {
    events: Vec<RecordedEvent>,
    end: Position,
}

impl Run {
    const fn after(end: Position) -> Self {
        Self { events: Vec::new(), end }
    }

    /// Adds what `slice`, which does not begin after the next position, has beyond the end.
    fn extend(&mut self, slice: Slice) {
        let end = self.end;
        self.events.extend(slice.into_events().into_iter().filter(|event| event.position > end));
        self.end = self.events.last().map_or(end, |last| last.position);
    }
}
