//! What only an onlooker knows: the properties need it, no part of the system reads it.

use std::collections::BTreeSet;

use crate::broker::Slice;
use crate::outbox::Outbox;
use crate::system::Position;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Events above the cursor whose confirm has reached a relay.
    confirmed: BTreeSet<Position>,
    /// The last event whose transaction ever committed, lost again or not.
    committed: Position,
    pub broken: Option<Broken>,
}

/// What was done and must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    CursorPassedUnconfirmed,
    CursorMovedBackward,
    CursorMovedByDeposed,
    AcknowledgedUncommitted,
    WrittenByRelieved,
}

impl Seen {
    /// The confirm of `slice` has reached a relay.
    pub fn confirm(&mut self, slice: Slice, cursor: Position) {
        self.confirmed.extend((slice.first..=slice.last).filter(|position| *position > cursor));
    }

    /// A relay with `fence` has moved the cursor from where it was in `before` to `position`.
    pub fn cursor_moved(&mut self, before: &Outbox, fence: u8, position: Position) {
        let mut passed = before.position + 1..=position;
        if position < before.position {
            self.broke(Broken::CursorMovedBackward);
        }
        if fence != before.fence && position != before.position {
            self.broke(Broken::CursorMovedByDeposed);
        }
        if !passed.all(|position| self.confirmed.contains(&position)) {
            self.broke(Broken::CursorPassedUnconfirmed);
        }
        self.confirmed.retain(|confirmed| *confirmed > position);
    }

    /// A projector has committed a transaction that ends with `last`.
    pub fn committed(&mut self, last: Position, is_relieved: bool) {
        self.committed = self.committed.max(last);
        if is_relieved {
            self.broke(Broken::WrittenByRelieved);
        }
    }

    /// The broker has let go of `slice`.
    pub fn acknowledged(&mut self, slice: Slice) {
        if slice.last > self.committed {
            self.broke(Broken::AcknowledgedUncommitted);
        }
    }

    /// The read model was once further than it is now.
    pub fn is_behind(&self, checkpoint: Position) -> bool {
        checkpoint < self.committed
    }

    fn broke(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }
}
