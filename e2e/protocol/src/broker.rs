//! The queue `rookery.feed` behind its exchange, with single active consumer.

use crate::system::Position;

/// The broker refuses more: `QUEUE_MAX_BYTES` with `reject-publish`.
const QUEUE_MAX: usize = 2;

/// `PREFETCH` of `projector/src/consume/subscription.rs`.
pub const PREFETCH: usize = 2;

/// A message: the events from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice {
    pub first: Position,
    pub last: Position,
}

impl Slice {
    /// Whether these two have events in common, but not all of them.
    pub fn overlaps(self, other: Self) -> bool {
        self != other && self.first <= other.last && other.first <= self.last
    }
}

/// What the broker says to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    Ack,
    Nack,
    /// No queue is bound: it comes back, with an acknowledgement.
    Returned,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broker {
    /// What waits; `None` while nobody has declared the queue.
    pub queue: Option<Vec<Slice>>,
    /// The projector that is the active consumer.
    pub active: Option<usize>,
    /// It is away, for longer than anyone looks.
    pub gone: bool,
}

impl Broker {
    /// `amqp::declare_topology`
    pub fn declare_topology(&mut self) {
        self.queue.get_or_insert_default();
    }

    pub fn publish(&mut self, slice: Slice) -> Answer {
        if self.is_full() {
            return Answer::Nack;
        }
        self.queue.as_mut().map_or(Answer::Returned, |queue| {
            queue.push(slice);
            Answer::Ack
        })
    }

    pub fn is_full(&self) -> bool {
        self.len() >= QUEUE_MAX
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, Vec::len)
    }

    /// The next message goes to a consumer, and stays the broker's until it is acknowledged.
    pub fn deliver(&mut self) -> Slice {
        self.waiting().remove(0)
    }

    /// What was delivered and not acknowledged comes back to where it was.
    pub fn take_back(&mut self, unacknowledged: Vec<Slice>) {
        if let Some(queue) = &mut self.queue {
            queue.splice(..0, unacknowledged);
        }
    }

    /// The messages that wait, where there are some.
    pub fn waiting(&mut self) -> &mut Vec<Slice> {
        self.queue.as_mut().expect("messages wait in a queue")
    }
}
