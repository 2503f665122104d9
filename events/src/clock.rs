//! Where time comes from. Nothing else reads the system's clock.

use chrono::{DateTime, SubsecRound, Utc};

/// Tells the time, in whole microseconds because that is what PostgreSQL keeps.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    read: fn() -> DateTime<Utc>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub const fn system() -> Self {
        Self { read: Utc::now }
    }

    /// A clock that shows what `read` returns, for tests.
    #[must_use]
    pub const fn showing(read: fn() -> DateTime<Utc>) -> Self {
        Self { read }
    }

    /// The time now, cut to microseconds: a timestamp answered to a client is then the very one
    /// that is stored.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        (self.read)().trunc_subsecs(6)
    }
}
