//! The row of `outbox`, and the statements of `events/src/store/outbox.rs`. The log's database
//! commits with `synchronous_commit = on`, so that a crash of it loses nothing.

use crate::mutation::Mutation;
use crate::system::Position;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbox {
    pub position: Position,
    pub fence: u8,
    /// `leased_until` is still to come.
    pub led: bool,
}

impl Outbox {
    /// `outbox::take_lead`
    pub fn take_lead(&mut self) -> (u8, Position) {
        self.fence += 1;
        self.led = true;
        (self.fence, self.position)
    }

    /// `outbox::move_cursor`: whether the row was updated.
    pub fn move_cursor(&mut self, fence: u8, position: Position, mutation: Mutation) -> bool {
        let (fits, forward) = (fence == self.fence, self.position <= position);
        let updated = match mutation {
            Mutation::CursorIsSetBlindly => true,
            Mutation::CursorIgnoresFence => forward,
            _ => fits && forward,
        };
        if updated {
            self.position = position;
            self.led = true;
        }
        updated
    }

    /// `outbox::release_lead`
    pub fn release_lead(&mut self, fence: u8) {
        if fence == self.fence {
            self.led = false;
        }
    }
}
