//! The whole way of an event as those see it who watch: log, relay, broker, projector, feeds.
//!
//! On connections of its own, and at most five times a second however many watch: watching costs those who
//! work nothing.

mod trouble;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::projection::ProjectionName;
use events::store::outbox::Outbox;
use events::store::{Connections, Database, outbox, read};
use events::{Clock, Position};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

use crate::freshness::Readable;
use crate::relay::{RelayState, RelayStatus};
use crate::views::pipeline::{self as view, DELIVERIES_SECONDS, FeedSide, Rebuild};
use crate::views::{self, Projecting};
pub use trouble::Trouble;

/// What was seen is shown to all who ask within this time.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A database that does not answer so soon counts as away: who watches is told, and not kept waiting.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Behind for longer than this is worth a word: the projector's own repairs take less.
const BEHIND_SECONDS: f64 = 5.0;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pipeline(Arc<Looking>);

#[derive(Debug)]
struct Looking {
    log: Connections,
    /// `None` where this process serves no feeds and may not even know where they are.
    feed: Option<Connections>,
    counts: Option<Connections>,
    log_head: watch::Receiver<Position>,
    checkpoint: watch::Receiver<Position>,
    readable: watch::Receiver<Readable>,
    relay: Option<watch::Receiver<RelayStatus>>,
    last: Mutex<Option<(Instant, Arc<Seen>)>>,
}

/// What this process is told without asking.
#[derive(Debug)]
pub struct Told {
    pub log_head: watch::Receiver<Position>,
    pub checkpoint: watch::Receiver<Position>,
    pub readable: watch::Receiver<Readable>,
    pub relay: Option<watch::Receiver<RelayStatus>>,
}

/// All of it at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Seen {
    pub at: DateTime<Utc>,
    pub log: LogSeen,
    pub relay: RelaySeen,
    pub broker: BrokerSeen,
    pub projector: ProjectorSeen,
    pub feeds: FeedsSeen,
    /// `null` while no generation is being built and none was left unfinished.
    pub rebuild: Option<Rebuild>,
    /// What does not work, most decisive first; empty when everything does.
    pub troubles: Vec<Trouble>,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct LogSeen {
    pub state: LogState,
    /// Its head; the last that was known while it is away.
    pub position: Position,
    /// When the event there was recorded.
    pub recorded_at: Option<DateTime<Utc>>,
}

/// How the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogState {
    Working,
    Unreachable,
}

/// The relay, whichever leads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct RelaySeen {
    pub state: RelaySeenState,
    /// Confirmed up to here; `null` when the log cannot say.
    pub position: Option<Position>,
    /// Events in the log that are not published yet.
    pub lag_events: Option<i64>,
    /// For how long the first of them has been waiting.
    pub lag_seconds: Option<f64>,
}

/// How the relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelaySeenState {
    /// One leads, here or in another process.
    Working,
    /// None leads.
    Waiting,
    /// The log, which would say, is away.
    Unknown,
}

/// RabbitMQ, as the relay of this process finds it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct BrokerSeen {
    pub state: BrokerState,
    /// Messages that wait in the feed's queue.
    pub messages: Option<u32>,
    /// Projectors that listen to it.
    pub consumers: Option<u32>,
}

/// How RabbitMQ is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrokerState {
    Connected,
    Unreachable,
    /// This process has no relay, or that waits for the log first.
    Unknown,
}

/// The projector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct ProjectorSeen {
    pub state: ProjectorState,
    /// Applied up to here; the last that was known while the read model is away.
    pub position: Position,
    /// When it came there.
    pub moved_at: Option<DateTime<Utc>>,
    /// Events in the log that are not readable yet.
    pub lag_events: Option<i64>,
    /// For how long the first of them has been waiting.
    pub lag_seconds: Option<f64>,
    /// Whether it reads the log itself, because RabbitMQ brings nothing.
    pub follows_log: bool,
}

/// How the projector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProjectorState {
    Working,
    /// It reads the log itself, because RabbitMQ brings nothing.
    FollowsLog,
    /// It runs, and is behind.
    Behind,
    /// None leads.
    Away,
    /// The read model, which would say, is away.
    Unknown,
}

/// The read model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct FeedsSeen {
    pub state: FeedsState,
    /// Which build of the read model this is.
    pub generation: Option<i32>,
    /// Feed items written a second, over the last five.
    pub deliveries_per_second: Option<f64>,
}

/// How the read model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedsState {
    Readable,
    /// Of another history, or of a newer release.
    Refused,
    Unreachable,
}

/// What the log's database knows.
struct LogSide {
    head: Position,
    recorded_at: Option<DateTime<Utc>>,
    outbox: Outbox,
    /// When the first event was recorded that is not published.
    unpublished_since: Option<DateTime<Utc>>,
    /// When the first event was recorded that is not readable.
    unread_since: Option<DateTime<Utc>>,
}

impl Pipeline {
    /// The pipeline between these two databases; without `feed` only as far as the broker.
    #[must_use]
    pub fn new(log: &Database, feed: Option<&Database>, told: Told) -> Self {
        let Told { log_head, checkpoint, readable, relay } = told;
        let counts = feed.map(|feed| feed.clone().of(ProjectionName::Counts).connections(1));
        let (log, feed) = (log.connections(1), feed.map(|feed| feed.connections(1)));
        let last = Mutex::default();
        Self(Arc::new(Looking { log, feed, counts, log_head, checkpoint, readable, relay, last }))
    }

    /// Looks, or shows what was seen a moment ago.
    pub async fn look(&self) -> Arc<Seen> {
        let mut last = self.0.last.lock().await;
        if let Some((looked, seen)) = &*last
            && looked.elapsed() < LOOK_EVERY
        {
            return Arc::clone(seen);
        }
        let seen = Arc::new(self.0.look().await);
        *last = Some((Instant::now(), Arc::clone(&seen)));
        seen
    }

