//! The projection of the home feed: takes slices in whatever order and number they come, and keeps
//! the read model exactly at its checkpoint.

use events::store::{outbox, read};
use events::{Position, RecordedEvent, Slice};
use metrics::counter;
use sqlx::PgPool;

use crate::apply::{ApplyError, apply};
use crate::checkpoint::{self, Checkpoint};

/// The most events in one transaction. Larger ones no longer raise the rate; they only make those
/// who wait for the first event wait for the last.
pub const APPLY_MAX_EVENTS: usize = 2_048;

/// Why the projection does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the log cannot be read: {0}")]
    Log(sqlx::Error),
    #[error(
        "the read model is at {checkpoint}, but the log ends at {head}: the log was restored from \
         an older backup, or FEED_DATABASE_URL belongs to another log"
    )]
    Ahead { checkpoint: Position, head: Position },
    #[error("the log ends before position {0}, which a message carries")]
    Beyond(Position),
}

impl ProjectionError {
    /// Whether an operator has to act before another try makes sense.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Ahead { .. } | Self::Apply(ApplyError::Decode(_) | ApplyError::Hole { .. }) => {
                true
            }
            Self::Apply(ApplyError::Fenced(_) | ApplyError::Database(_))
            | Self::Log(_)
            | Self::Beyond(_) => false,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Projection {
    log: PgPool,
    feed: PgPool,
    kept: i64,
}

impl Projection {
    /// The projection of `log` into `feed`, which keeps the newest `kept` tweets of each feed.
    #[must_use]
    pub fn new(log: PgPool, feed: PgPool, kept: i64) -> Self {
        Self { log, feed, kept }
    }

    /// Takes over from whoever projected before.
    ///
    /// # Errors
    /// [`ProjectionError::Ahead`] when the read model does not belong to this log.
    pub async fn take_over(&self) -> Result<Checkpoint, ProjectionError> {
        let checkpoint = checkpoint::take_over(&self.feed).await.map_err(ApplyError::from)?;
        let head = read::head(&self.log).await.map_err(ProjectionError::Log)?;
        if checkpoint.position > head {
            return Err(ProjectionError::Ahead { checkpoint: checkpoint.position, head });
        }
        Ok(checkpoint)
    }

    /// The checkpoint as it is now, whoever wrote it.
    ///
    /// # Errors
    /// [`ProjectionError`] when the read model is away.
    pub async fn checkpoint(&self) -> Result<Checkpoint, ProjectionError> {
        Ok(checkpoint::load(&self.feed).await.map_err(ApplyError::from)?)
    }

    /// How far the relay has published.
    ///
    /// # Errors
    /// [`ProjectionError`] when the log is away.
    pub async fn published(&self) -> Result<Position, ProjectionError> {
        let outbox = outbox::load(&self.log).await.map_err(ProjectionError::Log)?;
        Ok(outbox.position)
    }

    /// Applies what `slices` bring. What is known is passed over; what is missing before a slice is
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
            *checkpoint = apply(&self.feed, *checkpoint, &events, self.kept).await?;
        }
        Ok(())
    }

    async fn apply_run(
        &self,
        checkpoint: &mut Checkpoint,
        run: &mut Run,
    ) -> Result<(), ProjectionError> {
        for events in run.events.chunks(APPLY_MAX_EVENTS) {
            *checkpoint = apply(&self.feed, *checkpoint, events, self.kept).await?;
        }
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
