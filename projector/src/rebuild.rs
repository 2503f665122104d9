//! Rebuilding: a new generation of a projection beside the live one, made from the log,
//! caught up, compared with the log and with the definition, and put in the place of the live one.
//!
//! **Invariant**: until the swap nothing of the live generation is touched, so a rebuild that ends
//! early, for whatever reason, has changed nothing. What it left is removed by the next one.

use std::time::Duration;

use events::store::fault::is_disk_full;
use events::store::ranges::NotLive;
use events::store::{ConnectError, Connections, history, ranges, read};
use events::{Mark, Position};
use tokio_util::sync::CancellationToken;

use crate::bounds::Bounds;
use crate::checkpoint::{self, Checkpoint};
use crate::generation::{Claim, GenerationError, Incoming, SwapError, Swapped};
use crate::progress::{self, Phase, Progress, Reporter};
use crate::projection::{ApplyError, Projection, ProjectionError, ReadModel};
use crate::verify::{Report, VerifyError};

/// Two that work out what is to be written, one that takes it in, and one for the progress.
const CONNECTIONS: usize = 4;

/// For sorting a new index, per connection: fewer passes over what does not fit into memory.
const INDEX_MEMORY: &str = "256MB";

/// The most events that are applied between two looks at the head of the log.
const CATCH_UP_EVENTS: i64 = 16_384;

/// So close to the head the swap is tried: what is left is applied while the live projector waits.
const CLOSE_EVENTS: i64 = 1_024;

/// For how long the swap is tried while readers or vacuum are in its way.
const SWAP_PATIENCE: Duration = Duration::from_mins(2);

/// Between two tries everyone who had to wait gets through.
const SWAP_PAUSE: Duration = Duration::from_millis(250);

/// How long removing what was built may take: PostgreSQL first ends the statements at work on it.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// When it took longer.
const LEFT_BEHIND: &str = "what was built could not be removed; the next rebuild will do it";

/// Why there is no new generation. The live one goes on as if nothing had been.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    NotLive(#[from] NotLive),
    #[error("the log cannot be read: {0}")]
    Log(#[source] sqlx::Error),
    #[error("the next generation cannot be written: {0}")]
    Database(#[from] sqlx::Error),
    #[error(
        "PostgreSQL's disk is full ({0}); the live generation is unharmed and what was built is \
         removed: free as much space as the read model takes, and run it again"
    )]
    DiskFull(String),
    #[error(
        "the generation before is of another history: it is at {0}, which the log does not have; \
         projector rebuild makes one from this log"
    )]
    OtherHistory(Mark),
    #[error("the new generation differs from the log, so it did not go live")]
    Differs(Box<Report>),
    #[error("it did not go live: {0}; the live generation is as it was")]
    Swap(#[source] SwapError<ProjectionError>),
    #[error("stopped; the live generation is as it was")]
    Stopped,
}

/// A rebuild or rollback that is live.
#[derive(Debug)]
pub struct Rebuilt {
    pub swapped: Swapped,
    pub report: Report,
}

/// A generation that was built.
#[derive(Debug)]
pub struct Built<F> {
    pub checkpoint: Checkpoint,
    /// What was read of the log on the way.
    pub facts: F,
}

/// What a rebuild works on.
#[derive(Debug)]
pub struct Rebuild {
    log: Connections,
    bounds: Bounds,
    progress: Progress,
    shutdown: CancellationToken,
}

impl Rebuild {
    /// A rebuild from `log`, within `bounds`.
    #[must_use]
    pub fn new(
        log: Connections,
        bounds: Bounds,
        progress: Progress,
        shutdown: CancellationToken,
    ) -> Self {
        Self { log, bounds, progress, shutdown }
    }

    pub(crate) const fn log(&self) -> &Connections {
        &self.log
    }

