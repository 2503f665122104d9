//! The running parts of the process, and the order in which they stop.

use std::sync::Arc;
use std::thread;

use events::lifecycle::{Ended, Lifecycle};
use events::store::follow::follow;
use events::store::hops::{Recorder, RelayHop};
use events::store::schema::{Schema, SchemaError};
use events::store::{Connections, Database, Fault, LOG_CHANNEL, history, read};
use events::{Clock, Mark, Position, ProjectionName};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::appender::{Appender, forget};
use crate::freshness::Readable;
use crate::live::{self, Live};
use crate::markers::Markers;
use crate::pipeline::Pipeline;
use crate::readiness::Standing;
use crate::readings::Readings;
use crate::relay::{Relay, RelayError};
use crate::replicas::{LOOK_EVERY, Replica};
use crate::state::AppState;
use crate::{metrics, routes, server, views};

/// The stages in which parts stop: HTTP takes no more and answers what it has, then the appender empties
/// its queue, then the relay publishes what that appended.
const HTTP: usize = 0;
const APPENDER: usize = 1;
const RELAY: usize = 2;
const STAGES: usize = 3;

/// Why a part failed.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error("the relay stopped: {0}")]
    Relay(#[from] RelayError),
    #[error("a position could not be followed: {0}")]
    Follow(#[from] sqlx::Error),
}

/// See the module.
pub(crate) struct Parts(Lifecycle<PartError>);

impl Parts {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self(Lifecycle::new(shutdown, STAGES))
    }

    pub(crate) fn start_relay(&self, relay: Relay) {
        let stop = self.0.stop(RELAY);
        self.0.start(RELAY, "the relay", async move { Ok(relay.run(stop).await?) });
    }

    /// What the relay does, for those who watch. A lost tail of it is no loss.
    pub(crate) fn record_hops(&self, log: &Database) -> Recorder<RelayHop> {
        let log = log.clone().with_settings([("synchronous_commit", "off")]);
        let (recorder, recording) = Recorder::new(log.connections(1));
        let stop = self.0.stop(RELAY);
        self.0.start(RELAY, "recording hops", async move {
            recording.run(stop).await;
            Ok(())
        });
        recorder
    }

    pub(crate) fn start_appender(
        &self,
        log: Connections,
        range_events: i64,
        log_head: watch::Sender<Position>,
    ) -> Appender {
        let (appender, task) = Appender::new(log, Clock::system(), range_events, log_head);
        let stop = self.0.stop(APPENDER);
        self.0.start(APPENDER, "the appender", async move {
            on_its_own_thread("appender", task.run(stop)).await;
            Ok(())
        });
        appender
    }

    pub(crate) fn start_markers(&self, log: Connections) -> Markers {
        let (markers, task) = Markers::new(log);
        let stop = self.0.stop(APPENDER);
        self.0.start(APPENDER, "moving markers", async move {
            task.run(stop).await;
            Ok(())
        });
        markers
    }

    pub(crate) fn start_readings(&self, log: Connections) -> Readings {
        let (readings, task) = Readings::new(log, Clock::system());
        let stop = self.0.stop(APPENDER);
        self.0.start(APPENDER, "writing down who reads", async move {
            task.run(stop).await;
            Ok(())
        });
        readings
    }

    pub(crate) fn follow_log(
        &self,
        database: Database,
        log: Connections,
        head: watch::Sender<Position>,
    ) {
        let stop = self.0.stop(RELAY);
        self.0.start(RELAY, "following the log", async move {
            follow(&database, LOG_CHANNEL, &head, || read::head(&log), &stop).await?;
            Ok(())
        });
    }

    /// Follows how far `projection` is, in `database`.
    pub(crate) fn follow_checkpoint(
        &self,
        (projection, schema): (ProjectionName, Schema),
        database: &Database,
        log: &Connections,
        standing: Standing,
    ) -> (watch::Receiver<Position>, watch::Receiver<Readable>) {
        let (sender, checkpoint) = watch::channel(Position::START);
        let (can_read, readable) = watch::channel(match standing {
            Standing::Newer => Readable::Newer,
            Standing::OtherHistory => Readable::OtherHistory,
            Standing::Ready | Standing::Behind | Standing::Unreachable => Readable::Yes,
        });
        // One of its own: requests may have all the others.
        let (own, database, log) = (database.connections(1), database.clone(), log.clone());
        let stop = self.0.stop(APPENDER);
        self.0.start(APPENDER, "following the checkpoint", async move {
            let read = async || {
                let before = *can_read.borrow();
                let (position, now) = look(schema, &own, &log, before).await?;
                if can_read.send_replace(now) != now {
                    let name = projection.name();
                    tracing::warn!(
                        projection = name,
                        projection.position = position.0,
                        "{}",
                        now.describe()
                    );
                }
                Ok(position)
            };
            follow(&database, projection.channel(), &sender, read, &stop).await?;
            Ok(())
        });
        (checkpoint, readable)
    }

    /// Watches whether a replica, in `database`, is of use.
    pub(crate) fn watch_replica(
        &self,
        replica: Arc<Replica>,
        database: &Database,
        log: &Connections,
    ) {
        let (own, log, stop) = (database.connections(1), log.clone(), self.0.stop(APPENDER));
        self.0.start(APPENDER, "watching a replica", async move {
            let position = async || Ok(views::checkpoint(&own).await?.position);
            let check = async || {
                let looking = look(Schema::Feed, &own, &log, Readable::Yes);
                // Where it is the log that does not answer, the replica can be read all the same.
                timeout(LOOK_EVERY, looking).await.map_or(Ok(Readable::Yes), |end| Ok(end?.1))
            };
            replica.watch(position, check, stop).await;
            Ok(())
        });
    }

    pub(crate) fn start_forgetting(&self, log: Connections) {
        let stop = self.0.stop(APPENDER);
        self.0.start(APPENDER, "forgetting old answers", async move {
            forget::run(log, Clock::system(), stop).await;
            Ok(())
        });
    }

    /// Its streams are requests in flight that would never end by themselves, so it stops with the
    /// HTTP server.
    pub(crate) fn watch_feeds(
        &self,
        log: Connections,
        feed: Connections,
        checkpoint: watch::Receiver<Position>,
        readable: watch::Receiver<Readable>,
        connections_max: usize,
    ) -> Live {
        let (live, stop) = (Live::within(connections_max), self.0.stop(HTTP));
        let watching = live::watch(live.clone(), log, feed, checkpoint, readable, stop);
        self.0.start(HTTP, "watching feeds", async move {
            watching.await;
            Ok(())
        });
        live
    }

    pub(crate) fn measure_pipeline(&self, pipeline: Pipeline) {
        let stop = self.0.stop(RELAY);
        self.0.start(RELAY, "measuring the pipeline", async move {
            metrics::watch(pipeline, stop).await;
            Ok(())
        });
    }

    pub(crate) fn serve(&self, listener: TcpListener, connections_max: usize, state: AppState) {
        let stop = self.0.stop(HTTP);
        self.0.start(HTTP, "the HTTP server", async move {
            server::serve(listener, connections_max, routes::service(state), stop).await;
            Ok(())
        });
    }

    pub(crate) async fn until_stopped(self) -> Result<(), Ended<PartError>> {
        self.0.until_stopped().await
    }
}

