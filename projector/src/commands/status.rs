//! `projector status`: how far everything is.

use std::io::Write;

use chrono::{DateTime, Utc};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use events::amqp::{self, Broker, BrokerError, Queue};
use events::store::{Connections, history, outbox, read};
use events::{Clock, Mark, Position};
use serde::Serialize;

use super::{CommandError, STATEMENT_TIMEOUT, TABLE_WIDTH};
use crate::config::StatusArguments;
use crate::consume::lead;
use crate::output::{print, print_json};
use crate::progress::{self, Stored};
use crate::projection::OtherHistory;
use crate::read_model::fan_out;
use crate::{checkpoint, generation};

/// Everything that `status` shows.
#[derive(Debug, Serialize)]
struct Status {
    log: LogStatus,
    relay: RelayStatus,
    broker: BrokerStatus,
    feed: FeedStatus,
    /// `None` while no generation is being built and none was left unfinished.
    rebuild: Option<RebuildStatus>,
}

#[derive(Debug, Serialize)]
struct LogStatus {
    head: Position,
}

#[derive(Debug, Serialize)]
struct RelayStatus {
    position: Position,
    /// Events in the log that are not published yet.
    lag_events: i64,
    lag_seconds: f64,
    /// The relay that leads; `None` while none does.
    leader: Option<String>,
    fence: i64,
}

/// Messages that wait; `None` when the broker or the queue is not there.
#[derive(Debug, Serialize)]
struct BrokerStatus {
    reachable: bool,
    /// Why it is not.
    error: Option<String>,
    queue_depth: Option<u32>,
    dead_letters: Option<u32>,
}

#[derive(Debug, Serialize)]
struct FeedStatus {
    generation: i32,
    position: Position,
    #[serde(skip)]
    mark: Mark,
    /// Events in the log that are not readable yet.
    lag_events: i64,
    lag_seconds: f64,
    fence: i64,
    /// Whether what has been applied is of the log's history.
    is_of_this_log: bool,
    /// What a rollback would go back to.
    previous_generation: Option<i32>,
    /// Tweets that have yet to come to some of their many readers as rows; those read them from their authors.
    fan_outs: i64,
    /// The projector that leads; `None` while none does.
    projector: Option<String>,
    /// What it goes by: `messages`, or the `log` itself because RabbitMQ brings nothing.
    follows: String,
}

#[derive(Debug, Serialize)]
struct RebuildStatus {
    /// The number of the generation that is being built.
    generation: i32,
    /// Who builds it; `None` when it was left unfinished.
    by: Option<String>,
    /// How far it had come when that was stored last.
    progress: Option<Stored>,
}

/// Prints how far everything is.
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
    let log = log_database.connect(1).await?;
    let feed = feed_database.connect(1).await?;
    let status = look(&log, &feed, &broker).await?;

    if arguments.json {
        print_json(&status);
    } else {
        print(|output| writeln!(output, "{}", table(&status)));
    }
    status.verdict(arguments.behind_after as f64)
}

impl Status {
    /// What a monitor should know of.
    fn verdict(&self, behind_after: f64) -> Result<(), CommandError> {
        let Self { relay, feed, .. } = self;
        if !feed.is_of_this_log {
            return Err(OtherHistory(feed.mark).into());
        }
        for (what, seconds) in
            [("the relay", relay.lag_seconds), ("the read model", feed.lag_seconds)]
        {
            if seconds > behind_after {
                return Err(CommandError::Behind { what, seconds });
            }
        }
        Ok(())
    }
}

/// Looks from the end of the way to its start, so that nothing seems to be behind only because it
/// was looked at first.
async fn look(
    log: &Connections,
    feed: &Connections,
    broker: &Broker,
) -> Result<Status, CommandError> {
    let broker = look_at_broker(broker).await;
    let checkpoint = checkpoint::load(feed).await.map_err(CommandError::Feed)?;
    let fan_outs = match checkpoint.under_way {
        Some(under_way) => fan_out::count(feed, under_way).await.map_err(CommandError::Feed)?,
        None => 0,
    };
    let led = lead::load(feed).await.map_err(CommandError::Feed)?;
    let aside = generation::aside(feed).await.map_err(CommandError::Feed)?;
    let rebuild = look_at_rebuild(feed, aside.next).await.map_err(CommandError::Feed)?;
    let outbox = outbox::load(log).await.map_err(CommandError::Log)?;
    let head = read::head(log).await.map_err(CommandError::Log)?;
    let mark = checkpoint.mark();
    let foreign = history::foreign(log, &[mark]).await.map_err(CommandError::Log)?;
    let is_of_this_log = foreign.is_empty();
    let relay_seconds = waiting_seconds(log, outbox.position).await?;
    let feed_seconds = waiting_seconds(log, checkpoint.position).await?;
    Ok(Status {
        log: LogStatus { head },
        relay: RelayStatus {
            position: outbox.position,
            lag_events: head.0 - outbox.position.0,
            lag_seconds: relay_seconds,
            leader: outbox.leader.filter(|_| outbox.led),
            fence: outbox.fence,
        },
        broker,
        feed: FeedStatus {
            generation: checkpoint.generation,
            position: checkpoint.position,
            mark,
            is_of_this_log,
            lag_events: head.0 - checkpoint.position.0,
            lag_seconds: feed_seconds,
            fence: checkpoint.fence,
            previous_generation: aside.previous,
            fan_outs,
            projector: led.holder,
            follows: led.follows,
        },
        rebuild,
    })
}