    pub(crate) const fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(crate) const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Builds a generation of `M` and makes it the live one.
    ///
    /// # Errors
    /// [`RebuildError`]; the live generation is as it was, and nothing is left of the new one.
    pub async fn run<M: ReadModel>(&self, mut claim: Claim) -> Result<Rebuilt, RebuildError> {
        let built = self.build_and_put_live::<M>(&mut claim).await;
        if built.is_err() {
            match tokio::time::timeout(REMOVE_TIMEOUT, claim.drop_next()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "{LEFT_BEHIND}"),
                Err(_) => tracing::warn!("{LEFT_BEHIND}"),
            }
        }
        built.map_err(RebuildError::name_a_full_disk)
    }

    /// Brings the generation before up to date and makes it the live one again.
    ///
    /// # Errors
    /// [`RebuildError`]; the live generation is as it was.
    pub async fn roll_back<M: ReadModel>(&self, mut claim: Claim) -> Result<Rebuilt, RebuildError> {
        let Incoming { schema, database } = claim.open_previous().await?;
        let previous =
            database.with_settings(settings::<M>()).for_long_work().connect(CONNECTIONS).await?;
        let checkpoint = checkpoint::take_over(&previous).await?;
        ranges::live_after(&self.log, checkpoint.position).await?;
        let mark = checkpoint.mark();
        if !history::foreign(&self.log, &[mark]).await.map_err(RebuildError::Log)?.is_empty() {
            return Err(RebuildError::OtherHistory(mark));
        }
        let reporter = Reporter::start(self.progress.clone(), None);
        let built = Built { checkpoint, facts: M::Facts::default() };
        let rolled_back = self.put_live::<M>(&mut claim, &schema, &previous, built).await;
        reporter.stop().await;
        rolled_back.map_err(RebuildError::name_a_full_disk)
    }

    async fn build_and_put_live<M: ReadModel>(
        &self,
        claim: &mut Claim,
    ) -> Result<Rebuilt, RebuildError> {
        ranges::live_after(&self.log, Position::START).await?;
        let Incoming { schema, database } = claim.make_next().await?;
        let next =
            database.with_settings(settings::<M>()).for_long_work().connect(CONNECTIONS).await?;
        progress::make_table(&next).await?;
        let reporter = Reporter::start(self.progress.clone(), Some(next.clone()));
        let rebuilt = match self.unless_stopped(M::build(self, &next)).await {
            Ok(built) => self.put_live::<M>(claim, &schema, &next, built).await,
            Err(error) => Err(error),
        };
        reporter.stop().await;
        rebuilt
    }

    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, RebuildError>>,
    ) -> Result<T, RebuildError> {
        tokio::select! {
            end = work => end,
            () = self.shutdown.cancelled() => Err(RebuildError::Stopped),
        }
    }

    /// Makes the empty generation `next` of `M` what it is at the head of the log, by the statements of the live projection.
    ///
    /// # Errors
    /// [`RebuildError`]
    pub(crate) async fn replay<M: ReadModel>(
        &self,
        next: &Connections,
    ) -> Result<Built<M::Facts>, RebuildError> {
        let model = M::at(next, self.bounds, &self.shutdown);
        let projection = Projection::new(self.log.clone(), next.clone(), model);
        let mut checkpoint = checkpoint::load(next).await?;
        let head = self.sight_head().await?;
        self.progress.begin(Phase::Replay, head.0.unsigned_abs());
        while checkpoint.position < head {
            let before = checkpoint.position;
            let to = Position(head.0.min(before.0 + CATCH_UP_EVENTS));
            follow_log(&projection, &mut checkpoint, to).await?;
            self.progress.reach(to, usize::try_from(to.0 - before.0).unwrap_or_default());
        }
        Ok(Built { checkpoint, facts: M::Facts::default() })
    }

    /// Catches up with the head, compares, and swaps. `incoming` is the generation in `schema` that was `built`.
    ///
    /// # Errors
    /// [`RebuildError`]; the live generation is as it was.
    pub async fn put_live<M: ReadModel>(
        &self,
        claim: &mut Claim,
        schema: &str,
        incoming: &Connections,
        built: Built<M::Facts>,
    ) -> Result<Rebuilt, RebuildError> {
        let Built { mut checkpoint, mut facts } = built;
        let (log, progress) = (&self.log, &self.progress);
        let model = M::at(incoming, self.bounds, &self.shutdown);
        let projection = Projection::new(log.clone(), incoming.clone(), model);
        let report = self
            .unless_stopped(async {
                self.catch_up(&projection, &mut checkpoint).await?;
                Ok(M::compare(log, incoming, &mut facts, self).await?)
            })
            .await?;
        if !report.is_clean() {
            return Err(RebuildError::Differs(Box::new(report)));
        }
        let deadline = tokio::time::Instant::now() + SWAP_PATIENCE;
        loop {
            self.unless_stopped(self.catch_up(&projection, &mut checkpoint)).await?;
            progress.begin(Phase::Swap, 1);
            // To its end, whatever happens: halfway nobody could say which generation is live.
            let swap = claim.swap(schema, async |live| {
                let to = self.to_catch_up_with(live).await?;
                follow_log(&projection, &mut checkpoint, to).await?;
                Ok(to)
            });
            match swap.await {
                Ok(swapped) => {
                    progress.advance(1);
                    progress.end();
                    return Ok(Rebuilt { swapped, report });
                }
                Err(error @ (SwapError::Busy | SwapError::Behind))
                    if tokio::time::Instant::now() < deadline =>
                {
                    tracing::debug!(%error, "not swapped yet; trying again");
                    self.unless_stopped(async {
                        tokio::time::sleep(SWAP_PAUSE).await;
                        checkpoint = checkpoint::load(incoming).await?;
                        Ok(())
                    })
                    .await?;
                }
                Err(error) => return Err(RebuildError::Swap(error)),
            }
        }
    }

    async fn catch_up<M: ReadModel>(
        &self,
        projection: &Projection<M>,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), RebuildError> {
        let mut head = self.sight_head().await?;
        if head.0 - checkpoint.position.0 <= CLOSE_EVENTS {
            return Ok(());
        }
        let began_at = checkpoint.position.0;
        self.progress.begin(Phase::CatchUp, (head.0 - began_at).unsigned_abs());
        while head.0 - checkpoint.position.0 > CLOSE_EVENTS {
            let before = checkpoint.position;
            let to = Position(head.0.min(before.0 + CATCH_UP_EVENTS));
            follow_log(projection, checkpoint, to).await?;
            let applied = usize::try_from(to.0 - before.0).unwrap_or_default();
            self.progress.reach(to, applied);
            head = self.sight_head().await?;
            self.progress.expect((head.0 - began_at).unsigned_abs());
        }
        Ok(())
    }

    /// How far a generation has to come to take the place of a live one at `live`: there, or, where that
    /// is of another history and nobody reads it any more, to the end of the log.
    async fn to_catch_up_with(&self, live: Mark) -> Result<Position, ProjectionError> {
        let foreign = history::foreign(&self.log, &[live]).await.map_err(ProjectionError::Log)?;
        if foreign.is_empty() {
            return Ok(live.position);
        }
        tracing::warn!(live = %live, "the live generation is of another history and is replaced");
        read::head(&self.log).await.map_err(ProjectionError::Log)
    }

    /// The head of the log, for the progress as well.
    ///
    /// # Errors
    /// [`RebuildError::Log`] when the log is away.
    pub(crate) async fn sight_head(&self) -> Result<Position, RebuildError> {
        let head = read::head(&self.log).await.map_err(RebuildError::Log)?;
        self.progress.sight(head);
        Ok(head)
    }
}

/// Applies the log up to `to`. Where the checkpoint is not where this process believes it to be, because a commit came about of
/// which it was not told, it goes on from where it is: nobody else can write this generation.
pub(crate) async fn follow_log<M: ReadModel>(
    projection: &Projection<M>,
    checkpoint: &mut Checkpoint,
    to: Position,
) -> Result<(), ProjectionError> {
    loop {
        match projection.apply_from_log(checkpoint, to).await {
            Err(ProjectionError::Apply(ApplyError::Fenced(_))) => {
                *checkpoint = projection.checkpoint().await?;
            }
            end => return end,
        }
    }
}

/// How sessions behave that write a generation which is not live. Their commits need not wait for
/// the disk: that of the swap does, and what was before it is on the disk with it.
fn settings<M: ReadModel>() -> impl Iterator<Item = (&'static str, &'static str)> {
    let bulk = [("synchronous_commit", "off"), ("maintenance_work_mem", INDEX_MEMORY)];
    M::settings().chain(bulk)
}

impl RebuildError {
    /// A full disk comes as an error of whatever statement met it.
    fn name_a_full_disk(self) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&self);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref()
                && is_disk_full(error)
            {
                return Self::DiskFull(error.to_string());
            }
            source = error.source();
        }
        self
    }
}
