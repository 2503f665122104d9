//! `projector status`: how far everything is, what is wrong, and what to do about it.

mod look;
mod table;
mod wrong;

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use console::Term;
use events::amqp::Broker;
use events::projection::ProjectionName;
use events::runtime::shutdown_on_signal;

use super::{CommandError, STATEMENT_TIMEOUT};
use crate::config::StatusArguments;
use crate::output::{print, print_json, print_json_line};
use crate::projection::OtherHistory;
use look::{Looking, Status};

/// Prints how far everything is: once, or again and again.
///
/// # Errors
/// [`CommandError`] when a database is away, or, after everything is printed, when the read model is of
/// another history or something is behind. A broker that is away is part of the answer.
pub async fn status(arguments: StatusArguments) -> Result<(), CommandError> {
    let log_database =
        arguments.databases.log_database()?.with_statement_timeout(STATEMENT_TIMEOUT);
    let feed_database =
        arguments.databases.feed_database()?.with_statement_timeout(STATEMENT_TIMEOUT);
    let broker = Broker::parse(&arguments.amqp_url)?;
    let behind_after = arguments.behind_after as f64;
    let (log, feed) = (log_database.connections(1), feed_database.connections(1));
    let counts = feed_database.clone().of(ProjectionName::Counts).connections(1);
    let looking = Looking { log, feed, counts, broker, behind_after };
    if let Some(seconds) = arguments.watch {
        return watch(&looking, Duration::from_secs(seconds), arguments.json).await;
    }
    log_database.connect(1).await?.close_idle();
    feed_database.connect(1).await?.close_idle();

    let status = looking.look().await?;
    if arguments.json {
        print_json(&status);
    } else {
        print(|output| write!(output, "{}", table::of(&status)));
    }
    status.verdict(behind_after)
}

/// Looks again and again until it is asked to stop. What cannot be looked at is said in its place: that is when one wants to
/// watch.
async fn watch(looking: &Looking, every: Duration, json: bool) -> Result<(), CommandError> {
    let stop = shutdown_on_signal().map_err(CommandError::Signals)?;
    let screen = stdout().is_terminal().then(Term::stdout);
    while !stop.is_cancelled() {
        let found = tokio::select! {
            found = looking.look() => found,
            () = stop.cancelled() => return Ok(()),
        };
        match found {
            Ok(status) if json => print_json_line(&status),
            Ok(status) => show(screen.as_ref(), &table::of(&status)),
            Err(error) if json => tracing::warn!(%error, "could not look"),
            Err(error) => show(screen.as_ref(), &format!("could not look: {error}\n")),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Prints `text` in the place of what was there before, or below it where there is no screen.
fn show(screen: Option<&Term>, text: &str) {
    print(|output| {
        if let Some(screen) = screen {
            screen.clear_screen()?;
        }
        write!(output, "{text}")
    });
}

impl Status {
    /// What a monitor should know of.
    fn verdict(&self, behind_after: f64) -> Result<(), CommandError> {
        for found in self.projections() {
            if !found.is_of_this_log {
                return Err(OtherHistory(found.mark).into());
            }
        }
        let projections =
            self.projections().map(|found| (found.projection.name(), found.lag_seconds));
        for (what, seconds) in
            std::iter::once(("the relay", self.relay.lag_seconds)).chain(projections)
        {
            if seconds > behind_after {
                return Err(CommandError::Behind { what, seconds });
            }
        }
        Ok(())
    }
}
