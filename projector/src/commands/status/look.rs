//! Looking how far everything is.

use chrono::{DateTime, Utc};
use events::amqp::{self, Broker, BrokerError};
use events::projection::PROJECTIONS;
use events::store::nodes::{Node, nodes};
use events::store::{Connections, Fault, history, outbox, read};
use events::{Clock, Mark, Position, ProjectionName};
use serde::Serialize;

use super::wrong::{Wrong, wrong};
use crate::checkpoint::{self, Checkpoint};
use crate::commands::CommandError;
use crate::consume::lead::{self, Led};
use crate::counts::Counts;
use crate::feed::HomeFeeds;
use crate::feed::read_model::fan_out;
use crate::generation::{self, Aside, Layout};
use crate::progress::{self, Stored};
use crate::projection::ReadModel;

/// Everything that `status` shows.
#[derive(Debug, Serialize)]
pub struct Status {
    pub log: LogStatus,
    pub relay: RelayStatus,
    pub broker: BrokerStatus,
    pub feed: ProjectionStatus,
    /// Of a read model that is distributed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// `None` before a projector has made them.
    pub counts: Option<ProjectionStatus>,
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

#[derive(Debug, Serialize)]
pub struct BrokerStatus {
    pub reachable: bool,
    /// Why it is not.
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ProjectionStatus {
    #[serde(skip)]
    pub projection: ProjectionName,
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
    /// Tweets that have yet to come to some of their many readers as rows; those read them from their authors. Of feeds alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan_outs: Option<i64>,
    /// The projector that leads; `None` while none does.
    pub projector: Option<String>,
    /// What it goes by: `messages`, or the `log` itself because RabbitMQ brings nothing.
    pub follows: String,
    #[serde(flatten)]
    pub queues: Queues,
    /// `None` while no generation is being built and none was left unfinished.
    pub rebuild: Option<RebuildStatus>,
}

/// Messages that wait; `None` when the broker or the queue is not there.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Queues {
    pub queue_depth: Option<u32>,
    pub dead_letters: Option<u32>,
}

impl Status {
    /// The projections that are there.
    pub fn projections(&self) -> impl Iterator<Item = &ProjectionStatus> {
        std::iter::once(&self.feed).chain(&self.counts)
    }
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

/// Where to look.
pub struct Looking {
    pub log: Connections,
    pub feed: Connections,
    pub counts: Connections,
    pub broker: Broker,
    /// To be behind for up to so many seconds is not wrong.
    pub behind_after: f64,
}

impl Looking {
    /// Looks from the end of the way to its start, so that nothing seems to be behind only because it
    /// was looked at first.
    ///
    /// # Errors
    /// [`CommandError`] when a database is away. A broker that is away is part of the answer.
    pub async fn look(&self) -> Result<Status, CommandError> {
        let (broker, [feed_queues, counts_queues]) = look_at_broker(&self.broker).await;
        let feed = Looked::at(&self.feed, HomeFeeds::LAYOUT).await.map_err(CommandError::Feed)?;
        let nodes = nodes(&self.feed).await.map_err(CommandError::Feed)?;
        let fan_outs = match feed.checkpoint.under_way {
            Some(under_way) => fan_out::count(&self.feed, under_way).await,
            None => Ok(0),
        };
        let fan_outs = fan_outs.map_err(CommandError::Feed)?;
        let counts = match Looked::at(&self.counts, Counts::LAYOUT).await {
            Err(error) if Fault::of(&error) == Fault::Absent => None,
            looked => Some(looked.map_err(CommandError::Feed)?),
        };
        let outbox = outbox::load(&self.log).await.map_err(CommandError::Log)?;
        let head = read::head(&self.log).await.map_err(CommandError::Log)?;
        let relay = RelayStatus {
            position: outbox.position,
            lag_events: head.0 - outbox.position.0,
            lag_seconds: waiting_seconds(&self.log, outbox.position).await?,
            leader: outbox.leader.filter(|_| outbox.led),
            fence: outbox.fence,
        };
        let mut feed = feed.beside(&self.log, head, feed_queues).await?;
        feed.fan_outs = Some(fan_outs);
        let counts = match counts {
            Some(counts) => Some(counts.beside(&self.log, head, counts_queues).await?),
            None => None,
        };
        let log = LogStatus { head };
        let mut status = Status { log, relay, broker, feed, nodes, counts, wrong: Vec::new() };
        status.wrong = wrong(&status, self.behind_after);
        Ok(status)
    }
}

/// What a projection says of itself.
struct Looked {
    projection: ProjectionName,
    checkpoint: Checkpoint,
    led: Led,
    aside: Aside,
    rebuild: Option<RebuildStatus>,
}

impl Looked {
    async fn at(connections: &Connections, layout: Layout) -> Result<Self, sqlx::Error> {
        let checkpoint = checkpoint::load(connections).await?;
        let led = lead::load(connections).await?;
        let aside = generation::aside(connections, layout).await?;
        let rebuild = look_at_rebuild(connections, layout, aside.next).await?;
        Ok(Self { projection: layout.projection, checkpoint, led, aside, rebuild })
    }

