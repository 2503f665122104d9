//! `projector verify`: everything against the log.

use std::io::{self, Write};

use events::store::database::PLANNED_EACH_TIME;
use indicatif::HumanCount;

use super::CommandError;
use crate::config::VerifyArguments;
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
    let log = log_database.connect(CONNECTIONS).await?;
    let feed_database = arguments.databases.feed_database()?.with_settings(verify::settings());
    let feed = feed_database.connect(CONNECTIONS).await?;

    let progress = Progress::starting(Phase::CheckLog);
    let reporter = (!arguments.json).then(|| Reporter::start(progress.clone(), None));
    let report = verify::verify(&log, &feed, arguments.differences, &progress).await;
    progress.end();
    if let Some(reporter) = reporter {
        reporter.stop().await;
    }
    let report = report?;
    if arguments.json {
        print_json(&report);
    } else {
        print_differences(&report);
        print(|output| write_counts(output, &report));
    }
    if report.is_clean() { Ok(()) } else { Err(CommandError::Differs(report.differences)) }
}

fn write_counts(output: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(
        output,
        "compared generation {} at position {}: {} events, {} users, {} tweets, {} follows, {} feed rows",
        report.generation,
        report.position,
        HumanCount(report.events),
        HumanCount(report.users),
        HumanCount(report.tweets),
        HumanCount(report.follows),
        HumanCount(report.feed_rows),
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