async fn look_at_rebuild(
    feed: &Connections,
    next: Option<i32>,
) -> Result<Option<RebuildStatus>, sqlx::Error> {
    let Some(generation) = next else { return Ok(None) };
    let by = generation::claimed_by(feed).await?;
    let progress = progress::stored(feed).await?;
    Ok(Some(RebuildStatus { generation, by, progress }))
}

/// For how long the first event after `position` has been waiting.
async fn waiting_seconds(log: &Connections, position: Position) -> Result<f64, CommandError> {
    let since: Option<DateTime<Utc>> =
        read::recorded_at(log, position.next()).await.map_err(CommandError::Log)?;
    let waiting = since.map(|since| Clock::system().now() - since);
    Ok(waiting.map_or(0.0, |waiting| waiting.as_seconds_f64().max(0.0)))
}

async fn look_at_broker(broker: &Broker) -> BrokerStatus {
    match queue_depths(broker).await {
        Ok((queue_depth, dead_letters)) => {
            BrokerStatus { reachable: true, error: None, queue_depth, dead_letters }
        }
        Err(error) => {
            let error = Some(error.to_string());
            BrokerStatus { reachable: false, error, queue_depth: None, dead_letters: None }
        }
    }
}

async fn queue_depths(broker: &Broker) -> Result<(Option<u32>, Option<u32>), BrokerError> {
    let connection = broker.connect("rookery projector status").await?;
    // A channel each: asking for a queue that is not there closes the channel.
    let feed = amqp::queue(&connection.create_channel().await?, amqp::FEED_QUEUE).await?;
    let channel = connection.create_channel().await?;
    let dead_letters = amqp::queue(&channel, amqp::FEED_DEAD_LETTER_QUEUE).await?;
    connection.close(200, "done".into()).await?;
    let messages = |queue: Option<Queue>| queue.map(|queue| queue.messages);
    Ok((messages(feed), messages(dead_letters)))
}

fn table(status: &Status) -> Table {
    let Status { log, relay, broker, feed, rebuild } = status;
    let count = |count: Option<u32>| match (broker.reachable, count) {
        (false, _) => "broker unreachable".to_owned(),
        (true, None) => "no such queue".to_owned(),
        (true, Some(count)) => count.to_string(),
    };
    let lag = |events: i64, seconds: f64| format!("{events} events, {seconds:.1} s behind");
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(TABLE_WIDTH);
    table.set_header(["", "at", ""]);
    let leader = relay.leader.as_deref().unwrap_or("no relay leads");
    let generation = format!("generation {}", feed.generation);
    table.add_row(["log head", &log.head.to_string(), ""]);
    table.add_row([
        "relay cursor",
        &relay.position.to_string(),
        &format!("{}; {leader}", lag(relay.lag_events, relay.lag_seconds)),
    ]);
    let queue = broker.error.as_deref().unwrap_or(amqp::FEED_QUEUE);
    table.add_row(["queue depth", &count(broker.queue_depth), queue]);
    table.add_row(["dead letters", &count(broker.dead_letters), amqp::FEED_DEAD_LETTER_QUEUE]);
    table.add_row([
        "feed checkpoint",
        &feed.position.to_string(),
        &format!(
            "{}; {generation}",
            if feed.is_of_this_log {
                lag(feed.lag_events, feed.lag_seconds)
            } else {
                "of another history".to_owned()
            }
        ),
    ]);
    let projector = match (&feed.projector, feed.follows.as_str()) {
        (None, _) => "none leads".to_owned(),
        (Some(name), "log") => {
            format!("follows the log itself: RabbitMQ brings nothing; {name}")
        }
        (Some(name), _) => name.clone(),
    };
    table.add_row(["projector", "", &projector]);
    if feed.fan_outs > 0 {
        let what = "tweets that very many read, in all their feeds and not yet all in rows";
        table.add_row(["fan-outs under way", &feed.fan_outs.to_string(), what]);
    }
    if let Some(previous) = feed.previous_generation {
        table.add_row([
            "generation before",
            &previous.to_string(),
            "projector rollback goes back to it",
        ]);
    }
    if let Some(rebuild) = rebuild {
        let (at, what) = rebuild.describe();
        table.add_row([&format!("generation {}", rebuild.generation), &at, &what]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl RebuildStatus {
    /// Its position, and what is going on.
    fn describe(&self) -> (String, String) {
        let at =
            self.progress.as_ref().map_or_else(String::new, |stored| stored.position.to_string());
        let Some(by) = &self.by else {
            return (at, "left unfinished; the next projector rebuild removes it".to_owned());
        };
        let what = self.progress.as_ref().map_or_else(
            || format!("begun by {by}"),
            |Stored { phase, done, total, unit, feed_rows, .. }| {
                format!("{phase}: {done} of {total} {unit}, {feed_rows} feed rows; {by}")
            },
        );
        (at, what)
    }
}
