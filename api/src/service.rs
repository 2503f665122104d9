//! The process: opens what its parts need and starts them.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use events::Position;
use events::amqp::{Broker, BrokerError};
use events::lifecycle::Ended;
use events::metrics::{self, MetricsError};
use events::projection::ProjectionName;
use events::runtime::{instance_name, shutdown_on_signal};
use events::store::schema::{Schema, SchemaError};
use events::store::{ConnectError, Connections, Database, outbox};
use events::trace::Exporting;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::freshness::{Freshness, Readable};
use crate::metrics::OF_THE_API;
use crate::parts::{PartError, Parts};
use crate::pipeline::{Pipeline, Told};
use crate::readiness::{Readiness, Standing};
use crate::relay::{Queues, Relay, RelayState, RelayStatus};
use crate::replicas::{Feeds, Replica};
use crate::server;
use crate::state::{ReadModel, Shared};
use crate::ticket::Tickets;
use crate::web::Web;

/// Connections to the log for requests that look at its head, and for what is done now and then. The
/// appender and the relay have one each of their own.
const LOG_READ_CONNECTIONS: usize = 2;

const FEED: (ProjectionName, Schema) = (ProjectionName::Feed, Schema::Feed);
const COUNTS: (ProjectionName, Schema) = (ProjectionName::Counts, Schema::Counts);

/// Connections for reads of the counts: a profile has one, and it takes a few index probes.
const COUNTS_CONNECTIONS: usize = 2;

/// A read that takes longer than this is given up: it would hold a connection that others wait for.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The same on a replica: whoever waits so long has yet to ask the read model.
const REPLICA_READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The most that an append may take: far beyond any batch, but it does not hold the lock for ever.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the process did not start, or ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("cannot listen on {address}: {source}")]
    Bind { address: String, source: io::Error },
    #[error("the log cannot be read: {0}")]
    Log(sqlx::Error),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Ended(#[from] Ended<PartError>),
}

