//! `projector run`

use std::time::Duration;

use events::amqp::Broker;
use events::lifecycle::Lifecycle;
use events::metrics;
use events::runtime::{instance_name, shutdown_on_signal};
use events::store::hops::Recorder;
use events::store::schema::Schema;
use events::trace::Exporting;
use uuid::Uuid;

use super::CommandError;
use crate::config::RunArguments;
use crate::consume;
use crate::consume::lead::Lead;
use crate::metrics::OF_THE_PROJECTOR;
use crate::projection::Projection;

/// Connections to each database: one at work, one to look from.
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
    let feed_database = arguments
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
    let log = log_database.connect(CONNECTIONS).await?;
    let feed = feed_database.connect(CONNECTIONS).await?;
    let shutdown = shutdown_on_signal().map_err(CommandError::Signals)?;

    Schema::Feed.migrate(&feed).await?;
    // The api makes the log; a projector that is started first waits for it.
    Schema::Log.until_current(&log, "waiting for the api to make the log", &shutdown).await?;
    let (recorder, recording) = Recorder::new(feed_database.connections(1));
    let projection = Projection::new(log.clone(), feed, arguments.feeds.bounds(), shutdown.clone())
        .recording(recorder);
    // Processes of two machines may have one name and number.
    let name = format!("{} {}", instance_name("projector"), Uuid::now_v7().simple());
    let lead = Lead::new(feed_database.connections(1), name);
    let lifecycle = Lifecycle::new(shutdown, STAGES);
    let (stop, leading) = (lifecycle.stop(WORK), lead.clone());
    lifecycle.start(WORK, "the projector", async move {
        consume::run(&projection, &log, &leading, &broker, &stop).await
    });
    let stop = lifecycle.stop(LEAD);
    lifecycle.start(LEAD, "keeping the lead", async move {
        lead.keep(stop).await;
        Ok(())
    });
    let stop = lifecycle.stop(WORK);
    lifecycle.start(WORK, "recording hops", async move {
        recording.run(stop).await;
        Ok(())
    });
    lifecycle.until_stopped().await?;
    tracing::info!("stopped");
    Ok(())
}
