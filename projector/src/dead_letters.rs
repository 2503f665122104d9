//! Dead letters: messages of the projections' queues that were set aside, for a person to look at. One that was made by hand came
//! to each of them.
//!
//! **Invariant**: no feed needs any of them. What they should have brought is read from the log, whatever becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::amqp::{self, Broker, BrokerError, DEAD_LETTERS_MAX};
use events::projection::PROJECTIONS;
use events::store::{Connections, history, outbox};
use events::{Position, ProjectionName, Slice};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout};

use crate::consume::decode;

/// How long the next of the messages that are there may take to come.
const NEXT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked at whether somebody else takes from a queue.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes of the hash by which a message is known: no two of ten thousand are likely to share them.
const ID_BYTES: usize = 5;

/// All that are there, held until this is closed: nobody else sees them meanwhile, and they are put back.
pub struct DeadLetters {
    connection: Connection,
    channel: Channel,
    deliveries: Vec<(ProjectionName, Delivery)>,
}

/// What one of them is.
#[derive(Debug, Serialize)]
pub struct DeadLetter {
    /// Made from its body: the same message twice has one.
    pub id: String,
    /// Which projection set it aside.
    pub projection: &'static str,
    /// When RabbitMQ set it aside, to the second.
    pub since: Option<DateTime<Utc>>,
    pub bytes: usize,
    /// Why it was.
    pub why: String,
    /// Why no projection needs it.
    pub not_needed: String,
    /// What its sender said of it, where that is text or a number.
    pub headers: BTreeMap<String, String>,
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// Why they cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DeadLettersError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("there is no queue {0}: no projector has been at this RabbitMQ")]
    NoQueue(&'static str),
    #[error(
        "RabbitMQ has {there} messages in {queue} and handed out {handed}: does somebody else hold them?"
    )]
    Held { queue: &'static str, there: u32, handed: usize },
    #[error(
        "somebody else takes from {0}: another projector dead-letters, or a consumer that RabbitMQ's UI names under the \
         queue; what they hold cannot be seen"
    )]
    InUse(&'static str),
}

impl From<lapin::Error> for DeadLettersError {
    fn from(error: lapin::Error) -> Self {
        BrokerError::from(error).into()
    }
}

impl DeadLetters {
    /// Takes hold of all that are there: their queues are bounded in number and bytes.
    ///
    /// # Errors
    /// [`DeadLettersError`]
    pub async fn hold(broker: &Broker) -> Result<Self, DeadLettersError> {
        let connection = broker.connect("rookery projector dead-letters").await?;
        let channel = connection.create_channel().await?;
        let mut deliveries = Vec::new();
        for projection in PROJECTIONS {
            let queue = projection.dead_letters();
            let there = messages_for_us_alone(&channel, queue).await?;
            let taken = take(&channel, queue, there).await?;
            deliveries.extend(taken.into_iter().map(|delivery| (projection, delivery)));
        }
        Ok(Self { connection, channel, deliveries })
    }

    /// What they are, oldest first, of each projection, which `reached` a position.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the log is away.
    pub async fn describe(
        &self,
        log: &Connections,
        reached: impl Fn(ProjectionName) -> Position,
    ) -> Result<Vec<DeadLetter>, sqlx::Error> {
        let key = outbox::slice_key(log).await?;
        let slices: Vec<_> =
            self.deliveries.iter().map(|(_, delivery)| decode(delivery, &key)).collect();
        let marks: Vec<_> = slices.iter().flatten().map(Slice::mark).collect();
        let foreign = history::foreign(log, &marks).await?;
        let described =
            self.deliveries.iter().zip(slices).map(|((projection, delivery), slice)| {
                let (why, not_needed) = match slice {
                    Err(error) => (error.to_string(), "it has no event of this log".to_owned()),
                    Ok(slice) if foreign.contains(&slice.mark()) => (
                        format!(
                            "its events, {} to {}, are of another history",
                            slice.first(),
                            slice.last()
                        ),
                        "it has no event of this log".to_owned(),
                    ),
                    Ok(slice) => {
                        let (first, last) = (slice.first(), slice.last());
                        let (name, at) = (projection.name(), reached(*projection));
                        let need = if last <= at { "has" } else { "will read from the log" };
                        (
                            format!("a slice that came back too often: events {first} to {last}"),
                            format!("{name} {need} its events; it is at {at}"),
                        )
                    }
                };
                DeadLetter {
                    id: id(&delivery.data),
                    projection: projection.name(),
                    since: since(delivery),
                    bytes: delivery.data.len(),
                    why,
                    not_needed,
                    headers: headers(delivery),
                    body: delivery.data.clone(),
                }
            });
        Ok(described.collect())
    }

