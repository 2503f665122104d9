//! `projector run`

use std::time::Duration;

use events::ProjectionName;
use events::amqp::Broker;
use events::lifecycle::Lifecycle;
use events::metrics;
use events::runtime::{instance_name, shutdown_on_signal};
use events::store::hops::Recorder;
use events::store::schema::Schema;
use events::store::{Connections, Database};
use events::trace::Exporting;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{CommandError, asked_for};
use crate::bounds::Bounds;
use crate::config::RunArguments;
use crate::consume;
use crate::consume::lead::Lead;
use crate::counts::Counts;
use crate::feed::HomeFeeds;
use crate::feed::dormancy::{self, Dormancy};
use crate::feed::flushing::Committed;
use crate::metrics::OF_THE_PROJECTOR;
use crate::projection::{Projection, ProjectionError, ReadModel};

/// Connections of a projection to each database: one at work, one to look from.
const CONNECTIONS: usize = 2;

/// The most that a look at either database may take: a page of the log, the checkpoint. What is
/// applied has a limit of its own.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The stages in which parts stop: the lead is given up when the work is done.
const WORK: usize = 0;
const LEAD: usize = 1;
const STAGES: usize = 2;

/// Projects until SIGTERM or SIGINT.
///
/// # Errors
/// [`CommandError`], which says what an operator should do.
pub async fn run(arguments: RunArguments) -> Result<(), CommandError> {
    let log_database = arguments.databases.log_database()?.with_statement_timeout(LOOK_TIMEOUT);
    // A lost tail is found as a gap and replayed.
    let database = arguments
        .databases
        .feed_database()?
        .with_settings([("synchronous_commit", "off")])
        .with_patience(LOOK_TIMEOUT)
        .writable();
    let broker = Broker::parse(&arguments.amqp_url)?;
    let _exporting = Exporting::start("rookery-projector").map_err(CommandError::Usage)?;
    if let Some(address) = arguments.metrics_bind {
        metrics::start(OF_THE_PROJECTOR, Some(address))?;
    }
    let projections = asked_for(&arguments.projections);
    let log = log_database.connect(projections.len() * CONNECTIONS).await?;
    let shutdown = shutdown_on_signal().map_err(CommandError::Signals)?;
    let bounds = arguments.feeds.bounds();
    let parts = Parts { log, database, broker, bounds, shutdown: shutdown.clone() };
    let lifecycle = Lifecycle::new(shutdown, STAGES);

    // All of them before the first goes to work: whatever happens from then on is tried again.
    let mut homes = Vec::new();
    for projection in projections {
        let home = match projection {
            ProjectionName::Feed => parts.home_of::<HomeFeeds>().await?,
            ProjectionName::Counts => parts.home_of::<Counts>().await?,
        };
        homes.push((projection, home));
    }
    for (projection, home) in homes {
        match projection {
            ProjectionName::Feed => {
                let beside = home.database.connections(1);
                let committed = Committed::default();
                let flushing = committed.clone().flush(beside.clone(), lifecycle.stop(WORK));
                lifecycle.start(WORK, "flushing what has committed", async move {
                    flushing.await;
                    Ok(())
                });
                let (recorder, recording) = Recorder::new(beside);
                let stop = lifecycle.stop(WORK);
                lifecycle.start(WORK, "recording hops", async move {
                    recording.run(stop).await;
                    Ok(())
                });
                let (announced, heard) = dormancy::heard();
                let listening =
                    dormancy::listen(log_database.clone(), announced, lifecycle.stop(WORK));
                lifecycle.start(WORK, "listening for readers who return", async move {
                    listening.await;
                    Ok(())
                });
                parts.start(&lifecycle, home, |writer: HomeFeeds| {
                    let dormancy = Dormancy::new(parts.log.clone(), heard);
                    writer.noting(committed).recording(recorder).minding(dormancy)
                });
            }
            ProjectionName::Counts => parts.start(&lifecycle, home, |counts: Counts| counts),
        }
    }
    lifecycle.until_stopped().await?;
    tracing::info!("stopped");
    Ok(())
}

/// What each projection is made of.
struct Parts {
    log: Connections,
    database: Database,
    broker: Broker,
    bounds: Bounds,
    shutdown: CancellationToken,
}

/// Where a projection is at home, when everything is there that it begins with.
struct Home {
    /// The one in which its tables are.
    database: Database,
    connections: Connections,
}

impl Parts {
    /// Waits for the log, and makes the tables of `M`.
    async fn home_of<M: ReadModel>(&self) -> Result<Home, CommandError> {
        let database = self.database.clone().of(M::LAYOUT.projection);
        M::LAYOUT.schema.migrate_to_write(&database.connect(1).await?).await?;
        // The api makes the log; a projector that is started first waits for it.
        let what = "waiting for the api to make the log";
        Schema::Log.until_current(&self.log, what, &self.shutdown).await?;
        let connections = database.connect(CONNECTIONS).await?;
        Ok(Home { database, connections })
    }

    /// Starts the projection into what `finish` makes of the read model at `home`.
    fn start<M: ReadModel>(
        &self,
        lifecycle: &Lifecycle<ProjectionError>,
        home: Home,
        finish: impl FnOnce(M) -> M,
    ) {
        let Self { log, broker, shutdown, .. } = self;
        let Home { database, connections } = home;
        let name = M::LAYOUT.projection.name();
        let model = finish(M::at(&connections, self.bounds, shutdown));
        let projection = Projection::new(log.clone(), connections, model);
        // Processes of two machines may have one name and number.
        let instance = format!("{} {}", instance_name("projector"), Uuid::now_v7().simple());
        let lead = Lead::new(M::LAYOUT.projection, database.connections(1), instance);
        let (stop, leading) = (lifecycle.stop(WORK), lead.clone());
        let (log, broker) = (log.clone(), broker.clone());
        lifecycle.start(WORK, name, async move {
            consume::run(&projection, &log, &leading, &broker, &stop).await
        });
        let stop = lifecycle.stop(LEAD);
        lifecycle.start(LEAD, "keeping the lead", async move {
            lead.keep(stop).await;
            Ok(())
        });
    }
}
