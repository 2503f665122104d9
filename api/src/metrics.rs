//! What the api measures: what it does itself, and what it sees of the pipeline, which it looks at for
//! Prometheus as for those who watch. So a projector that is gone is measured as well.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::Position;
use events::metrics::{
    LOG_POSITION, Metric, PROJECTOR_FOLLOWS_LOG, PROJECTOR_LAG_EVENTS, PROJECTOR_LAG_SECONDS,
    PROJECTOR_POSITION,
};
use events::projection::{PROJECTIONS, ProjectionName};
use metrics::gauge;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pipeline::{FeedsState, LogState, Pipeline, ProjectorState, RelaySeenState, Seen};
use crate::relay::Queues;
use crate::views::Projecting;

/// How often the pipeline is looked at. Prometheus scrapes every 15 s or so.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// PostgreSQL asks the file system about each file of a database: once a minute is enough.
const LOOKS_PER_SIZE: u32 = 12;

/// What is not known: comparisons with it do not hold, so it neither raises nor hides an alarm.
const UNKNOWN: f64 = f64::NAN;

pub const APPENDED_EVENTS: Metric = Metric::counter(
    "rookery_appended_events_total",
    "Events that this process appended to the log.",
);

pub const APPEND_BATCH_COMMANDS: Metric = Metric::histogram(
    "rookery_append_batch_commands",
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
    "Commands that were decided and appended together.",
);

pub const APPEND: Metric = Metric::seconds(
    "rookery_append_seconds",
    "How long a batch took from being taken from the queue until it was durable or refused.",
);

pub const APPEND_FAILURES: Metric = Metric::counter(
    "rookery_append_failures_total",
    "Batches that could not be appended, by what was wrong with the log's server or the statement.",
)
.of(&["fault"], &["away", "read_only", "busy", "full", "absent", "denied", "refused"]);

pub const RELAY_LEADING: Metric = Metric::gauge(
    "rookery_relay_leading",
    "1 while the relay of this process is the one that publishes.",
);

pub const RELAY_LED: Metric =
    Metric::gauge("rookery_relay_led", "1 while some relay leads, here or in another process.");

pub const RELAY_BROKER_CONNECTED: Metric = Metric::gauge(
    "rookery_relay_broker_connected",
    "1 while the relay of this process has a connection to RabbitMQ.",
);

pub const RELAY_BROKER_BLOCKED: Metric = Metric::gauge(
    "rookery_relay_broker_blocked",
    "1 while RabbitMQ takes no messages because its disk or memory is short.",
);

pub const RELAY_POSITION: Metric =
    Metric::gauge("rookery_relay_position", "Position up to which RabbitMQ has confirmed the log.");

pub const RELAY_LAG_EVENTS: Metric =
    Metric::gauge("rookery_relay_lag_events", "Events in the log that are not published yet.");

pub const RELAY_OLDEST_UNPUBLISHED: Metric = Metric::gauge(
    "rookery_relay_oldest_unpublished_seconds",
    "For how long the oldest event has been in the log that is not published; 0 when all are.",
);

pub const RELAY_PUBLISHED_EVENTS: Metric = Metric::counter(
    "rookery_relay_published_events_total",
    "Events that this process published and RabbitMQ confirmed.",
);

pub const RELAY_CONFIRMED_SLICES: Metric = Metric::counter(
    "rookery_relay_confirmed_slices_total",
    "Messages that RabbitMQ confirmed to this process.",
);

pub const RELAY_REFUSED_ROUNDS: Metric = Metric::counter(
    "rookery_relay_refused_rounds_total",
    "Rounds of publishing in which RabbitMQ refused a message, as a full queue does.",
);

pub const RELAY_CONFIRM: Metric = Metric::seconds(
    "rookery_relay_confirm_seconds",
    "From publishing a round of messages until all of them were confirmed or refused.",
);

pub const QUEUE_MESSAGES: Metric = Metric::gauge(
    "rookery_queue_messages",
    "Messages that wait in the queue, as the relay of this process finds it.",
)
.by(&["queue"]);

pub const QUEUE_CONSUMERS: Metric =
    Metric::gauge("rookery_queue_consumers", "Who listens to the queue, active or standing by.")
        .by(&["queue"]);

pub const PROJECTOR_LED: Metric =
    Metric::gauge("rookery_projector_led", "1 while some projector leads.").of_projections();

pub const GENERATION: Metric =
    Metric::gauge("rookery_generation", "Which build of the read model is live.").of_projections();

pub const REBUILD_SILENT: Metric = Metric::gauge(
    "rookery_rebuild_silent_seconds",
    "For how long an unfinished rebuild has said nothing, which it does every second; 0 when none is unfinished.",
);

pub const DATABASE_UP: Metric = Metric::gauge(
    "rookery_database_up",
    "1 while the database answers that has the log, or the feeds.",
)
.by(&["database"]);

pub const DATABASE_SIZE: Metric = Metric::gauge(
    "rookery_database_size_bytes",
    "What the database takes on its server's disk that has the log, or the feeds.",
)
.by(&["database"]);

