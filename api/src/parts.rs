//! The running parts of the process, and the order in which they stop.

use std::time::Duration;

use events::runtime::SHUTDOWN_DEADLINE;
use events::store::follow::follow;
use events::store::schema::{Schema, SchemaError};
use events::store::{CHECKPOINT_CHANNEL, Connections, Database, Fault, LOG_CHANNEL, read};
use events::{Clock, Position};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::appender::{Appender, forget};
use crate::live::{self, Live};
use crate::relay::Relay;
use crate::service::ServiceError;
use crate::state::AppState;
use crate::{routes, server, views};

/// How often the metrics that only grow with time are tidied.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// The running parts. They stop in the order in which work flows: first HTTP takes no more and
/// answers what it has, then the appender empties its queue, then the relay publishes what that
/// appended.
pub(crate) struct Parts {
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
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
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

    pub(crate) fn start_relay(&self, relay: Relay) {
        let stop = self.stop_relay.clone();
        self.start("the relay", &self.relay, async move { Ok(relay.run(stop).await?) });
    }

    pub(crate) fn start_appender(
        &self,
        log: Connections,
        log_head: watch::Sender<Position>,
    ) -> Appender {
        let (appender, task) = Appender::new(log, Clock::system(), log_head);
        let stop = self.stop_appender.clone();
        self.start("the appender", &self.appender, async move {
            task.run(stop).await;
            Ok(())
        });
        appender
    }

    pub(crate) fn follow_log(
        &self,
        database: Database,
        log: Connections,
        head: watch::Sender<Position>,
    ) {
        let stop = self.stop_relay.clone();
        self.start("following the log", &self.relay, async move {
            follow(&database, LOG_CHANNEL, &head, || read::head(&log), &stop).await?;
            Ok(())
        });
    }

    pub(crate) fn follow_checkpoint(
        &self,
        database: Database,
        feed: Connections,
    ) -> (watch::Receiver<Position>, watch::Receiver<bool>) {
        let (sender, checkpoint) = watch::channel(Position::START);
        let (can_read, readable) = watch::channel(true);
        let stop = self.stop_appender.clone();
        self.start("following the checkpoint", &self.appender, async move {
            // Before the projector has made the read model, nothing has been applied to it.
            let read = async || {
                match Schema::Feed.is_there(&feed).await {
                    // Statements themselves say what is not there yet.
                    Ok(_) => can_read.send_replace(true),
                    Err(SchemaError::Newer { .. }) => can_read.send_replace(false),
                    Err(SchemaError::Look { source, .. }) => return Err(source),
                    Err(_) => true,
                };
                match views::checkpoint(&feed).await {
                    Err(error) if Fault::of(&error) == Fault::Absent => Ok(Position::START),
                    checkpoint => checkpoint,
                }
            };
            follow(&database, CHECKPOINT_CHANNEL, &sender, read, &stop).await?;
            Ok(())
        });
        (checkpoint, readable)
    }

    pub(crate) fn start_forgetting(&self, log: Connections) {
        let stop = self.stop_appender.clone();
        self.start("forgetting old answers", &self.appender, async move {
            forget::run(log, Clock::system(), stop).await;
            Ok(())
        });
    }

    /// Its streams are requests in flight that would never end by themselves, so it stops with the
    /// HTTP server.
    pub(crate) fn watch_feeds(
        &self,
        feed: Connections,
        checkpoint: watch::Receiver<Position>,
    ) -> Live {
        let (live, stop) = (Live::default(), self.shutdown.clone());
        let watching = live::watch(live.clone(), feed, checkpoint, stop);
        self.start("watching feeds", &self.http, async move {
            watching.await;
            Ok(())
        });
        live
    }

    pub(crate) fn start_metrics(&self) -> Result<PrometheusHandle, ServiceError> {
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

    pub(crate) fn serve(&self, listener: TcpListener, state: AppState) {
        let stop = self.shutdown.clone();
        self.start("the HTTP server", &self.http, async move {
            server::serve(listener, routes::service(state), stop).await;
            Ok(())
        });
    }

    pub(crate) async fn until_stopped(mut self) -> Result<(), ServiceError> {
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
