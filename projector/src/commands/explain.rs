//! `projector explain`: why a tweet is in a home feed or not.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table};
use events::explain::Step;
use events::store::explain::{Question, STREAM_EVENTS_MAX};
use events::store::{Connections, history};
use events::{Explanation, Mark, UserId};
use serde::Serialize;

use super::{CommandError, STATEMENT_TIMEOUT, empty_table};
use crate::config::ExplainArguments;
use crate::feed::read_model::holding::{self, Holding, Holds};
use crate::output::{print, print_json};
use crate::projection::OtherHistory;

/// Everything that `explain` shows.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    explanation: Explanation,
    /// Nothing when a past position was asked about: the read model is at one, and that moves on.
    read_model: Option<ReadModel>,
}

/// What the read model has, beside what the log says that it should have.
#[derive(Debug, Serialize)]
struct ReadModel {
    #[serde(flatten)]
    holding: Holding,
    /// Events in the log that it has not applied yet.
    lag_events: i64,
    present: bool,
    /// Whether the tweet is in the feed by the log, at the position of the read model.
    agrees: bool,
    sentence: String,
}

/// Prints why a tweet is in a feed or not.
///
/// # Errors
/// [`CommandError`] when a database is away, when the log does not reach the position, or, after
/// everything is printed, when the read model differs from the log.
pub async fn explain(arguments: ExplainArguments) -> Result<(), CommandError> {
    let log_database = arguments.databases.log_database()?;
    let log = log_database.with_statement_timeout(STATEMENT_TIMEOUT).connect(1).await?;
    let report = match arguments.at {
        Some(at) => {
            let question = Question::ask(&log, arguments.user, arguments.tweet).await?;
            Report { explanation: question.answer(&log, at).await?, read_model: None }
        }
        None => now(&log, &arguments).await?,
    };

    if arguments.json {
        print_json(&report);
    } else {
        print(|output| write_text(output, &report));
    }
    match report.read_model {
        Some(ReadModel { agrees: false, holding, .. }) => {
            Err(CommandError::FeedDiffers(holding.position))
        }
        _ => Ok(()),
    }
}

/// At the end of the log, with the read model beside it. That is looked at first, so that the log
/// reaches at least as far.
async fn now(log: &Connections, arguments: &ExplainArguments) -> Result<Report, CommandError> {
    let ExplainArguments { databases, user, tweet, .. } = arguments;
    let feed_database = databases.feed_database()?;
    let feed = feed_database.with_statement_timeout(STATEMENT_TIMEOUT).connect(1).await?;
    let holding = holding::look(&feed, *user, *tweet).await.map_err(CommandError::Feed)?;
    let question = Question::ask(log, *user, *tweet).await?;
    let (checkpoint, head) = (holding.position, question.head);
    let mark = Mark { position: checkpoint, event_id: holding.event_id };
    if !history::foreign(log, &[mark]).await.map_err(CommandError::Log)?.is_empty() {
        return Err(CommandError::OtherHistory(OtherHistory(mark)));
    }
    let explanation = question.answer(log, head).await?;
    let read_model = if checkpoint == head {
        ReadModel::beside(holding, &explanation, &explanation)
    } else {
        ReadModel::beside(holding, &question.answer(log, checkpoint).await?, &explanation)
    };
    Ok(Report { explanation, read_model: Some(read_model) })
}

impl ReadModel {
    /// `expected` is what the log says at the position of the read model, `now` at its end.
    fn beside(holding: Holding, expected: &Explanation, now: &Explanation) -> Self {
        let lag_events = now.at.0 - holding.position.0;
        let present = holding.holds.is_read();
        let agrees = present == expected.present;
        let mut sentences = vec![at(holding, lag_events), has(holding, now.user)];
        if agrees {
            sentences.push("That agrees with the log.".to_owned());
        } else {
            sentences.push(format!("That differs from the log. {}", expected.verdict));
            sentences.push(
                "projector verify shows all that differs, projector rebuild makes the read model anew."
                    .to_owned(),
            );
        }
        if expected.present != now.present {
            let will_be = if now.present { "in the feed" } else { "out of it" };
            sentences.push(format!("Once it has applied the rest, the tweet is {will_be}."));
        }
        Self { holding, lag_events, present, agrees, sentence: sentences.join(" ") }
    }
}

fn at(holding: Holding, lag_events: i64) -> String {
    let Holding { generation, position, .. } = holding;
    let behind = match lag_events {
        0 => String::new(),
        1 => ", 1 event behind".to_owned(),
        more => format!(", {more} events behind"),
    };
    format!("The read model (generation {generation}) is at position {position}{behind}.")
}

fn has(holding: Holding, user: UserId) -> String {
    match holding.holds {
        Holds::Row => "It has the tweet as a row of feed_items.".to_owned(),
        Holds::RowPassedOver => {
            "It has a row of feed_items that reads pass over, because the tweet, \
             its author or the reader is deleted."
                .to_owned()
        }
        Holds::BelowFloor => format!(
            "It keeps no row for the tweet, because the feed of user {user} has its floor at {}: what is \
             below is read from the authors.",
            holding.floor
        ),
        Holds::Dormant => format!(
            "It keeps no rows for user {user}, who has not read for long: each page is read from the authors until the rows come back."
        ),
        Holds::Pulled => format!(
            "It keeps no row for the tweet, because its author had {} readers or more when it was written: such a tweet is pulled, \
             each page reads it from the author.",
            holding.pull_from.unwrap_or_default()
        ),
        Holds::FanOutUnderWay => format!(
            "It has no row for the tweet yet, because the fan-out to its many readers is under way and has yet to come \
             to user {user}, who reads it from the author meanwhile."
        ),
        Holds::Nothing => "It does not have the tweet in this feed.".to_owned(),
    }
}

fn write_text(output: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { explanation, read_model } = report;
    writeln!(output, "{}", explanation.verdict)?;
    if !explanation.steps.is_empty() {
        writeln!(output, "{}", table(&explanation.steps))?;
    }
    if explanation.earlier_left_out > 0 {
        writeln!(
            output,
            "Of the follows and unfollows the newest {STREAM_EVENTS_MAX} are shown; {} before them are \
             left out.",
            explanation.earlier_left_out
        )?;
    }
    if let Some(read_model) = read_model {
        writeln!(output, "{}", read_model.sentence)?;
    }
    Ok(())
}

fn table(steps: &[Step]) -> Table {
    let mut table = empty_table();
    table.set_header(["at", "recorded (UTC)", "event", ""]);
    for step in steps {
        table.add_row([
            step.position.to_string(),
            step.recorded_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            step.kind.clone(),
            step.sentence.clone(),
        ]);
    }
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