pub const FEED_READS: Metric = Metric::counter(
    "rookery_feed_reads_total",
    "Pages of feeds, by what they were made from: rows, merged with what is pulled or has no row yet, authors where rows end, the past (at=), or what is above a tweet (after=).",
)
.of(&["source"], &["rows", "merged", "authors", "past", "above"]);

pub const FEED_READS_PASSED_ON: Metric = Metric::counter(
    "rookery_feed_reads_passed_on_total",
    "Reads of home feeds that the read model answered in the stead of a replica, which was left out, failed or was too far behind.",
)
.by(&["replica"]);

pub const FEED_REPLICA_IN_USE: Metric = Metric::gauge(
    "rookery_feed_replica_in_use",
    "1 while home feeds are read from this replica, 0 while it is left out.",
)
.by(&["replica"]);

pub const FEED_REPLICA_POSITION: Metric =
    Metric::gauge("rookery_feed_replica_position", "How far a replica of the read model is.")
        .by(&["replica"]);

pub const READ_WAITS: Metric = Metric::counter(
    "rookery_read_waits_total",
    "Reads that had to wait for the position in X-Min-Log-Position, by how that ended; crowded is not even waiting.",
)
.of(&["end"], &["reached", "late", "crowded"]);

pub const HTTP_REQUESTS: Metric =
    Metric::counter("rookery_http_requests_total", "Requests that were answered.")
        .by(&["method", "route", "status"]);

pub const HTTP_REQUEST: Metric = Metric::seconds(
    "rookery_http_request_duration_seconds",
    "From a whole request to its answer; of a stream until it begins.",
)
.by(&["method", "route"]);

pub const HTTP_FAILURES: Metric = Metric::counter(
    "rookery_http_failures_total",
    "Requests that were answered 500, which is a fault of the program.",
);

pub const HTTP_SHED: Metric = Metric::counter(
    "rookery_http_shed_total",
    "Requests that were answered 503 at once, because too many were in work.",
);

pub const HTTP_CONNECTIONS: Metric =
    Metric::gauge("rookery_http_connections", "Open connections of clients.");

pub const HTTP_CONNECTION_ERRORS: Metric = Metric::counter(
    "rookery_http_connection_errors_total",
    "Connections that ended early: the client was too slow, went away, or sent no HTTP.",
);

pub const STREAMS: Metric = Metric::gauge("rookery_streams", "Open streams of feeds.");

pub const STREAM_ITEMS: Metric =
    Metric::counter("rookery_stream_items_total", "Feed items that were handed to streams.");

pub const STREAMS_CUT_OFF: Metric = Metric::counter(
    "rookery_streams_cut_off_total",
    "Streams that were ended because their client took nothing for too long.",
);

pub const STREAM_LOOK: Metric = Metric::seconds(
    "rookery_stream_look_seconds",
    "How long it took to find what is new in all feeds that are watched.",
);

/// All of the above.
pub const OF_THE_API: &[Metric] = &[
    APPENDED_EVENTS,
    APPEND_BATCH_COMMANDS,
    APPEND,
    APPEND_FAILURES,
    RELAY_LEADING,
    RELAY_LED,
    RELAY_BROKER_CONNECTED,
    RELAY_BROKER_BLOCKED,
    RELAY_POSITION,
    RELAY_LAG_EVENTS,
    RELAY_OLDEST_UNPUBLISHED,
    RELAY_PUBLISHED_EVENTS,
    RELAY_CONFIRMED_SLICES,
    RELAY_REFUSED_ROUNDS,
    RELAY_CONFIRM,
    QUEUE_MESSAGES,
    QUEUE_CONSUMERS,
    PROJECTOR_LED,
    GENERATION,
    REBUILD_SILENT,
    DATABASE_UP,
    DATABASE_SIZE,
    FEED_READS,
    FEED_READS_PASSED_ON,
    FEED_REPLICA_IN_USE,
    FEED_REPLICA_POSITION,
    READ_WAITS,
    HTTP_REQUESTS,
    HTTP_REQUEST,
    HTTP_FAILURES,
    HTTP_SHED,
    HTTP_CONNECTIONS,
    HTTP_CONNECTION_ERRORS,
    STREAMS,
    STREAM_ITEMS,
    STREAMS_CUT_OFF,
    STREAM_LOOK,
];

