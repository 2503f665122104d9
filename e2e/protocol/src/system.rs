//! One state of everything: both databases, the broker, and what each process has in its memory.

use std::hash::{Hash, Hasher};

use crate::broker::Broker;
use crate::feed::Feed;
use crate::outbox::Outbox;
use crate::projector::Projector;
use crate::protocol::Bounds;
use crate::relay::Relay;
use crate::seen::Seen;

/// A place in the log, counted from 1; 0 is before the first event.
pub type Position = u8;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The position of the log's last event.
    pub head: Position,
    pub outbox: Outbox,
    pub relays: Vec<Relay>,
    pub broker: Broker,
    pub projectors: Vec<Projector>,
    pub feed: Feed,
    /// How many more faults may happen.
    pub faults_left: u8,
    pub seen: Seen,
}

impl System {
    /// Nothing has happened, nobody has started.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            head: 0,
            outbox: Outbox::default(),
            relays: vec![Relay::default(); bounds.relays],
            broker: Broker::default(),
            projectors: vec![Projector::default(); bounds.projectors],
            feed: Feed::default(),
            faults_left: bounds.faults,
            seen: Seen::default(),
        }
    }

    /// Whether the whole log was applied, and published where there is a broker.
    pub fn is_caught_up(&self) -> bool {
        let is_published = self.broker.gone || self.outbox.position == self.head;
        is_published && self.feed.rows.position == self.head && self.feed.rows.steps_left == 0
    }
}

/// States that cannot be told apart by what can still happen count as one, which makes them far
/// fewer:
///
/// - Relays are interchangeable, and so are projectors. (The checker's own symmetry reduction serves
///   only its depth-first search, whose counterexamples are long.)
/// - Fences are only compared. One that can never be the latest again is as good as any other such,
///   and the others are counted from the oldest that can.
impl Hash for System {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.head, self.outbox.position, self.outbox.led).hash(hasher);
        (&self.broker.queue, self.broker.gone, self.faults_left, &self.seen).hash(hasher);

        let latest = self.outbox.fence;
        let mut relays: Vec<_> =
            self.relays.iter().map(|relay| (relay.fence == latest, &relay.phase)).collect();
        relays.sort_unstable();
        relays.hash(hasher);

        let oldest = self.feed.oldest_fence();
        let worth = |fence: u8| (fence + 1).saturating_sub(oldest);
        for rows in self.feed.versions() {
            (rows.position, worth(rows.fence), &rows.applied).hash(hasher);
            (rows.steps_left, rows.under_way).hash(hasher);
        }
        let mut projectors: Vec<_> = self
            .projectors
            .iter()
            .enumerate()
            .map(|(p, projector)| (self.broker.active == Some(p), projector.identity(worth)))
            .collect();
        projectors.sort_unstable();
        projectors.hash(hasher);
    }
}
