//! The broker's side: names, topology and connections.
//!
//! ```text
//! rookery.events (fanout) ─┬─► rookery.feed ───(is no slice)──► rookery.feed.dead-letters
//!                          └─► rookery.counts ─(is no slice)──► rookery.counts.dead-letters
//! ```
//!
//! Each projection has a queue of its own, and one for what it refused; all are quorum queues.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};

use crate::projection::{PROJECTIONS, ProjectionName};

/// Every slice of the log is published here; each [projection](crate::projection) binds a queue of its own.
pub const EXCHANGE: &str = "rookery.events";

/// The header with the position of a slice's first event.
pub const FIRST_POSITION_HEADER: &str = "rookery-first-position";

/// The header with the position of a slice's last event.
pub const LAST_POSITION_HEADER: &str = "rookery-last-position";

/// The header with the relay's signature of the body.
pub const SIGNATURE_HEADER: &str = "rookery-signature";

/// How often a message may come back before it is set aside. It comes back only when a consumer
/// dies while it holds it, and its events are read from the log in any case.
const DELIVERY_LIMIT: i32 = 20;

/// The most that waits in a projection's queue, in bytes: about half a million tweets. Beyond it the broker
/// refuses, the relay's cursor stops, and the log keeps the rest.
const QUEUE_MAX_BYTES: i64 = 256 * 1024 * 1024;

/// The most that is kept for a person to look at; beyond it the oldest go.
pub const DEAD_LETTERS_MAX: i32 = 10_000;

/// The same in bytes: who looks at them has all of them in memory.
const DEAD_LETTERS_MAX_BYTES: i64 = 64 * 1024 * 1024;

/// How often they can be looked at, which hands them out and takes them back. RabbitMQ 4 would drop them after 20 times.
const DEAD_LETTERS_LOOKS_MAX: i32 = 1_000_000;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After two of these without a sign of life, a connection counts as cut.
const HEARTBEAT_SECONDS: u16 = 5;

/// Why there is no connection to the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(
        "AMQP_URL is not an AMQP URL ({0}); it looks like amqp://user:password@host:5672/%2f, or several of \
         these with commas between them"
    )]
    Url(String),
    #[error("RabbitMQ: {0}")]
    Broker(#[from] lapin::Error),
    #[error("RabbitMQ did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection to RabbitMQ was lost")]
    Lost,
    #[error("RabbitMQ confirmed nothing for {} s (is it in memory or disk alarm?)", .0.as_secs())]
    Unconfirmed(Duration),
    #[error("no queue is bound to {EXCHANGE}; declaring them again")]
    Unroutable,
    #[error("a projection's queue is gone; declaring it again")]
    QueueGone,
    #[error("RabbitMQ is there and says nothing of a queue")]
    QueueSilent,
}

impl BrokerError {
    /// Whether a queue does not work. It can be there and have no leader, for good, when the broker was
    /// killed soon after it was declared (RabbitMQ's issue 15725): then whoever uses it hears of an internal error, or nothing.
    #[must_use]
    pub fn is_of_a_queue(&self) -> bool {
        if matches!(self, Self::QueueSilent) {
            return true;
        }
        let Self::Broker(error) = self else { return false };
        let ErrorKind::ProtocolError(error) = error.kind() else { return false };
        *error.kind() == AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR)
    }
}

/// Where the broker is: its nodes, any of which will do.
#[derive(Clone)]
pub struct Broker {
    nodes: Vec<AMQPUri>,
    /// The one to try first, for all that connect: which answered last, or comes after one that did not.
    first: Arc<AtomicUsize>,
}

