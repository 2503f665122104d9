//! The projection of the home feed: takes slices in whatever order and number they come, and keeps
//! the read model exactly at its checkpoint.

pub mod apply;
pub mod hops;
pub mod work;
mod writer;

use chrono::{DateTime, Utc};
use events::store::hops::Recorder;
use events::store::{Connections, history, read};
use events::{Mark, Position, RecordedEvent, Slice};
use metrics::counter;
use tokio_util::sync::CancellationToken;

use crate::bounds::{APPLY_MAX_EVENTS, Bounds};
use crate::checkpoint::{self, Checkpoint};
use crate::metrics::GAP_REPAIRS;
use apply::ApplyError;
use hops::ProjectorHop;
use writer::Writer;

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
    #[error("the read model did not answer within {} s", writer::TRANSACTION_TIMEOUT.as_secs())]
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
#[derive(Debug)]
pub struct Projection {
    log: Connections,
    feed: Connections,
    writer: Writer,
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
        Self { log, feed: feed.clone(), writer: Writer::new(feed, bounds, shutdown) }
    }

    /// The same, which records in `hops` what it applies.
    #[must_use]
    pub fn recording(self, hops: Recorder<ProjectorHop>) -> Self {
        Self { writer: self.writer.recording(hops), ..self }
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

    /// When the event at `position` was recorded; `None` when there is none.
    ///
    /// # Errors
    /// [`ProjectionError`] when the log is away.
    pub async fn recorded_at(
        &self,
        position: Position,
    ) -> Result<Option<DateTime<Utc>>, ProjectionError> {
        read::recorded_at(&self.log, position).await.map_err(ProjectionError::Log)
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
                counter!(GAP_REPAIRS.name).increment(1);
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
            self.writer.write(checkpoint, &events).await?;
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
        self.writer.go_on_with_fan_outs(checkpoint).await
    }

    async fn apply_run(
        &self,
        checkpoint: &mut Checkpoint,
        run: &mut Run,
    ) -> Result<(), ProjectionError> {
        self.writer.write(checkpoint, &run.events).await?;
        run.events.clear();
        Ok(())
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
