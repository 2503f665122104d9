//! A projection: takes slices in whatever order and number they come, and keeps its read model exactly at its checkpoint.
//!
//! What one makes of events is a [`ReadModel`]. All else is the same for each: consuming, the lead, the checkpoint,
//! generations, rebuilding.

mod transaction;

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use events::event::DecodeError;
use events::store::ranges::{Archived, NotLive};
use events::store::schema::SchemaError;
use events::store::{Connections, history, ranges, read};
use events::trace::{BatchSpan, SpanKind, attribute};
use events::{Clock, Mark, Position, ProjectionName, RecordedEvent, Slice};
use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;

use crate::bounds::{APPLY_MAX_EVENTS, Bounds};
use crate::checkpoint::{self, AdvanceError, Checkpoint, Fenced};
use crate::generation::Layout;
use crate::metrics::{APPLIED_EVENTS, APPLY, EVENT_AGE, GAP_REPAIRS};
use crate::rebuild::{Built, Rebuild, RebuildError};
use crate::verify::{Report, VerifyError};
pub use transaction::InTime;

/// What a projection makes of events, and how its tables are made and compared as a whole. CONTRIBUTING.md says how to add
/// one.
pub trait ReadModel: fmt::Debug + Send + Sync + Sized + 'static {
    /// What it is called, and what a generation of it consists of.
    const LAYOUT: Layout;

    /// For how long messages gather before they are applied together. More events in one transaction cost less each, and whoever
    /// reads after their own command waits so much longer.
    const GATHERS_FOR: Duration = Duration::ZERO;

    /// What was read of the log while it was built, for [comparing](Self::compare) it.
    type Facts: Default + Send;

    /// The one in the tables that `connections` find. Once `shutdown` is cancelled no further transaction begins.
    #[must_use]
    fn at(connections: &Connections, bounds: Bounds, shutdown: &CancellationToken) -> Self;

    /// How sessions behave that build it or compare it.
    #[must_use]
    fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
        std::iter::empty()
    }

    /// Applies `events`, which begin right after `checkpoint`, in as many transactions as they need. Each moves the checkpoint
    /// [forward](checkpoint::advance) with what it writes.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    fn write(
        &self,
        checkpoint: &mut Checkpoint,
        events: &[RecordedEvent],
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Goes one step on with what is [under way](Checkpoint::under_way), if it has such work.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    fn go_on(
        &self,
        checkpoint: &mut Checkpoint,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send {
        let _ = checkpoint;
        async { Ok(()) }
    }

    /// Waits until there is something to do that no event asks for; for ever, if it has no such work. Nothing is lost when this is
    /// given up.
    fn until_due(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Does a part of that: at most one transaction, which leaves the checkpoint where it is.
    ///
    /// # Errors
    /// [`ProjectionError`]
    fn tend(
        &self,
        checkpoint: Checkpoint,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send {
        let _ = checkpoint;
        async { Ok(()) }
    }

    /// Makes an empty generation into what it is at the head of the log: by [writing](Self::write) the whole of it, if there is
    /// no faster way.
    ///
    /// # Errors
    /// [`RebuildError`]; the generation is of no use then.
    #[must_use]
    fn build(
        rebuild: &Rebuild,
        next: &Connections,
    ) -> impl Future<Output = Result<Built<Self::Facts>, RebuildError>> + Send {
        rebuild.replay::<Self>(next)
    }

    /// Holds it against the log, of which `facts` may already know a part.
    ///
    /// # Errors
    /// [`VerifyError`] when there is no telling.
    fn compare(
        log: &Connections,
        connections: &Connections,
        facts: &mut Self::Facts,
        rebuild: &Rebuild,
    ) -> impl Future<Output = Result<Report, VerifyError>> + Send;
}

/// Why a run was not applied. Nothing of it was, then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Fenced(#[from] Fenced),
    #[error("the read model cannot be written: {0}")]
    Database(#[from] sqlx::Error),
    #[error("position {found} follows {after}: the log has a hole")]
    Hole { after: Position, found: Position },
}

impl From<AdvanceError> for ApplyError {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Fenced(error) => Self::Fenced(error),
            AdvanceError::Database(error) => Self::Database(error),
        }
    }
}

