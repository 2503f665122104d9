//! Publishing slices on one connection, with every confirm checked.

use std::collections::HashSet;
use std::time::Duration;

use events::amqp::{self, Broker, BrokerError, Queue};
use events::projection::PROJECTIONS;
use events::slice::{CONTENT_TYPE, Slice, SliceKey};
use events::trace::TRACEPARENT;
use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use metrics::gauge;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Queues;
use crate::metrics::RELAY_BROKER_BLOCKED;

/// How long the broker may take to confirm a batch. A broker in memory or disk alarm takes no
/// messages at all; the cursor then stays and the session starts again.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a look at the queue may take: what it finds is only shown.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// AMQP's delivery mode for a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// A channel in confirm mode, on a connection of its own.
pub(super) struct Publisher {
    connection: Connection,
    channel: Channel,
    /// For looking at the queue: a look that finds none ends its channel.
    looking: Mutex<Channel>,
    key: SliceKey,
}

/// How far a batch of slices was confirmed, counted from its start without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    All(usize),
    /// The broker refused the slice after these.
    Refused(usize),
}

impl Published {
    /// How many slices from the start were confirmed.
    pub(super) const fn count(self) -> usize {
        match self {
            Self::All(count) | Self::Refused(count) => count,
        }
    }
}

impl Publisher {
    pub(super) async fn connect(
        broker: &Broker,
        name: &str,
        key: SliceKey,
    ) -> Result<Self, BrokerError> {
        let connection = broker.connect(name).await?;
        let channel = confirming(&connection).await?;
        amqp::declare_topology(&channel).await?;
        let looking = Mutex::new(connection.create_channel().await?);
        Ok(Self { connection, channel, looking, key })
    }

    /// Publishes on another channel from now on. One that met a queue without a leader, as in a cluster that has just lost a
    /// node, can be refused there for good, also when the queue has a leader again: RabbitMQ 3.10 keeps asking the node that is gone.
    pub(super) async fn change_channel(&mut self) -> Result<(), BrokerError> {
        let changing = async {
            let channel = confirming(&self.connection).await?;
            std::mem::replace(&mut self.channel, channel).close(200, "refused".into()).await
        };
        let changed = timeout(CONFIRM_TIMEOUT, changing).await;
        Ok(changed.map_err(|_| BrokerError::Unconfirmed(CONFIRM_TIMEOUT))??)
    }

    /// The queues as they are now; `None` when the broker does not say.
    pub(super) async fn queues(&self) -> Result<Option<Queues>, BrokerError> {
        if self.show_blocked() {
            return Ok(None);
        }
        let looking = async {
            let mut looking = self.looking.lock().await;
            let mut queues = Queues::default();
            for (of, projection) in queues.iter_mut().zip(PROJECTIONS) {
                of.queue = self.queue(&mut looking, projection.queue()).await?;
                of.dead_letters = self.queue(&mut looking, projection.dead_letters()).await?;
            }
            Ok(Some(queues))
        };
        timeout(LOOK_TIMEOUT, looking).await.unwrap_or(Ok(None))
    }

    async fn queue(
        &self,
        looking: &mut Channel,
        queue: &str,
    ) -> Result<Option<Queue>, BrokerError> {
        if !looking.status().connected() {
            *looking = self.connection.create_channel().await?;
        }
        Ok(amqp::queue(looking, queue).await?)
    }

    /// Shows whether the broker takes no messages, because its disk or memory is short.
    pub(super) fn show_blocked(&self) -> bool {
        let is_blocked = self.connection.status().blocked();
        gauge!(RELAY_BROKER_BLOCKED.name).set(f64::from(u8::from(is_blocked)));
        is_blocked
    }

    /// Says whether the connection was lost meanwhile.
    pub(super) fn check(&self) -> Result<(), BrokerError> {
        if self.connection.status().connected() && self.channel.status().connected() {
            Ok(())
        } else {
            Err(BrokerError::Lost)
        }
    }

