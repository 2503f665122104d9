//! One persistent message through a quorum queue: published, confirmed, consumed.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::time::Instant;

use crate::build::Build;

const QUEUE: &str = "floor";

/// About what a message with one event has.
const BODY: [u8; 512] = [b'x'; 512];

const PERSISTENT: u8 = 2;

/// A queue, and who publishes and consumes.
pub struct RoundTrips {
    /// Kept open.
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl RoundTrips {
    /// Declares the queue on the broker of `build`.
    pub async fn open(build: &Build) -> anyhow::Result<Self> {
        let connection = build.vhost.connect().await;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), durable, arguments).await?;
        let consumer = channel
            .basic_consume(
                QUEUE.into(),
                "floor".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(Self { _connection: connection, channel, consumer })
    }

    /// How long one message takes.
    pub async fn one(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let confirm = self
            .channel
            .basic_publish(
                "".into(),
                QUEUE.into(),
                BasicPublishOptions::default(),
                &BODY,
                properties,
            )
            .await?;
        ensure!(confirm.await?.is_ack(), "the broker refused a message");
        let delivery = self.consumer.next().await.context("the consumer was cancelled")??;
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(began.elapsed())
    }
}
