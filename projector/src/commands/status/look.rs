//! Looking how far everything is.

use chrono::{DateTime, Utc};
use events::amqp::{self, Broker, BrokerError, Queue};
use events::store::{Connections, history, outbox, read};
use events::{Clock, Mark, Position};
use serde::Serialize;

use super::wrong::{Wrong, wrong};
use crate::commands::CommandError;
use crate::consume::lead;
use crate::progress::{self, Stored};
use crate::read_model::fan_out;
use crate::{checkpoint, generation};

/// Everything that `status` shows.
#[derive(Debug, Serialize)]
pub struct Status {
    pub log: LogStatus,
    pub relay: RelayStatus,
    pub broker: BrokerStatus,
    pub feed: FeedStatus,
    /// `None` while no generation is being built and none was left unfinished.
    pub rebuild: Option<RebuildStatus>,
    /// What is wrong, the most decisive first.
    pub wrong: Vec<Wrong>,
}

#[derive(Debug, Serialize)]
pub struct LogStatus {
    pub head: Position,
}

#[derive(Debug, Serialize)]
pub struct RelayStatus {
    pub position: Position,
    /// Events in the log that are not published yet.
    pub lag_events: i64,
    pub lag_seconds: f64,
    /// The relay that leads; `None` while none does.
    pub leader: Option<String>,
    pub fence: i64,
}

/// Messages that wait; `None` when the broker or the queue is not there.
#[derive(Debug, Serialize)]
pub struct BrokerStatus {
    pub reachable: bool,
    /// Why it is not.
    pub error: Option<String>,
    pub queue_depth: Option<u32>,
    pub dead_letters: Option<u32>,
}

#[derive(Debug, Serialize)]
pub struct FeedStatus {
    pub generation: i32,
    pub position: Position,
    #[serde(skip)]
    pub mark: Mark,
    /// Events in the log that are not readable yet.
    pub lag_events: i64,
    pub lag_seconds: f64,
    pub fence: i64,
    /// Whether what has been applied is of the log's history.
    pub is_of_this_log: bool,
    /// What a rollback would go back to.
    pub previous_generation: Option<i32>,
    /// Tweets that have yet to come to some of their many readers as rows; those read them from their authors.
    pub fan_outs: i64,
    /// The projector that leads; `None` while none does.
    pub projector: Option<String>,
    /// What it goes by: `messages`, or the `log` itself because RabbitMQ brings nothing.
    pub follows: String,
}

#[derive(Debug, Serialize)]
pub struct RebuildStatus {
    /// The number of the generation that is being built.
    pub generation: i32,
    /// Who builds it; `None` when it was left unfinished.
    pub by: Option<String>,
    /// How far it had come when that was stored last.
    pub progress: Option<Stored>,
}

/// Looks from the end of the way to its start, so that nothing seems to be behind only because it
/// was looked at first.
///
/// # Errors
/// [`CommandError`] when a database is away. A broker that is away is part of the answer.
pub async fn look(
    log: &Connections,
    feed: &Connections,
    broker: &Broker,
    behind_after: f64,
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
    let mut status = Status {
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
        wrong: Vec::new(),
    };
    status.wrong = wrong(&status, behind_after);
    Ok(status)
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