    /// Whether the read model is looked at.
    pub(crate) fn sees_feeds(&self) -> bool {
        self.0.feed.is_some()
    }

    /// How far the counts are, and since when the first event has been in the log that they do not show; nothing when they
    /// are away, or were never made.
    pub(crate) async fn counts(&self) -> Option<(Projecting, Option<DateTime<Utc>>)> {
        let found = answer_of("the counts", views::projecting(self.0.counts.as_ref()?)).await?;
        let next = read::recorded_at(&self.0.log, found.position.next());
        let waits_since = answer_of("the log", next).await?;
        Some((found, waits_since))
    }

    /// How many bytes the databases of the log and of the feeds take, where they can be asked.
    pub(crate) async fn sizes(&self) -> (Option<i64>, Option<i64>) {
        let log = answer_of("the log", database_size(&self.0.log)).await;
        let feed = match &self.0.feed {
            Some(feed) => answer_of("the read model", database_size(feed)).await,
            None => None,
        };
        (log, feed)
    }
}

impl Looking {
    /// The read model first, so that nothing seems to be behind only because it was looked at later.
    async fn look(&self) -> Seen {
        let feed = match &self.feed {
            Some(feed) => answer_of("the read model", view::look(feed)).await,
            None => None,
        };
        let checkpoint = feed.as_ref().map_or(*self.checkpoint.borrow(), |feed| feed.position);
        let log = answer_of("the log", self.look_at_log(checkpoint)).await;
        let now = Clock::system().now();
        let waiting = |since: Option<DateTime<Utc>>| {
            since.map_or(0.0, |since| (now - since).as_seconds_f64().max(0.0))
        };
        let relay = self.relay.as_ref().map(|relay| *relay.borrow());
        let lag_seconds = log.as_ref().map(|log| waiting(log.unread_since));
        let readable = *self.readable.borrow();
        let follows_log = feed.as_ref().is_some_and(|feed| feed.led && feed.follows == "log");
        let mut seen = Seen {
            at: now,
            log: LogSeen {
                state: if log.is_some() { LogState::Working } else { LogState::Unreachable },
                position: log.as_ref().map_or(*self.log_head.borrow(), |log| log.head),
                recorded_at: log.as_ref().and_then(|log| log.recorded_at),
            },
            relay: RelaySeen {
                state: match &log {
                    None => RelaySeenState::Unknown,
                    Some(log) if log.outbox.led => RelaySeenState::Working,
                    Some(_) => RelaySeenState::Waiting,
                },
                position: log.as_ref().map(|log| log.outbox.position),
                lag_events: log.as_ref().map(|log| log.head.0 - log.outbox.position.0),
                lag_seconds: log.as_ref().map(|log| waiting(log.unpublished_since)),
            },
            broker: BrokerSeen {
                state: match relay.map(|relay| relay.state) {
                    Some(RelayState::Standby | RelayState::Leading) => BrokerState::Connected,
                    Some(RelayState::Disconnected) => BrokerState::Unreachable,
                    Some(RelayState::WithoutLog) | None => BrokerState::Unknown,
                },
                messages: relay.and_then(|relay| relay.feed_queue()).map(|queue| queue.messages),
                consumers: relay.and_then(|relay| relay.feed_queue()).map(|queue| queue.consumers),
            },
            projector: ProjectorSeen {
                state: match &feed {
                    None => ProjectorState::Unknown,
                    Some(feed) if !feed.led => ProjectorState::Away,
                    Some(_) if lag_seconds.is_some_and(|seconds| seconds > BEHIND_SECONDS) => {
                        ProjectorState::Behind
                    }
                    Some(_) if follows_log => ProjectorState::FollowsLog,
                    Some(_) => ProjectorState::Working,
                },
                position: checkpoint,
                moved_at: feed.as_ref().map(|feed| feed.moved_at),
                lag_events: log.as_ref().map(|log| log.head.0 - checkpoint.0),
                lag_seconds,
                follows_log,
            },
            feeds: FeedsSeen {
                state: match &feed {
                    None => FeedsState::Unreachable,
                    Some(_) if readable != Readable::Yes => FeedsState::Refused,
                    Some(_) => FeedsState::Readable,
                },
                generation: feed.as_ref().map(|feed| feed.generation),
                deliveries_per_second: feed
                    .as_ref()
                    .map(|feed| feed.deliveries as f64 / DELIVERIES_SECONDS),
            },
            rebuild: feed.and_then(|feed: FeedSide| feed.rebuild),
            troubles: Vec::new(),
        };
        seen.troubles = trouble::of(&seen, readable);
        seen
    }

    async fn look_at_log(&self, checkpoint: Position) -> Result<LogSide, sqlx::Error> {
        let log = &self.log;
        let outbox = outbox::load(log).await?;
        let head = read::head(log).await?;
        Ok(LogSide {
            head,
            recorded_at: read::recorded_at(log, head).await?,
            unpublished_since: read::recorded_at(log, outbox.position.next()).await?,
            unread_since: read::recorded_at(log, checkpoint.next()).await?,
            outbox,
        })
    }
}

async fn database_size(connections: &Connections) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select pg_database_size(current_database()) as "bytes!""#)
        .fetch_one(connections)
        .await
}

/// What `looking` at `what` found; nothing when that is away, which is part of the answer.
async fn answer_of<T>(
    what: &str,
    looking: impl Future<Output = Result<T, sqlx::Error>>,
) -> Option<T> {
    match timeout(LOOK_TIMEOUT, looking).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::debug!(%error, "{what} cannot be looked at");
            None
        }
        Err(_) => {
            tracing::debug!("{what} does not answer");
            None
        }
    }
}