    /// The same beside the log, which ends at `head`.
    async fn beside(
        self,
        log: &Connections,
        head: Position,
        queues: Queues,
    ) -> Result<ProjectionStatus, CommandError> {
        let Self { projection, checkpoint, led, aside, rebuild } = self;
        let (mark, position) = (checkpoint.mark(), checkpoint.position);
        let foreign = history::foreign(log, &[mark]).await.map_err(CommandError::Log)?;
        Ok(ProjectionStatus {
            projection,
            generation: checkpoint.generation,
            position,
            mark,
            lag_events: head.0 - position.0,
            lag_seconds: waiting_seconds(log, position).await?,
            fence: checkpoint.fence,
            is_of_this_log: foreign.is_empty(),
            previous_generation: aside.previous,
            fan_outs: None,
            projector: led.holder,
            follows: led.follows,
            queues,
            rebuild,
        })
    }
}

async fn look_at_rebuild(
    connections: &Connections,
    layout: Layout,
    next: Option<i32>,
) -> Result<Option<RebuildStatus>, sqlx::Error> {
    let Some(generation) = next else { return Ok(None) };
    let by = generation::claimed_by(connections, layout).await?;
    let progress = progress::stored(connections, layout).await?;
    Ok(Some(RebuildStatus { generation, by, progress }))
}

/// For how long the first event after `position` has been waiting.
async fn waiting_seconds(log: &Connections, position: Position) -> Result<f64, CommandError> {
    let since: Option<DateTime<Utc>> =
        read::recorded_at(log, position.next()).await.map_err(CommandError::Log)?;
    let waiting = since.map(|since| Clock::system().now() - since);
    Ok(waiting.map_or(0.0, |waiting| waiting.as_seconds_f64().max(0.0)))
}

async fn look_at_broker(broker: &Broker) -> (BrokerStatus, [Queues; PROJECTIONS.len()]) {
    match look_at_queues(broker).await {
        Ok(queues) => (BrokerStatus { reachable: true, error: None }, queues),
        Err(error) => {
            let error = Some(error.to_string());
            (BrokerStatus { reachable: false, error }, Default::default())
        }
    }
}

/// Those of each projection, in their order.
async fn look_at_queues(broker: &Broker) -> Result<[Queues; PROJECTIONS.len()], BrokerError> {
    let connection = broker.connect("rookery projector status").await?;
    // A channel each, which stay until the end: asking for a queue that is not there closes the channel.
    let mut channels = Vec::new();
    let mut depth = async |queue| -> Result<_, BrokerError> {
        let channel = connection.create_channel().await?;
        let found = amqp::queue(&channel, queue).await?;
        channels.push(channel);
        Ok(found.map(|queue| queue.messages))
    };
    let mut all = [Queues::default(); PROJECTIONS.len()];
    for (queues, projection) in all.iter_mut().zip(PROJECTIONS) {
        queues.queue_depth = depth(projection.queue()).await?;
        queues.dead_letters = depth(projection.dead_letters()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(all)
}
