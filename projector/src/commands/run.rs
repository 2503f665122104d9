//! `projector run`

use std::time::Duration;

use events::amqp::Broker;
use events::lifecycle::Lifecycle;
use events::runtime::shutdown_on_signal;
use events::store::PROJECTOR_SESSION;
use events::store::hops::Recorder;
use events::store::schema::Schema;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::CommandError;
use crate::config::RunArguments;
use crate::consume;
use crate::projection::Projection;

/// Connections to each database: one at work, one to look from.
const CONNECTIONS: usize = 2;

/// The most that a look at either database may take: a page of the log, the checkpoint. What is
/// applied has a limit of its own.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

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
        .with_application_name(PROJECTOR_SESSION)
        .with_settings([("synchronous_commit", "off")])
        .with_patience(LOOK_TIMEOUT)
        .writable();
    let broker = Broker::parse(&arguments.amqp_url)?;
    if let Some(address) = arguments.metrics_bind {
        PrometheusBuilder::new().with_http_listener(address).install()?;
    }
    let log = log_database.connect(CONNECTIONS).await?;
    let feed = feed_database.connect(CONNECTIONS).await?;
    let shutdown = shutdown_on_signal().map_err(CommandError::Signals)?;

    Schema::Feed.migrate(&feed).await?;
    // The api makes the log; a projector that is started first waits for it.
    Schema::Log.until_current(&log, "waiting for the api to make the log", &shutdown).await?;
    let (recorder, recording) = Recorder::new(feed_database.connections(1));
    let projection = Projection::new(log.clone(), feed, arguments.feed_kept, shutdown.clone())
        .recording(recorder);
    let lifecycle = Lifecycle::new(shutdown, 1);
    let stop = lifecycle.stop(0);
    lifecycle.start(0, "the projector", async move {
        consume::run(&projection, &log, &broker, &stop).await
    });
    let stop = lifecycle.stop(0);
    lifecycle.start(0, "recording hops", async move {
        recording.run(stop).await;
        Ok(())
    });
    lifecycle.until_stopped().await?;
    tracing::info!("stopped");
    Ok(())
}