    /// Discards those that `are_meant` by their ids, for good. Says how many those were, and how many are left.
    ///
    /// # Errors
    /// [`lapin::Error`] when the broker goes away; what it did not hear of is put back.
    pub async fn discard(
        self,
        are_meant: impl Fn(&str) -> bool,
    ) -> Result<(usize, usize), DeadLettersError> {
        let mut discarded = 0;
        for (_, delivery) in &self.deliveries {
            if are_meant(&id(&delivery.data)) {
                // Handed to the connection, not waited for.
                delivery.acker.ack(BasicAckOptions::default()).await?;
                discarded += 1;
            }
        }
        let left = self.deliveries.len() - discarded;
        // The broker answers the end of a channel when it has heard all that was said on it.
        self.put_back().await?;
        Ok((discarded, left))
    }

    /// Puts back what was not discarded.
    ///
    /// # Errors
    /// [`DeadLettersError`] when the broker went away, which puts them back too.
    pub async fn put_back(self) -> Result<(), DeadLettersError> {
        self.channel.close(200, "looked".into()).await?;
        Ok(self.connection.close(200, "looked".into()).await?)
    }
}

/// How many messages wait in `queue`, once nobody else takes from it: who did a moment ago may still be on their way out.
async fn messages_for_us_alone(
    channel: &Channel,
    queue: &'static str,
) -> Result<u32, DeadLettersError> {
    let deadline = Instant::now() + NEXT_TIMEOUT;
    loop {
        let found = amqp::queue(channel, queue).await?;
        let found = found.ok_or(DeadLettersError::NoQueue(queue))?;
        if found.consumers == 0 {
            return Ok(found.messages);
        }
        if Instant::now() >= deadline {
            return Err(DeadLettersError::InUse(queue));
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn take(
    channel: &Channel,
    queue: &'static str,
    there: u32,
) -> Result<Vec<Delivery>, DeadLettersError> {
    let all_of_them = u16::try_from(DEAD_LETTERS_MAX).unwrap_or(u16::MAX);
    channel.basic_qos(all_of_them, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(
            queue.into(),
            format!("rookery projector dead-letters: {queue}").into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut deliveries = Vec::new();
    while deliveries.len() < usize::try_from(there).unwrap_or(usize::MAX) {
        match timeout(NEXT_TIMEOUT, consumer.next()).await {
            Ok(Some(delivery)) => deliveries.push(delivery?),
            Ok(None) => return Err(BrokerError::Lost.into()),
            Err(_) => {
                return Err(DeadLettersError::Held { queue, there, handed: deliveries.len() });
            }
        }
    }
    Ok(deliveries)
}

fn id(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    let first = hash.iter().take(ID_BYTES);
    let number = first.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:0width$x}", width = 2 * ID_BYTES)
}

/// RabbitMQ writes into a header why and when it moved a message: <https://www.rabbitmq.com/docs/dlx>.
fn since(delivery: &Delivery) -> Option<DateTime<Utc>> {
    let headers = delivery.properties.headers().as_ref()?;
    let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(newest) = deaths.as_slice().first()? else { return None };
    let AMQPValue::Timestamp(seconds) = newest.inner().get("time")? else { return None };
    DateTime::from_timestamp(i64::try_from(*seconds).ok()?, 0)
}

fn headers(delivery: &Delivery) -> BTreeMap<String, String> {
    let properties = &delivery.properties;
    let texts = [
        ("message-id", properties.message_id()),
        ("content-type", properties.content_type()),
        ("app-id", properties.app_id()),
        ("user-id", properties.user_id()),
    ];
    let mut found: BTreeMap<_, _> = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text.as_ref()?.to_string())))
        .collect();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        let value = match value {
            AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            AMQPValue::LongLongInt(number) => number.to_string(),
            AMQPValue::LongInt(number) => number.to_string(),
            _ => continue,
        };
        found.insert(name.to_string(), value);
    }
    found
}
