//! To which history a position belongs.
//!
//! A log that was restored from a backup, or whose server was followed by a standby that lacked its
//! last commits, grows again: then there are two histories, with the same positions and other events.
//! **Invariant**: whoever keeps a position of the log keeps the id of the event there beside it. The
//! log is only appended to, so two that have the same event at a position have the same up to there.

use std::fmt;

use uuid::Uuid;

use crate::id::Position;
use crate::recorded::RecordedEvent;

/// A position and the id of the event there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub position: Position,
    pub event_id: Uuid,
}

impl Mark {
    /// Before the first event, which is part of every history.
    pub const START: Self = Self { position: Position::START, event_id: Uuid::nil() };
}

impl From<&RecordedEvent> for Mark {
    fn from(event: &RecordedEvent) -> Self {
        Self { position: event.position, event_id: event.event_id }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {} (event {})", self.position, self.event_id)
    }
}