impl ServiceError {
    /// 2 for what a flag or variable says, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_)
            | Self::Connect(ConnectError::Url { .. })
            | Self::Broker(BrokerError::Url(_)) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServiceError`], which says what an operator should do.
pub async fn run(config: Config) -> Result<(), ServiceError> {
    let address = config.address().map_err(ServiceError::Usage)?;
    let authentication = config.authentication().map_err(ServiceError::Usage)?;
    let (log_database, feed_database, replica_databases) = databases(&config)?;
    let broker = match &config.amqp_url {
        Some(url) if !config.no_relay => Some(Broker::parse(url.expose())?),
        _ => None,
    };
    let _exporting = Exporting::start("rookery-api").map_err(ServiceError::Usage)?;
    let shutdown = shutdown_on_signal().map_err(ServiceError::Signals)?;

    // Before any limit on statements: a migration may take as long as it takes.
    if config.migrate_only {
        Schema::Log.migrate(&log_database.connect(1).await?).await?;
        tracing::info!("the log has the schema of this release");
        return Ok(());
    }
    Schema::Log.migrate_or_wait(&log_database.connect(1).await?, &shutdown).await?;
    if shutdown.is_cancelled() {
        return Ok(());
    }
    // A command is answered once it is durable, whatever the server's default is.
    let log_database = log_database
        .with_settings([("synchronous_commit", "on")])
        .with_statement_timeout(APPEND_TIMEOUT)
        .writable();
    let feed_database = feed_database.with_statement_timeout(READ_TIMEOUT);
    // The projector makes and migrates the read model; commands are accepted without it.
    let readiness = Readiness::new(&log_database, &feed_database);
    let standing = readiness.look().await.feed;
    if !config.no_http {
        standing.warn_of();
    }

    let measured = metrics::start(OF_THE_API, config.metrics_bind)?;
    let listener = if config.no_http { None } else { Some(listen(&config.bind, address).await?) };
    let log = log_database.connections(LOG_READ_CONNECTIONS);
    let key = outbox::slice_key(&log).await.map_err(ServiceError::Log)?;

    // Nothing ends it from here on but what no other try mends.
    let (log_head, log_head_seen) = watch::channel(Position::START);
    let parts = Parts::new(shutdown);

    let relay_state =
        broker.map(|broker| start_relay(&parts, &log_database, broker, log_head_seen.clone()));
    parts.follow_log(log_database.clone(), log.clone(), log_head.clone());

    match listener {
        None => {
            let told = told_of_the_relay_alone(log_head_seen, relay_state);
            parts.measure_pipeline(Pipeline::new(&log_database, None, told));
            tracing::info!("relay started, without HTTP");
        }
        Some((listener, address)) => {
            let connections_max = server::connections_max();
            let feed = feed_database.connections(config.feed_connections);
            let (checkpoint, readable) =
                parts.follow_checkpoint(FEED, &feed_database, &log, standing);
            let replicas = start_replicas(&parts, replica_databases, &config, &checkpoint, &log);
            let counts = start_counts(&parts, &feed_database, &log, config.patience());
            parts.start_forgetting(log.clone());
            let callers = authentication.description();
            let told = Told {
                log_head: log_head_seen.clone(),
                checkpoint: checkpoint.clone(),
                readable: readable.clone(),
                relay: relay_state.clone(),
            };
            let pipeline = Pipeline::new(&log_database, Some(&feed_database), told);
            parts.measure_pipeline(pipeline.clone());
            let freshness = Freshness::new(checkpoint.clone(), readable.clone(), config.patience());
            let feed = ReadModel { connections: feed, freshness };
            let state = Shared {
                web: Web::for_login(&authentication),
                pipeline,
                own_hosts: config.own_hosts(),
                authentication,
                appender: parts.start_appender(
                    log_database.connections(1),
                    config.log_range_events,
                    log_head,
                ),
                markers: parts.start_markers(log_database.connections(1)),
                readings: parts.start_readings(log.clone()),
                log,
                live: parts.watch_feeds(
                    log_database.connections(1),
                    feed_database.connections(1),
                    checkpoint.clone(),
                    readable.clone(),
                    connections_max,
                ),
                feeds: Feeds::new(feed.clone(), replicas),
                feed,
                counts,
                readiness,
                tickets: Tickets::new(key),
                log_head: log_head_seen,
                checkpoint,
                relay: relay_state,
                // What the world reaches has none where they have an address of their own.
                metrics: config.metrics_bind.is_none().then_some(measured),
            };
            let relay = !config.no_relay;
            tracing::info!(http.address = %address, http.callers = callers, relay, "listening");
            parts.serve(listener, connections_max, state.into());
        }
    }
    Ok(parts.until_stopped().await?)
}

/// What a process knows that serves no HTTP: nothing of read models.
fn told_of_the_relay_alone(
    log_head: watch::Receiver<Position>,
    relay: Option<watch::Receiver<RelayStatus>>,
) -> Told {
    let checkpoint = watch::channel(Position::START).1;
    let readable = watch::channel(Readable::Yes).1;
    Told { log_head, checkpoint, readable, relay }
}

/// The database with the log, the one with the feeds, and replicas of that.
fn databases(config: &Config) -> Result<(Database, Database, Vec<Database>), ConnectError> {
    let log_url = config.database_url.expose();
    let log = Database::parse("DATABASE_URL", log_url, "rookery api: log")?;
    let feed = match &config.feed_database_url {
        Some(url) => Database::parse("FEED_DATABASE_URL", url.expose(), "rookery api: feed")?,
        None => Database::parse("DATABASE_URL", log_url, "rookery api: feed")?,
    };
    let replicas = config.feed_replica_urls.iter();
    let replicas =
        replicas.map(|url| Database::parse("FEED_REPLICA_URLS", url.expose(), "rookery api: feed"));
    Ok((log, feed, replicas.collect::<Result<_, _>>()?))
}

/// Starts to watch the replicas of the read model, which is at `checkpoint`.
fn start_replicas(
    parts: &Parts,
    databases: Vec<Database>,
    config: &Config,
    checkpoint: &watch::Receiver<Position>,
    log: &Connections,
) -> Vec<Arc<Replica>> {
    let start = |database: Database| {
        let database = database.with_statement_timeout(REPLICA_READ_TIMEOUT);
        let connections = database.connections(config.feed_connections);
        let replica = Arc::new(Replica::new(database.address(), connections, checkpoint.clone()));
        parts.watch_replica(Arc::clone(&replica), &database, log);
        replica
    };
    databases.into_iter().map(start).collect()
}

/// Starts to follow the counts, which are readable or not by themselves.
fn start_counts(
    parts: &Parts,
    feed_database: &Database,
    log: &Connections,
    patience: Duration,
) -> ReadModel {
    let database = feed_database.clone().of(ProjectionName::Counts);
    let (checkpoint, readable) = parts.follow_checkpoint(COUNTS, &database, log, Standing::Ready);
    let connections = database.connections(COUNTS_CONNECTIONS);
    ReadModel { connections, freshness: Freshness::new(checkpoint, readable, patience) }
}

/// Starts the relay and returns what it does, as it changes.
fn start_relay(
    parts: &Parts,
    log_database: &Database,
    broker: Broker,
    log_head: watch::Receiver<Position>,
) -> watch::Receiver<RelayStatus> {
    let unknown = RelayStatus { state: RelayState::Disconnected, queues: Queues::default() };
    let (status, told) = watch::channel(unknown);
    let name = instance_name("relay");
    let (log, hops) = (log_database.connections(1), parts.record_hops(log_database));
    parts.start_relay(Relay::new(log, broker, name, log_head, status, hops));
    told
}

async fn listen(
    bind: &str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ServiceError> {
    let error = |source| ServiceError::Bind { address: bind.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    // Not what was asked for when that left the port to the system.
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}
