//! A subscription to a projection's queue: messages in, slices out, and how each message is settled.

use std::time::Duration;

use events::amqp::{self, Broker, BrokerError};
use events::runtime::instance_name;
use events::slice::{SliceError, SliceKey};
use events::{Mark, Position, ProjectionName, Slice};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer};
use metrics::counter;

use crate::bounds::APPLY_MAX_EVENTS;
use crate::metrics::DEAD_LETTERS;

/// How many messages the broker sends ahead. Full slices, they are four transactions' worth; more
/// would only fill memory.
const PREFETCH: u16 = 32;

/// How long the broker may take to say farewell.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A consumer on a connection of its own.
pub(crate) struct Subscription {
    projection: ProjectionName,
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

/// Messages that arrived together: what they say, and how to settle them.
#[derive(Debug)]
pub(crate) struct Batch {
    projection: ProjectionName,
    pub slices: Vec<Slice>,
    /// The last position that they have, once they were tried.
    pub end: Option<Position>,
    deliveries: Vec<Delivery>,
}

impl Subscription {
    pub(crate) async fn connect(
        broker: &Broker,
        projection: ProjectionName,
    ) -> Result<Connection, BrokerError> {
        broker.connect(&name(projection)).await
    }

    pub(crate) async fn open(
        connection: Connection,
        projection: ProjectionName,
    ) -> Result<Self, BrokerError> {
        let channel = connection.create_channel().await?;
        amqp::declare_topology(&channel).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let consumer = channel
            .basic_consume(
                projection.queue().into(),
                name(projection).into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(Self { projection, connection, channel, consumer })
    }

    pub(crate) async fn next(&mut self) -> Result<Delivery, BrokerError> {
        match self.consumer.next().await {
            Some(delivery) => Ok(delivery?),
            // Cancelled by the broker: the queue was deleted, or its node went away.
            None => Err(BrokerError::Lost),
        }
    }

    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        if self.connection.status().connected() && self.channel.status().connected() {
            Ok(())
        } else {
            Err(BrokerError::Lost)
        }
    }

    /// Declares queue, exchange and bindings again, where somebody took one of them away.
    pub(crate) async fn declare_again(&self) -> Result<(), BrokerError> {
        let channel = self.connection.create_channel().await?;
        amqp::declare_topology(&channel).await?;
        channel.close(200, "declared".into()).await?;
        Ok(())
    }

    /// `first` and what else is here already, up to one transaction's worth. What cannot be decoded
    /// goes to the dead letters: its events, if it had any, are missing and read from the log.
    pub(crate) async fn batch_from(
        &mut self,
        first: Delivery,
        key: &SliceKey,
    ) -> Result<Batch, BrokerError> {
        let projection = self.projection;
        let mut batch = Batch { projection, slices: Vec::new(), end: None, deliveries: Vec::new() };
        let mut events = 0;
        let mut next = Some(first);
        while let Some(delivery) = next {
            match decode(&delivery, key) {
                Ok(slice) => {
                    events += slice.len();
                    batch.slices.push(slice);
                    batch.deliveries.push(delivery);
                }
                Err(error) => set_aside(self.projection, &delivery, &error).await?,
            }
            next = if events < APPLY_MAX_EVENTS {
                self.next().now_or_never().transpose()?
            } else {
                None
            };
        }
        Ok(batch)
    }

    /// Hands back at once what was sent ahead, rather than when the broker misses us.
    pub(crate) async fn close(&self) {
        let closing = self.connection.close(200, "the projector stops".into());
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the connection to RabbitMQ had ended already");
            }
            Err(_) => tracing::debug!("RabbitMQ did not answer the farewell"),
        }
    }
}

/// As a person finds it in the RabbitMQ UI.
fn name(projection: ProjectionName) -> String {
    instance_name(&format!("projector of {}", projection.name()))
}

impl Batch {
    /// Takes out the slices that end with one of the `foreign` marks: the log has other events there.
    pub(crate) async fn set_foreign_aside(&mut self, foreign: &[Mark]) {
        if foreign.is_empty() {
            return;
        }
        let slices = std::mem::take(&mut self.slices);
        let deliveries = std::mem::take(&mut self.deliveries);
        for (slice, delivery) in slices.into_iter().zip(deliveries) {
            if foreign.contains(&slice.mark()) {
                let error = SliceError::OtherHistory(slice.mark());
                settled(set_aside(self.projection, &delivery, &error).await);
            } else {
                self.slices.push(slice);
                self.deliveries.push(delivery);
            }
        }
    }

    pub(crate) async fn acknowledge(self) {
        for delivery in &self.deliveries {
            settled(delivery.acker.ack(BasicAckOptions::default()).await.map(drop));
        }
    }
}

/// What was not settled, because the connection was lost meanwhile, comes again and is known then.
fn settled(result: Result<(), lapin::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a message was not settled and will come again");
    }
}

/// The slice that a message brings.
///
/// # Errors
/// [`SliceError`] when it is none.
pub(crate) fn decode(delivery: &Delivery, key: &SliceKey) -> Result<Slice, SliceError> {
    let signature = delivery
        .properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get(amqp::SIGNATURE_HEADER))
        .and_then(|value| match value {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        })
        .unwrap_or_default();
    Slice::decode(&delivery.data, signature, key)
}

async fn set_aside(
    projection: ProjectionName,
    delivery: &Delivery,
    error: &SliceError,
) -> Result<(), lapin::Error> {
    counter!(DEAD_LETTERS.name, "projection" => projection.name()).increment(1);
    tracing::warn!(
        %error,
        message.bytes = delivery.data.len(),
        "a message is no slice of the log; it goes to {}",
        projection.dead_letters()
    );
    delivery.acker.reject(BasicRejectOptions { requeue: false }).await?;
    Ok(())
}