/// Why the projection does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the log cannot be read: {0}")]
    Log(#[source] sqlx::Error),
    #[error(transparent)]
    OtherHistory(#[from] OtherHistory),
    #[error("the read model is at position {at}: {archived}")]
    Archived { at: Position, archived: Archived },
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the log ends before position {0}, which a message carries")]
    Beyond(Position),
    #[error("the read model did not answer within {} s", transaction::TRANSACTION_TIMEOUT.as_secs())]
    Silent,
    #[error("asked to stop before all of it was applied")]
    Stopping,
}

/// A read model that was made from another log than this one is, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the read model is of another history: it is at {0}, which the log does not have; the log was \
     restored from an older backup, or FEED_DATABASE_URL belongs to another log; projector rebuild \
     makes the read models again from this log"
)]
pub struct OtherHistory(pub Mark);

impl ProjectionError {
    /// Whether an operator has to act before another try makes sense.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::OtherHistory(_)
            | Self::Archived { .. }
            | Self::Schema(SchemaError::Newer { .. })
            | Self::Apply(ApplyError::Decode(_) | ApplyError::Hole { .. }) => true,
            Self::Apply(ApplyError::Fenced(_) | ApplyError::Database(_))
            | Self::Log(_)
            | Self::Schema(_)
            | Self::Beyond(_)
            | Self::Silent
            | Self::Stopping => false,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Projection<M> {
    log: Connections,
    database: Connections,
    model: M,
}

impl<M: ReadModel> Projection<M> {
    /// The projection of `log` into `model`, whose tables `database` finds.
    #[must_use]
    pub const fn new(log: Connections, database: Connections, model: M) -> Self {
        Self { log, database, model }
    }

    /// Takes over from whoever projected before.
    ///
    /// **Invariant**: the schema is looked at after the fence was taken. A migration that shuts older releases out also moves
    /// the fence, so no transaction of theirs commits after it.
    ///
    /// # Errors
    /// [`ProjectionError::OtherHistory`] when the read model does not belong to this log, [`ProjectionError::Schema`] when a later
    /// release has made it into what this one must not write, [`ProjectionError::Archived`] when what it needs next is.
    pub async fn take_over(&self) -> Result<Checkpoint, ProjectionError> {
        let checkpoint = checkpoint::take_over(&self.database).await.map_err(ApplyError::from)?;
        M::LAYOUT.schema.may_be_written(&self.database).await?;
        // Before the look at its history, which is not to be seen there.
        ranges::live_after(&self.log, checkpoint.position).await.map_err(|error| match error {
            NotLive::Archived(archived) => {
                ProjectionError::Archived { at: checkpoint.position, archived }
            }
            NotLive::Log(error) => ProjectionError::Log(error),
        })?;
        self.foreign(checkpoint, &[]).await?;
        Ok(checkpoint)
    }

    /// The checkpoint as it is now, whoever wrote it.
    ///
    /// # Errors
    /// [`ProjectionError`] when the read model is away, or does not belong to this log.
    pub async fn checkpoint(&self) -> Result<Checkpoint, ProjectionError> {
        let checkpoint = checkpoint::load(&self.database).await.map_err(ApplyError::from)?;
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
                    projection.position = checkpoint.position.0,
                    slice.first = slice.first().0,
                    projection = M::LAYOUT.projection.name(),
                    "messages are missing; reading their events from the log"
                );
                counter!(GAP_REPAIRS.name, "projection" => M::LAYOUT.projection.name())
                    .increment(1);
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
            self.write(checkpoint, &events).await?;
        }
        Ok(())
    }

    /// Goes one step on with what is under way, if anything is.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    pub async fn go_on(&self, checkpoint: &mut Checkpoint) -> Result<(), ProjectionError> {
        self.model.go_on(checkpoint).await
    }

    /// Waits until there is something to do that no event asks for.
    pub async fn until_due(&self) {
        self.model.until_due().await;
    }

    /// Does a part of that.
    ///
    /// # Errors
    /// [`ProjectionError`]
    pub async fn tend(&self, checkpoint: Checkpoint) -> Result<(), ProjectionError> {
        self.model.tend(checkpoint).await
    }

    async fn write(
        &self,
        checkpoint: &mut Checkpoint,
        events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        if events.is_empty() {
            return Ok(());
        }
        self.model.write(checkpoint, events).await
    }

    async fn apply_run(
        &self,
        checkpoint: &mut Checkpoint,
        run: &mut Run,
    ) -> Result<(), ProjectionError> {
        self.write(checkpoint, &run.events).await?;
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
