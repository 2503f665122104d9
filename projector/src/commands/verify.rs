//! `projector verify`: everything against the log.

use std::io::{self, Write};

use events::ProjectionName;
use events::store::Connections;
use events::store::database::PLANNED_EACH_TIME;
use indicatif::HumanCount;

use super::{CommandError, asked_for};
use crate::config::VerifyArguments;
use crate::counts;
use crate::output::{print, print_json};
use crate::progress::{Phase, Progress, Reporter};
use crate::verify::{self, Report};

/// Connections to each database: two compare feeds, one looks at the checkpoint.
const CONNECTIONS: usize = 3;

/// Compares, and prints what differs.
///
/// # Errors
/// [`CommandError::Differs`] when something does.
pub async fn verify(arguments: VerifyArguments) -> Result<(), CommandError> {
    // All of the log and all accounts are read, so that reading whole tables is right.
    let log_database = arguments.databases.log_database()?.with_settings(PLANNED_EACH_TIME);
    let log = log_database.for_long_work().connect(CONNECTIONS).await?;
    let progress = Progress::starting(Phase::CheckLog);
    let reporter = (!arguments.json).then(|| Reporter::start(progress.clone(), None));
    let reports = reports(&arguments, &log, &progress).await;
    progress.end();
    if let Some(reporter) = reporter {
        reporter.stop().await;
    }
    let reports = reports?;
    if arguments.json {
        print_json(&reports);
    } else {
        for report in &reports {
            print_differences(report);
            print(|output| write_counts(output, report));
        }
    }
    let differences = reports.iter().map(|report| report.differences).sum();
    if differences == 0 { Ok(()) } else { Err(CommandError::Differs(differences)) }
}

/// Of each projection that was asked for.
async fn reports(
    arguments: &VerifyArguments,
    log: &Connections,
    progress: &Progress,
) -> Result<Vec<Report>, CommandError> {
    let database = arguments.databases.feed_database()?;
    let listed = arguments.differences;
    let mut reports = Vec::new();
    for projection in asked_for(&arguments.projections) {
        let database = database.clone().of(projection);
        let compared = match projection {
            ProjectionName::Feed => {
                let feed = database
                    .with_settings(verify::settings())
                    .for_long_work()
                    .connect(CONNECTIONS)
                    .await?;
                verify::verify(log, &feed, listed, progress).await
            }
            ProjectionName::Counts => {
                let connections = database.for_long_work().connect(1).await?;
                counts::compare(log, &connections, listed, progress).await
            }
        };
        reports.push(compared?);
    }
    Ok(reports)
}

fn write_counts(output: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(
        output,
        "compared {}, generation {} at position {}: {} events, {} users, {} tweets, {} follows{}",
        report.projection,
        report.generation,
        report.position,
        HumanCount(report.events),
        HumanCount(report.users),
        HumanCount(report.tweets),
        HumanCount(report.follows),
        if report.projection == ProjectionName::Feed.name() {
            format!(", {} feed rows", HumanCount(report.feed_rows))
        } else {
            String::new()
        },
    )?;
    if report.is_clean() { writeln!(output, "no differences") } else { Ok(()) }
}

/// Prints the differences that are listed, a line each.
pub(super) fn print_differences(report: &Report) {
    print(|output| {
        for difference in &report.listed {
            writeln!(output, "{difference}")?;
        }
        let more = report.differences - report.listed.len() as u64;
        if more > 0 {
            writeln!(output, "and {} more", HumanCount(more))?;
        }
        Ok(())
    });
}
