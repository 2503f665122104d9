//! What a relay says of itself and of the broker, for those who watch.

use events::amqp::{BrokerError, Queue};
use events::projection::{PROJECTIONS, ProjectionName};
use metrics::gauge;

use super::publisher::Publisher;
use super::{Relay, RelayError};
use crate::metrics::{RELAY_BROKER_CONNECTED, RELAY_LEADING, show_queues};

/// What this process's relay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayState {
    /// No connection to the broker; commands are accepted all the same.
    Disconnected,
    /// The log cannot be read, or its server takes no writes.
    WithoutLog,
    /// Another relay leads.
    Standby,
    Leading,
}

/// What this process knows of its relay and the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayStatus {
    pub state: RelayState,
    /// The queues at the last look.
    pub queues: Queues,
}

/// What the broker says of the queues of each of [`PROJECTIONS`], in their order.
pub type Queues = [QueuesOf; PROJECTIONS.len()];

/// Of one projection; `None` when there is no connection, or no such queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueuesOf {
    pub queue: Option<Queue>,
    pub dead_letters: Option<Queue>,
}

impl RelayStatus {
    /// The queue of the home feeds.
    #[must_use]
    pub fn feed_queue(&self) -> Option<Queue> {
        let of = PROJECTIONS
            .iter()
            .zip(&self.queues)
            .find(|(projection, _)| **projection == ProjectionName::Feed);
        of.and_then(|(_, queues)| queues.queue)
    }
}

impl Relay {
    pub(super) fn enter(&self, state: RelayState) {
        self.status.send_modify(|status| {
            status.state = state;
        });
        gauge!(RELAY_LEADING.name).set(f64::from(u8::from(state == RelayState::Leading)));
        let connected = matches!(state, RelayState::Standby | RelayState::Leading);
        gauge!(RELAY_BROKER_CONNECTED.name).set(f64::from(u8::from(connected)));
        if !connected {
            self.found(Queues::default());
        }
    }

    /// Looks at the queues, and shows them.
    pub(super) async fn look_at_queues(&self, publisher: &Publisher) -> Result<(), RelayError> {
        let queues = publisher.queues().await?;
        self.found(queues.unwrap_or_default());
        // Where others still take what is published, the broker does not say that this one is missing.
        if queues.is_some_and(|queues| queues.iter().any(|of| of.queue.is_none())) {
            return Err(BrokerError::QueueGone.into());
        }
        Ok(())
    }

    fn found(&self, queues: Queues) {
        show_queues(queues);
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.queues, queues) != queues);
    }
}
