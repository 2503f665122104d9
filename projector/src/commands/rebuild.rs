//! `projector rebuild` and `projector rollback`: another generation of a projection goes live.

use std::io::Write;

use events::ProjectionName;
use events::metrics;
use events::runtime::{instance_name, shutdown_on_signal};
use events::store::schema::Schema;
use indicatif::HumanCount;
use tokio_util::sync::CancellationToken;

use super::{CommandError, asked_for, verify};
use crate::config::{RebuildArguments, RebuildWith, RollbackArguments};
use crate::counts::Counts;
use crate::feed::HomeFeeds;
use crate::generation::Claim;
use crate::metrics::OF_THE_PROJECTOR;
use crate::output::print;
use crate::progress::{Phase, Progress};
use crate::projection::ReadModel;
use crate::rebuild::{Rebuild, RebuildError, Rebuilt};

/// Connections to the log: one reads, one looks at the head.
const LOG_CONNECTIONS: usize = 2;

/// Builds a generation of each projection from the log and makes it live.
///
/// # Errors
/// [`CommandError`]; the live generation of that projection is as it was then.
pub async fn rebuild(arguments: RebuildArguments) -> Result<(), CommandError> {
    let commanded = Commanded::new(arguments.with)?;
    for projection in asked_for(&arguments.projections) {
        match projection {
            ProjectionName::Feed => commanded.rebuild::<HomeFeeds>().await?,
            ProjectionName::Counts => commanded.rebuild::<Counts>().await?,
        }
    }
    Ok(())
}

/// Brings the generation before up to date and makes it live again.
///
/// # Errors
/// [`CommandError`]; the live generation is as it was then.
pub async fn roll_back(arguments: RollbackArguments) -> Result<(), CommandError> {
    let commanded = Commanded::new(arguments.with)?;
    match arguments.projection {
        ProjectionName::Feed => commanded.roll_back::<HomeFeeds>().await,
        ProjectionName::Counts => commanded.roll_back::<Counts>().await,
    }
}

/// What was asked for, of whichever projection.
struct Commanded {
    with: RebuildWith,
    shutdown: CancellationToken,
}

impl Commanded {
    fn new(with: RebuildWith) -> Result<Self, CommandError> {
        if let Some(address) = with.metrics_bind {
            metrics::start(OF_THE_PROJECTOR, Some(address))?;
        }
        let shutdown = shutdown_on_signal().map_err(CommandError::Signals)?;
        Ok(Self { with, shutdown })
    }

    async fn rebuild<M: ReadModel>(&self) -> Result<(), CommandError> {
        let (rebuild, claim, progress) = self.prepare::<M>("rebuild", Phase::Replay).await?;
        let rebuilt = rebuild.run::<M>(claim).await;
        conclude(rebuilt, &progress, "rebuilt")
    }

    async fn roll_back<M: ReadModel>(&self) -> Result<(), CommandError> {
        let (rebuild, claim, progress) = self.prepare::<M>("rollback", Phase::CatchUp).await?;
        let rebuilt = rebuild.roll_back::<M>(claim).await;
        conclude(rebuilt, &progress, "rolled back")
    }

    async fn prepare<M: ReadModel>(
        &self,
        role: &str,
        first: Phase,
    ) -> Result<(Rebuild, Claim, Progress), CommandError> {
        let database = self.with.databases.feed_database()?.of(M::LAYOUT.projection);
        let log =
            self.with.databases.log_database()?.for_long_work().connect(LOG_CONNECTIONS).await?;
        if !Schema::Log.is_current(&log).await.map_err(CommandError::Log)? {
            return Err(CommandError::NoLog);
        }
        let live = database.connect(1).await?;
        M::LAYOUT.schema.migrate(&live).await?;
        live.close_idle();

        let claim = Claim::take(&database, M::LAYOUT, &instance_name(role))
            .await
            .map_err(RebuildError::from)?;
        let progress = Progress::starting(first);
        let (bounds, shutdown) = (self.with.feeds.bounds(), self.shutdown.clone());
        let rebuild = Rebuild::new(log, bounds, progress.clone(), shutdown);
        Ok((rebuild, claim, progress))
    }
}

fn conclude(
    rebuilt: Result<Rebuilt, RebuildError>,
    progress: &Progress,
    verb: &str,
) -> Result<(), CommandError> {
    let Rebuilt { swapped, report } = match rebuilt {
        Err(RebuildError::Differs(report)) => {
            verify::print_differences(&report);
            return Err(RebuildError::Differs(report).into());
        }
        rebuilt => rebuilt?,
    };
    let seconds: f64 = progress.finished().iter().map(|(_, took)| took.as_secs_f64()).sum();
    let rows = report.rows();
    tracing::info!(
        projection = report.projection,
        projection.generation = swapped.generation,
        projection.position = swapped.position.0,
        projection.rows = rows,
        elapsed_s = seconds,
        "{verb}: another generation is live"
    );
    print(|output| {
        writeln!(
            output,
            "{verb} {}: generation {} is live at position {}, generation {} is kept\n\
         {} events and {} {} in {seconds:.1} s, compared with the log before it went live",
            report.projection,
            swapped.generation,
            swapped.position,
            swapped.replaced,
            HumanCount(report.events),
            HumanCount(rows),
            report.unit(),
        )
    });
    Ok(())
}