    /// Publishes `slices` and waits for all of their confirms.
    pub(super) async fn publish(&self, slices: &[Slice]) -> Result<Published, BrokerError> {
        let publishing = async {
            let mut confirms = Vec::with_capacity(slices.len());
            for slice in slices {
                confirms.push(self.send(slice).await?);
            }
            join_all(confirms).await.into_iter().collect::<Result<Vec<_>, _>>()
        };
        let confirms = timeout(CONFIRM_TIMEOUT, publishing)
            .await
            .map_err(|_| BrokerError::Unconfirmed(CONFIRM_TIMEOUT))??;
        let ids: Vec<String> = slices.iter().map(message_id).collect();
        confirmed_prefix(&ids, confirms)
    }

    async fn send(&self, slice: &Slice) -> Result<lapin::PublisherConfirm, lapin::Error> {
        let body = slice.encode();
        let mut headers = FieldTable::default();
        let first = AMQPValue::LongLongInt(slice.first().0);
        let last = AMQPValue::LongLongInt(slice.last().0);
        let signature = LongString::from(self.key.sign(&body));
        headers.insert(amqp::FIRST_POSITION_HEADER.into(), first);
        headers.insert(amqp::LAST_POSITION_HEADER.into(), last);
        headers.insert(amqp::SIGNATURE_HEADER.into(), AMQPValue::LongString(signature));
        // Where libraries for AMQP look for it; a message of several events has several, within.
        if let [event] = slice.events()
            && let Some(traceparent) = event.metadata.traceparent
        {
            let traceparent = LongString::from(traceparent.to_string());
            headers.insert(TRACEPARENT.into(), AMQPValue::LongString(traceparent));
        }
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message_id(slice).into())
            .with_app_id("rookery".into())
            .with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let any_key: ShortString = "".into();
        self.channel.basic_publish(amqp::EXCHANGE.into(), any_key, options, &body, properties).await
    }
}

/// A channel in confirm mode.
async fn confirming(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn message_id(slice: &Slice) -> String {
    format!("slice-{}-{}", slice.first(), slice.last())
}

/// A message that no queue took comes back attached to *a* confirm, not always its own: several
/// confirms can arrive as one. So the returned ones are known by their message ids.
fn confirmed_prefix(ids: &[String], confirms: Vec<Confirmation>) -> Result<Published, BrokerError> {
    let acknowledged: Vec<bool> = confirms.iter().map(Confirmation::is_ack).collect();
    let returned: HashSet<String> = confirms
        .into_iter()
        .filter_map(Confirmation::take_message)
        .filter_map(|message| {
            message.delivery.properties.message_id().as_ref().map(ToString::to_string)
        })
        .collect();
    let confirmed = ids
        .iter()
        .zip(acknowledged)
        .take_while(|(id, acknowledged)| *acknowledged && !returned.contains(*id))
        .count();
    match ids.get(confirmed) {
        None => Ok(Published::All(confirmed)),
        // No queue is bound any more. The next session declares the topology again.
        Some(id) if returned.contains(id) => Err(BrokerError::Unroutable),
        Some(_) => Ok(Published::Refused(confirmed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("slice-{index}-{index}")).collect()
    }

    #[test]
    fn the_cursor_stops_before_the_first_slice_that_was_refused() {
        let confirms =
            vec![Confirmation::Ack(None), Confirmation::Nack(None), Confirmation::Ack(None)];
        let published = confirmed_prefix(&ids(3), confirms).unwrap();
        assert_eq!(published, Published::Refused(1));
    }

    #[test]
    fn a_confirm_that_was_not_asked_for_confirms_nothing() {
        let confirms = vec![Confirmation::NotRequested];
        assert_eq!(confirmed_prefix(&ids(1), confirms).unwrap(), Published::Refused(0));
    }

    #[test]
    fn all_confirmed_is_all() {
        let confirms = vec![Confirmation::Ack(None), Confirmation::Ack(None)];
        assert_eq!(confirmed_prefix(&ids(2), confirms).unwrap(), Published::All(2));
    }
}
