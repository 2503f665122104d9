//! A projection: takes slices in whatever order and number they come, and keeps its read model exactly at its checkpoint.
//!
//! What one makes of events is a [`ReadModel`]. All else is the same for each: consuming, the lead, the checkpoint,
//! generations, rebuilding.

mod applied;
mod error;
mod transaction;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::store::ranges::NotLive;
use events::store::{Connections, history, ranges, read};
use events::{Mark, Position, RecordedEvent, Slice};
use metrics::counter;
use tokio_util::sync::CancellationToken;

use crate::bounds::{APPLY_MAX_EVENTS, Bounds};
use crate::checkpoint::{self, Checkpoint};
use crate::generation::Layout;
use crate::metrics::GAP_REPAIRS;
use crate::rebuild::{Built, Rebuild, RebuildError};
use crate::verify::{Report, VerifyError};
pub(crate) use applied::{add_to_traces, measure_applied, run_after};
pub use error::{ApplyError, OtherHistory, ProjectionError};
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