/// Without users and passwords.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl Broker {
    /// Reads `AMQP_URL`: the URLs of one or several nodes, with commas between them.
    ///
    /// # Errors
    /// [`BrokerError::Url`] when one of them is not an AMQP URL.
    pub fn parse(urls: &str) -> Result<Self, BrokerError> {
        let mut nodes = Vec::new();
        for url in urls.split(',') {
            let mut uri: AMQPUri = url.trim().parse().map_err(BrokerError::Url)?;
            uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
            nodes.push(uri);
        }
        Ok(Self { nodes, first: Arc::default() })
    }

    /// Connects under a `name` that a person finds in the RabbitMQ UI, to the node that answered last, or else to the
    /// next one that does.
    ///
    /// # Errors
    /// [`BrokerError`] of the last node that was tried when each is away, silent, or refuses us.
    pub async fn connect(&self, name: &str) -> Result<Connection, BrokerError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut end = Err(BrokerError::Timeout);
        for tried in first..first + self.nodes.len() {
            let node = tried % self.nodes.len();
            // Also when nobody waits for the end of this.
            self.first.store(node + 1, Ordering::Relaxed);
            end = connect_to(&self.nodes[node], name).await;
            if end.is_ok() {
                self.first.store(node, Ordering::Relaxed);
                break;
            }
        }
        end
    }
}

async fn connect_to(node: &AMQPUri, name: &str) -> Result<Connection, BrokerError> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri(node.clone(), properties);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    Ok(connected.map_err(|_| BrokerError::Timeout)??)
}

/// Declares the exchanges and queues of the picture above. Both sides do it, so that whichever
/// comes first, or comes after someone deleted them, finds them.
///
/// # Errors
/// [`lapin::Error`], among them a queue that exists with other arguments.
pub async fn declare_topology(channel: &Channel) -> Result<(), lapin::Error> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let none = FieldTable::default();
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Fanout, options, none).await?;
    for projection in PROJECTIONS {
        declare_queues(channel, projection).await?;
    }
    Ok(())
}

async fn declare_queues(channel: &Channel, projection: ProjectionName) -> Result<(), lapin::Error> {
    let mut dead_letters = quorum();
    dead_letters.insert("x-max-length".into(), AMQPValue::LongInt(DEAD_LETTERS_MAX));
    dead_letters
        .insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(DEAD_LETTERS_MAX_BYTES));
    dead_letters.insert("x-delivery-limit".into(), AMQPValue::LongInt(DEAD_LETTERS_LOOKS_MAX));
    declare(channel, projection.dead_letters(), dead_letters).await?;

    let mut queue = quorum();
    queue.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    queue.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    // The exchange without a name, which every queue is bound to by its own.
    queue.insert("x-dead-letter-exchange".into(), text(""));
    queue.insert("x-dead-letter-routing-key".into(), text(projection.dead_letters()));
    queue.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(QUEUE_MAX_BYTES));
    queue.insert("x-overflow".into(), text("reject-publish"));
    declare(channel, projection.queue(), queue).await?;
    let (any_key, options) = ("".into(), QueueBindOptions::default());
    let none = FieldTable::default();
    channel.queue_bind(projection.queue().into(), EXCHANGE.into(), any_key, options, none).await
}

/// Deletes the queue of `projection` with all that is in it, and declares everything anew. Nothing is lost by it, because the log has
/// all of it.
///
/// # Errors
/// [`lapin::Error`] when the broker is away.
pub async fn renew_queue(
    channel: &Channel,
    projection: ProjectionName,
) -> Result<(), lapin::Error> {
    channel.queue_delete(projection.queue().into(), QueueDeleteOptions::default()).await?;
    declare_topology(channel).await
}

/// A queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Messages that wait to be taken.
    pub messages: u32,
    /// Who takes from it, the active one and those that stand by.
    pub consumers: u32,
}

/// Looks at `queue`; `None` when there is no such queue. The channel is of no
/// further use then: that is how AMQP answers.
///
/// # Errors
/// [`lapin::Error`] when the broker is away.
pub async fn queue(channel: &Channel, queue: &str) -> Result<Option<Queue>, lapin::Error> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
        Ok(found) => {
            Ok(Some(Queue { messages: found.message_count(), consumers: found.consumer_count() }))
        }
        Err(error) if error.is_amqp_soft_error() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn declare(
    channel: &Channel,
    queue: &str,
    arguments: FieldTable,
) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    Ok(())
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}
