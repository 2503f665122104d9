//! `projector rebuild` and `projector rollback`: another generation of the read model goes live.

use std::io::Write;

use events::metrics;
use events::runtime::{instance_name, shutdown_on_signal};
use events::store::schema::Schema;
use indicatif::HumanCount;

use super::{CommandError, verify};
use crate::config::RebuildArguments;
use crate::generation::Claim;
use crate::metrics::OF_THE_PROJECTOR;
use crate::output::print;
use crate::progress::{Phase, Progress};
use crate::rebuild::{Rebuild, RebuildError, Rebuilt};

/// Connections to the log: one reads, one looks at the head.
const LOG_CONNECTIONS: usize = 2;

/// Builds a generation from the log and makes it live.
///
/// # Errors
/// [`CommandError`]; the live generation is as it was then.
pub async fn rebuild(arguments: RebuildArguments) -> Result<(), CommandError> {
    let (rebuild, claim, progress) = prepare(arguments, "rebuild", Phase::Replay).await?;
    let rebuilt = rebuild.run(claim).await;
    conclude(rebuilt, &progress, "rebuilt")
}

/// Brings the generation before up to date and makes it live again.
///
/// # Errors
/// [`CommandError`]; the live generation is as it was then.
pub async fn roll_back(arguments: RebuildArguments) -> Result<(), CommandError> {
    let (rebuild, claim, progress) = prepare(arguments, "rollback", Phase::CatchUp).await?;
    let rebuilt = rebuild.roll_back(claim).await;
    conclude(rebuilt, &progress, "rolled back")
}

async fn prepare(
    arguments: RebuildArguments,
    role: &str,
    first: Phase,
) -> Result<(Rebuild, Claim, Progress), CommandError> {
    let log_database = arguments.databases.log_database()?;
    let feed_database = arguments.databases.feed_database()?;
    if let Some(address) = arguments.metrics_bind {
        metrics::start(OF_THE_PROJECTOR, Some(address))?;
    }
    let shutdown = shutdown_on_signal().map_err(CommandError::Signals)?;
    let log = log_database.connect(LOG_CONNECTIONS).await?;
    if !Schema::Log.is_current(&log).await.map_err(CommandError::Log)? {
        return Err(CommandError::NoLog);
    }
    let live = feed_database.connect(1).await?;
    Schema::Feed.migrate(&live).await?;
    live.close_idle();

    let claim =
        Claim::take(&feed_database, &instance_name(role)).await.map_err(RebuildError::from)?;
    let progress = Progress::starting(first);
    let rebuild = Rebuild::new(log, arguments.feeds.bounds(), progress.clone(), shutdown);
    Ok((rebuild, claim, progress))
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
    let rows = report.feed_rows;
    tracing::info!(
        feed.generation = swapped.generation,
        feed.position = swapped.position.0,
        feed.rows = rows,
        elapsed_s = seconds,
        "{verb}: another generation is live"
    );
    print(|output| {
        writeln!(
            output,
            "{verb}: generation {} is live at position {}, generation {} is kept\n\
         {} events and {} feed rows in {seconds:.1} s, compared with the log before it went live",
            swapped.generation,
            swapped.position,
            swapped.replaced,
            HumanCount(report.events),
            HumanCount(rows),
        )
    });
    Ok(())
}
