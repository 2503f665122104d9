//! The process: opens what the parts need, starts them, and stops them in order.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use events::amqp::{Broker, BrokerError};
use events::runtime::{SHUTDOWN_DEADLINE, instance_name, shutdown_on_signal};
use events::store::follow::follow;
use events::store::schema::{Schema, SchemaError};
use events::store::{CHECKPOINT_CHANNEL, ConnectError, Database, INDEXED_PLANS, LOG_CHANNEL, read};
use events::{Clock, Position};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::appender::Appender;
use crate::config::Config;
use crate::position::Freshness;
use crate::relay::{Relay, RelayError, RelayState};
use crate::state::AppState;
use crate::{routes, server, views};

/// Connections to the log: the appender, the relay, a read of the head, and one to spare.
const LOG_CONNECTIONS: u32 = 4;

/// Connections to the log for requests that look at its head, so that however many come, none of
/// them stands in the way of an append.
const LOG_READ_CONNECTIONS: u32 = 2;

/// A read that takes longer than this is given up: it would hold a connection that others wait for.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that an append may take: far beyond any batch, but it does not hold the lock for ever.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the metrics that only grow with time are tidied.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

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
    #[error("the relay stopped: {0}")]
    Relay(#[from] RelayError),
    #[error("the metrics could not be set up: {0}")]
    Metrics(#[from] BuildError),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[error("a position could not be followed: {0}")]
    Follow(#[from] sqlx::Error),
    #[error("{0} crashed")]
    Crashed(&'static str),
    #[error("not everything stopped within {} s", SHUTDOWN_DEADLINE.as_secs())]
    Unfinished,
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
    let log_database = Database::parse("DATABASE_URL", &config.database_url, "rookery api: log")?;
    let feed_database = match &config.feed_database_url {
        Some(url) => Database::parse("FEED_DATABASE_URL", url, "rookery api: feed")?,
        None => Database::parse("DATABASE_URL", &config.database_url, "rookery api: feed")?,
    };
    let broker = match &config.amqp_url {
        Some(url) if !config.no_relay => Some(Broker::parse(url)?),
        _ => None,
    };

    // Before any limit on statements: a migration may take as long as it takes.
    Schema::Log.migrate(&log_database.connect(1).await?).await?;
    Schema::Feed.migrate(&feed_database.connect(1).await?).await?;
    // A command is answered once it is durable, whatever the server's default is.
    let log_database = log_database
        .with_settings([("synchronous_commit", "on")])
        .with_settings(INDEXED_PLANS)
        .with_statement_timeout(APPEND_TIMEOUT);
    let feed_database =
        feed_database.with_settings(INDEXED_PLANS).with_statement_timeout(READ_TIMEOUT);
    let log = log_database.connect(LOG_CONNECTIONS).await?;

    let listener = if config.no_http { None } else { Some(listen(&config.bind, address).await?) };
    let shutdown = shutdown_on_signal().map_err(ServiceError::Signals)?;
    let (log_head, log_head_seen) = watch::channel(Position::START);
    let parts = Parts::new(shutdown);

    let relay_state = broker.map(|broker| {
        let (sender, state) = watch::channel(RelayState::Disconnected);
        let name = instance_name("relay");
        let relay = Relay::new(log.clone(), broker, name, log_head_seen.clone(), sender);
        parts.start_relay(relay);
        state
    });
    let log_reads = log_database.clone();
    parts.follow_log(log_database, log.clone(), log_head.clone());

    match listener {
        None => tracing::info!("relay started, without HTTP"),
        Some((listener, address)) => {
            let feed = feed_database.connect(config.feed_connections).await?;
            let checkpoint = parts.follow_checkpoint(feed_database, feed.clone());
            let state = AppState {
                appender: parts.start_appender(log, log_head),
                log: log_reads.connect(LOG_READ_CONNECTIONS).await?,
                feed,
                freshness: Freshness::new(checkpoint.clone(), config.patience()),
                log_head: log_head_seen,
                checkpoint,
                relay: relay_state,
                metrics: parts.start_metrics()?,
            };
            tracing::info!(http.address = %address, relay = !config.no_relay, "listening");
            parts.serve(listener, state);
        }
    }
    parts.until_stopped().await
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

/// The running parts. They stop in the order in which work flows: first HTTP takes no more and
/// answers what it has, then the appender empties its queue, then the relay publishes what that
/// appended.
struct Parts {
    shutdown: CancellationToken,
    http: TaskTracker,
    appender: TaskTracker,
    relay: TaskTracker,
    stop_appender: CancellationToken,
    stop_relay: CancellationToken,
    failed: tokio::sync::mpsc::Receiver<ServiceError>,
    fail: tokio::sync::mpsc::Sender<ServiceError>,
}

impl Parts {
    fn new(shutdown: CancellationToken) -> Self {
        let (fail, failed) = tokio::sync::mpsc::channel(8);
        Self {
            shutdown,
            http: TaskTracker::new(),
            appender: TaskTracker::new(),
            relay: TaskTracker::new(),
            stop_appender: CancellationToken::new(),
            stop_relay: CancellationToken::new(),
            failed,
            fail,
        }
    }

    /// Starts one part. A part that fails or panics takes the process down: half a service that
    /// looks alive is worse than one that is restarted.
    fn start(
        &self,
        name: &'static str,
        tracker: &TaskTracker,
        part: impl Future<Output = Result<(), ServiceError>> + Send + 'static,
    ) {
        let task = tokio::spawn(part);
        let fail = self.fail.clone();
        tracker.spawn(async move {
            let end = task.await.unwrap_or(Err(ServiceError::Crashed(name)));
            if let Err(error) = end {
                // Full or closed only when another failure is already stopping the process.
                drop(fail.try_send(error));
            }
        });
    }

    fn start_relay(&self, relay: Relay) {
        let stop = self.stop_relay.clone();
        self.start("the relay", &self.relay, async move { Ok(relay.run(stop).await?) });
    }

    fn start_appender(&self, log: PgPool, log_head: watch::Sender<Position>) -> Appender {
        let (appender, task) = Appender::new(log, Clock::system(), log_head);
        let stop = self.stop_appender.clone();
        self.start("the appender", &self.appender, async move {
            task.run(stop).await;
            Ok(())
        });
        appender
    }

    fn follow_log(&self, database: Database, log: PgPool, head: watch::Sender<Position>) {
        let stop = self.stop_relay.clone();
        self.start("following the log", &self.relay, async move {
            follow(&database, LOG_CHANNEL, &head, || read::head(&log), &stop).await?;
            Ok(())
        });
    }

    fn follow_checkpoint(&self, database: Database, feed: PgPool) -> watch::Receiver<Position> {
        let (sender, checkpoint) = watch::channel(Position::START);
        let stop = self.stop_appender.clone();
        self.start("following the checkpoint", &self.appender, async move {
            let read = || views::checkpoint(&feed);
            follow(&database, CHECKPOINT_CHANNEL, &sender, read, &stop).await?;
            Ok(())
        });
        checkpoint
    }

    fn start_metrics(&self) -> Result<PrometheusHandle, ServiceError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Full("rookery_append_batch_commands".to_owned()),
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
            )?
            .set_buckets(&[
                0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            ])?
            .install_recorder()?;
        let (upkeep, stop) = (handle.clone(), self.shutdown.clone());
        self.start("the metrics", &self.http, async move {
            while !stop.is_cancelled() {
                upkeep.run_upkeep();
                tokio::select! {
                    () = tokio::time::sleep(METRICS_UPKEEP) => {}
                    () = stop.cancelled() => {}
                }
            }
            Ok(())
        });
        Ok(handle)
    }

    fn serve(&self, listener: TcpListener, state: AppState) {
        let stop = self.shutdown.clone();
        self.start("the HTTP server", &self.http, async move {
            server::serve(listener, routes::service(state), stop).await;
            Ok(())
        });
    }

    async fn until_stopped(mut self) -> Result<(), ServiceError> {
        let failure = tokio::select! {
            () = self.shutdown.cancelled() => None,
            failure = self.failed.recv() => failure,
        };
        self.shutdown.cancel();
        let stopping = async {
            finish(&self.http).await;
            self.stop_appender.cancel();
            finish(&self.appender).await;
            self.stop_relay.cancel();
            finish(&self.relay).await;
        };
        let stopped = tokio::time::timeout(SHUTDOWN_DEADLINE, stopping).await;
        match failure.or_else(|| self.failed.try_recv().ok()) {
            Some(failure) => Err(failure),
            None => stopped.map_err(|_| ServiceError::Unfinished),
        }
    }
}

async fn finish(tracker: &TaskTracker) {
    tracker.close();
    tracker.wait().await;
}