/// Measures the pipeline until `stop` is cancelled.
pub(crate) async fn watch(pipeline: Pipeline, stop: CancellationToken) {
    let mut looks: u32 = 0;
    let looking = async {
        loop {
            let seen = pipeline.look().await;
            show(&seen, pipeline.sees_feeds());
            if pipeline.sees_feeds() {
                show_counts(&seen, pipeline.counts().await);
            }
            if looks.is_multiple_of(LOOKS_PER_SIZE) {
                let (log, feeds) = pipeline.sizes().await;
                set(DATABASE_SIZE, "log", log.map_or(UNKNOWN, |bytes| bytes as f64));
                if pipeline.sees_feeds() {
                    set(DATABASE_SIZE, "feeds", feeds.map_or(UNKNOWN, |bytes| bytes as f64));
                }
            }
            looks = looks.wrapping_add(1);
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = looking => {}
        () = stop.cancelled() => {}
    }
}

/// Shows what the relay of this process is told by the broker.
pub(crate) fn show_queues(queues: Queues) {
    let by_name = PROJECTIONS.iter().zip(queues).flat_map(|(projection, of)| {
        [(projection.queue(), of.queue), (projection.dead_letters(), of.dead_letters)]
    });
    for (queue, found) in by_name {
        gauge!(QUEUE_MESSAGES.name, "queue" => queue)
            .set(found.map_or(UNKNOWN, |queue| f64::from(queue.messages)));
        gauge!(QUEUE_CONSUMERS.name, "queue" => queue)
            .set(found.map_or(UNKNOWN, |queue| f64::from(queue.consumers)));
    }
}

fn show(seen: &Seen, sees_feeds: bool) {
    let relay = &seen.relay;
    set(DATABASE_UP, "log", flag(seen.log.state == LogState::Working));
    gauge!(LOG_POSITION.name).set(position(seen.log.position));
    gauge!(RELAY_LED.name).set(match relay.state {
        RelaySeenState::Working => 1.0,
        RelaySeenState::Waiting => 0.0,
        RelaySeenState::Unknown => UNKNOWN,
    });
    gauge!(RELAY_POSITION.name).set(relay.position.map_or(UNKNOWN, position));
    gauge!(RELAY_LAG_EVENTS.name).set(relay.lag_events.map_or(UNKNOWN, |lag| lag as f64));
    gauge!(RELAY_OLDEST_UNPUBLISHED.name).set(relay.lag_seconds.unwrap_or(UNKNOWN));
    if !sees_feeds {
        return;
    }
    let projector = &seen.projector;
    let sees = seen.feeds.state != FeedsState::Unreachable;
    let known = |value: f64| if sees { value } else { UNKNOWN };
    set(DATABASE_UP, "feeds", flag(sees));
    let led = match projector.state {
        ProjectorState::Away => 0.0,
        ProjectorState::Unknown => UNKNOWN,
        ProjectorState::Working | ProjectorState::FollowsLog | ProjectorState::Behind => 1.0,
    };
    show_projection(ProjectionName::Feed, PROJECTOR_LED, led);
    show_projection(
        ProjectionName::Feed,
        PROJECTOR_FOLLOWS_LOG,
        known(flag(projector.follows_log)),
    );
    show_projection(ProjectionName::Feed, PROJECTOR_POSITION, position(projector.position));
    let lag_events = projector.lag_events.map_or(UNKNOWN, |lag| lag as f64);
    show_projection(ProjectionName::Feed, PROJECTOR_LAG_EVENTS, lag_events);
    show_projection(
        ProjectionName::Feed,
        PROJECTOR_LAG_SECONDS,
        projector.lag_seconds.unwrap_or(UNKNOWN),
    );
    show_projection(
        ProjectionName::Feed,
        GENERATION,
        seen.feeds.generation.map_or(UNKNOWN, f64::from),
    );
    let silent = seen
        .rebuild
        .as_ref()
        .map_or(0.0, |rebuild| (seen.at - rebuild.stored_at).as_seconds_f64().max(0.0));
    gauge!(REBUILD_SILENT.name).set(known(silent));
}

/// Their position stays at the last that was seen.
fn show_counts(seen: &Seen, found: Option<(Projecting, Option<DateTime<Utc>>)>) {
    let Some((counts, waits_since)) = found else {
        for metric in [PROJECTOR_LED, PROJECTOR_FOLLOWS_LOG, GENERATION] {
            show_projection(ProjectionName::Counts, metric, UNKNOWN);
        }
        show_projection(ProjectionName::Counts, PROJECTOR_LAG_EVENTS, UNKNOWN);
        show_projection(ProjectionName::Counts, PROJECTOR_LAG_SECONDS, UNKNOWN);
        return;
    };
    show_projection(ProjectionName::Counts, PROJECTOR_LED, flag(counts.led));
    show_projection(
        ProjectionName::Counts,
        PROJECTOR_FOLLOWS_LOG,
        flag(counts.led && counts.follows == "log"),
    );
    show_projection(ProjectionName::Counts, GENERATION, f64::from(counts.generation));
    show_projection(ProjectionName::Counts, PROJECTOR_POSITION, position(counts.position));
    let lag_events = (seen.log.position.0 - counts.position.0).max(0);
    show_projection(ProjectionName::Counts, PROJECTOR_LAG_EVENTS, lag_events as f64);
    let waiting = waits_since.map_or(0.0, |since| (seen.at - since).as_seconds_f64().max(0.0));
    show_projection(ProjectionName::Counts, PROJECTOR_LAG_SECONDS, waiting);
}

fn show_projection(projection: ProjectionName, metric: Metric, value: f64) {
    gauge!(metric.name, "projection" => projection.name()).set(value);
}

fn set(metric: Metric, database: &'static str, value: f64) {
    gauge!(metric.name, "database" => database).set(value);
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn position(position: Position) -> f64 {
    position.0 as f64
}
