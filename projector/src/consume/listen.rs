//! Listening to RabbitMQ, for as long as this projector leads: a task of its own, so that whatever becomes of the
//! broker, the projection goes on from the log.

use std::sync::Arc;
use std::time::Duration;

use events::ProjectionName;
use events::amqp::{self, Broker, BrokerError};
use events::retry::{Failure, Retry};
use events::store::{Connections, outbox};
use metrics::gauge;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::consume::subscription::{Batch, Subscription};
use crate::metrics::BROKER_CONNECTED;

/// How long a subscription may take to come about once there is a connection, topology and all.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// A queue that the broker has not been able to use for so long will never be: far longer than a broker takes to start.
const UNUSABLE_AFTER: Duration = Duration::from_secs(20);

/// How often a silent connection is looked at.
const CHECK: Duration = Duration::from_secs(1);

/// So many batches wait beside the one that is applied; further messages stay with the broker.
const WAITING_MAX: usize = 1;

/// Why a session with the broker ended.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the log cannot be read: {0}")]
    Log(#[from] sqlx::Error),
}

/// What listens. It ends with this.
#[derive(Debug)]
pub(crate) struct Listener {
    batches: mpsc::Receiver<Batch>,
    missed: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    /// Begins to listen to `broker` for `projection`, whose messages gather for a while; `log` knows the key by which they are signed.
    pub(crate) fn start(
        broker: &Broker,
        log: &Connections,
        projection: ProjectionName,
        gathers_for: Duration,
    ) -> Self {
        let (sender, batches) = mpsc::channel(WAITING_MAX);
        let (stop, missed) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (broker, log) = (broker.clone(), log.clone());
        let source = Source { broker, log, projection, gathers_for };
        let listening = listen(source, sender, Arc::clone(&missed), stop.clone());
        Self { batches, missed, stop, task: tokio::spawn(listening) }
    }

    /// What has arrived; waits for as long as nothing does.
    pub(crate) async fn next(&mut self) -> Batch {
        match self.batches.recv().await {
            Some(batch) => batch,
            // It was told to stop.
            None => std::future::pending().await,
        }
    }

    /// Says that what was published did not arrive: somebody may have changed what leads here.
    pub(crate) fn miss(&self) {
        self.missed.notify_one();
    }

    /// Hands back what was not acknowledged, and ends.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.batches.close();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "listening to RabbitMQ crashed");
        }
    }
}

/// Whom to listen to.
struct Source {
    broker: Broker,
    log: Connections,
    projection: ProjectionName,
    gathers_for: Duration,
}

async fn listen(
    source: Source,
    batches: mpsc::Sender<Batch>,
    missed: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut retry = Retry::new("listening to RabbitMQ");
    let mut unusable_since = None;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let end = session(&source, &batches, &missed, &stop, &mut unusable_since).await;
        gauge!(BROKER_CONNECTED.name, "projection" => source.projection.name()).set(0.0);
        let Err(mut error) = end else { return };
        if matches!(&error, ListenError::Broker(error) if error.is_of_a_queue()) {
            let since = *unusable_since.get_or_insert(began);
            if since.elapsed() >= UNUSABLE_AFTER {
                unusable_since = None;
                tokio::select! {
                    renewed = timeout(OPEN_TIMEOUT, renew_queue(&source)) => match renewed {
                        Ok(Ok(())) => continue,
                        Ok(Err(why)) => error = why.into(),
                        Err(_) => error = BrokerError::Timeout.into(),
                    },
                    () = stop.cancelled() => return,
                }
            }
        }
        // Only a failure that no try can mend would come back.
        if retry.after(Failure::Retry(error), &stop).await.is_err() {
            return;
        }
    }
}

/// The queue is there and cannot be used.
async fn renew_queue(source: &Source) -> Result<(), BrokerError> {
    let Source { broker, projection, .. } = source;
    tracing::warn!(
        "RabbitMQ cannot use {} and has not been able to for {} s; it is deleted and declared anew",
        projection.queue(),
        UNUSABLE_AFTER.as_secs()
    );
    let connection = broker.connect("rookery projector: mending a queue").await?;
    let channel = connection.create_channel().await?;
    amqp::renew_queue(&channel, *projection).await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn session(
    source: &Source,
    batches: &mpsc::Sender<Batch>,
    missed: &Notify,
    stop: &CancellationToken,
    unusable_since: &mut Option<Instant>,
) -> Result<(), ListenError> {
    let Source { broker, log, projection, gathers_for } = source;
    let key = tokio::select! {
        key = outbox::slice_key(log) => key?,
        () = stop.cancelled() => return Ok(()),
    };
    let opening = async {
        let connection = Subscription::connect(broker, *projection).await?;
        let opened = timeout(OPEN_TIMEOUT, Subscription::open(connection, *projection)).await;
        opened.unwrap_or(Err(BrokerError::QueueSilent))
    };
    let mut subscription = tokio::select! {
        opened = opening => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    gauge!(BROKER_CONNECTED.name, "projection" => projection.name()).set(1.0);
    tracing::info!("subscribed to {}", projection.queue());
    *unusable_since = None;
    let mut checks = tokio::time::interval(CHECK);
    let listening = async {
        loop {
            tokio::select! {
                delivery = subscription.next() => {
                    let first = delivery?;
                    if !gathers_for.is_zero() {
                        tokio::time::sleep(*gathers_for).await;
                    }
                    let batch = subscription.batch_from(first, &key).await?;
                    // Nobody takes it: this is told to stop.
                    if batches.send(batch).await.is_err() {
                        return Ok(());
                    }
                }
                _ = checks.tick() => subscription.check()?,
                () = missed.notified() => {
                    timeout(OPEN_TIMEOUT, subscription.declare_again())
                        .await
                        .map_err(|_| BrokerError::Timeout)??;
                }
            }
        }
    };
    let end = tokio::select! {
        end = listening => end,
        () = stop.cancelled() => Ok(()),
    };
    subscription.close().await;
    end
}
