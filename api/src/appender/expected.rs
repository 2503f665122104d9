//! Where an appender expects the log to end.

use std::time::Duration;

use events::store::append::Head;
use tokio::time::Instant;

/// How long an appender that was overtaken takes the lock first. Of several that append at once hardly
/// any would be alone, and each time costs two round trips: one in a second is nothing.
const LOCK_FIRST_FOR: Duration = Duration::from_secs(1);

/// Where the log ended when it was last seen, which is where it ends while nobody else appends.
#[derive(Debug, Default)]
pub(super) struct Expected {
    head: Option<Head>,
    lock_first_until: Option<Instant>,
}

impl Expected {
    /// The head, unless the lock is to be taken first.
    pub(super) fn head(&self) -> Option<Head> {
        match self.lock_first_until {
            Some(until) if Instant::now() < until => None,
            _ => self.head,
        }
    }

    pub(super) fn ends_at(&mut self, head: Head) {
        self.head = Some(head);
    }

    /// Another appends too.
    pub(super) fn was_overtaken(&mut self) {
        self.head = None;
        self.lock_first_until = Some(Instant::now() + LOCK_FIRST_FOR);
    }
}

#[cfg(test)]
mod tests {
    use events::{Position, UserId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_overtaken_takes_the_lock_first_for_a_while() {
        let head = |at| Head { position: Position(at), recorded_at: None, last_user_id: UserId(0) };
        let mut expected = Expected::default();
        assert_eq!(expected.head(), None, "at the start the log is to be looked at");
        expected.ends_at(head(7));
        assert_eq!(expected.head(), Some(head(7)));
        expected.was_overtaken();
        expected.ends_at(head(9));
        assert_eq!(expected.head(), None);
        tokio::time::advance(LOCK_FIRST_FOR).await;
        assert_eq!(expected.head(), Some(head(9)), "the last that was seen");
    }
}