/// Runs `task` on a thread of its own. Among the requests it would wait its turn after each of its round
/// trips, and with thousands of them ready that is longer than the round trip.
///
/// It is none of the runtime's threads, whose end the end of the process would wait for.
async fn on_its_own_thread<T: Send + 'static>(
    name: &str,
    task: impl Future<Output = T> + Send + 'static,
) -> T {
    let (end, ended) = oneshot::channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Nobody listens any more when the process ends without waiting for it.
        drop(end.send(runtime.expect("the system gives it a poll descriptor").block_on(task)));
    });
    thread.expect("the system gives it a thread");
    ended.await.expect("its thread has not crashed")
}

/// How far the read model with this `schema` is that `own` leads to, and whether it can be read, as it could `before`.
async fn look(
    schema: Schema,
    own: &Connections,
    log: &Connections,
    before: Readable,
) -> Result<(Position, Readable), sqlx::Error> {
    // What is not there yet, statements themselves say.
    let is_newer = match schema.is_there(own).await {
        Ok(_) => false,
        Err(SchemaError::Look { source, .. }) => return Err(source),
        Err(_) => true,
    };
    let mark = match views::checkpoint(own).await {
        // Before the projector has made it, nothing has been applied to it.
        Err(error) if Fault::of(&error) == Fault::Absent => Mark::START,
        mark => mark?,
    };
    let readable = match history::foreign(log, &[mark]).await {
        _ if is_newer => Readable::Newer,
        Ok(foreign) if foreign.is_empty() => Readable::Yes,
        Ok(_) => Readable::OtherHistory,
        // Reads do not need the log.
        Err(_) => before,
    };
    Ok((mark.position, readable))
}
