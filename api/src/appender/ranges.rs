//! Room in the log for what is appended next.
//!
//! The log is kept in ranges of positions, and an event needs one that is open. The next is opened while half a range is
//! left, so that nobody waits for it and a failure can be tried again.

use events::Position;
use events::store::append::Head;
use events::store::ranges;
use sqlx::PgConnection;

/// See the module.
#[derive(Debug)]
pub(super) struct Ranges {
    /// How many positions a new range has.
    size: i64,
    /// How far there is room, as far as this appender knows: others open ranges too.
    room: Position,
    /// Where the log ended when it was seen last.
    pub(super) seen: Position,
}

impl Ranges {
    pub(super) const fn of(size: i64) -> Self {
        Self { size, room: Position::START, seen: Position::START }
    }

    pub(super) fn ends_at(&mut self, head: Head) {
        self.seen = head.position;
    }

    /// The log is not what it was. What was seen of it does not count any more.
    pub(super) fn forget(&mut self) {
        *self = Self::of(self.size);
    }

    /// Opens the next range in time. That it cannot be opened is an error only if there is no room for `events` more.
    pub(super) async fn open_ahead(
        &mut self,
        log: &mut PgConnection,
        events: usize,
    ) -> Result<(), sqlx::Error> {
        let needed = after(self.seen, events);
        let wanted = Position(needed.0 + self.size / 2);
        match self.make_room(log, wanted).await {
            Err(error) if needed <= self.room => {
                tracing::warn!(%error, room = self.room.0, "the next range of the log could not be opened yet");
                Ok(())
            }
            end => end,
        }
    }

    /// Makes sure that `events` more have room after `head`.
    pub(super) async fn make_room_at(
        &mut self,
        log: &mut PgConnection,
        head: Head,
        events: usize,
    ) -> Result<(), sqlx::Error> {
        self.make_room(log, after(head.position, events)).await
    }

    async fn make_room(
        &mut self,
        log: &mut PgConnection,
        through: Position,
    ) -> Result<(), sqlx::Error> {
        if through > self.room {
            self.room = ranges::open(log, through, self.size).await?;
        }
        Ok(())
    }
}

fn after(head: Position, events: usize) -> Position {
    Position(head.0.saturating_add(i64::try_from(events).unwrap_or(i64::MAX)))
}
