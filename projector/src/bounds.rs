//! What bounds feeds, and the work on them: the same for all that write the read model.

use crate::feed::dormancy::DormantAfter;
use crate::feed::pulled::PullFrom;

/// The most events in one transaction. Larger ones no longer raise the rate; they only make those
/// who wait for the first event wait for the last.
pub const APPLY_MAX_EVENTS: usize = 2_048;

/// About the most rows that one transaction writes or takes out: half a second's worth.
pub const APPLY_MAX_ROWS: i64 = 250_000;

/// How many of its newest tweets a feed keeps, unless told otherwise: fifty pages of twenty.
pub const FEED_KEPT_DEFAULT: i64 = 1_000;

/// The most that a feed can keep: what somebody brings in or takes away who is followed or unfollowed, and the feed of somebody
/// who leaves, are rows of one transaction.
pub const FEED_KEPT_MAX: i64 = APPLY_MAX_ROWS;

/// How many readers a tweet may have to enter all their feeds at once, unless told otherwise: three hundredths of a
/// second's worth, for which everyone else's events wait.
pub const FAN_OUT_ROWS_DEFAULT: i64 = 12_500;

/// How many readers an author has whose tweets are pulled, unless told otherwise.
pub const PULL_FROM_DEFAULT: i64 = 50_000;

/// After how many days without reading somebody is dormant, unless told otherwise: who was away for longer is seldom back the
/// next day.
pub const DORMANT_AFTER_DAYS_DEFAULT: u64 = 30;

/// The most rows of one step. Commands that come meanwhile wait at their commit until the server's log is on the disk up
/// to there, and a row is 200 bytes of it: half a megabyte a step.
const STEP_ROWS_MAX: i64 = 2_500;

/// What bounds feeds, and the work on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many of its newest tweets a feed keeps.
    pub kept: i64,
    /// A tweet that has more readers enters their feeds step by step.
    pub fan_out_rows: i64,
    /// What a generation is begun with: tweets of authors with so many readers or more are pulled.
    pub pull_from: PullFrom,
    /// Who is dormant; nobody, if `None`.
    pub dormant_after: Option<DormantAfter>,
}

impl Bounds {
    /// Feeds that keep their newest `kept` tweets.
    #[must_use]
    pub const fn keeping(kept: i64) -> Self {
        let pull_from = PullFrom(PULL_FROM_DEFAULT);
        Self { kept, fan_out_rows: FAN_OUT_ROWS_DEFAULT, pull_from, dormant_after: None }
    }

    /// The rows of one step.
    #[must_use]
    pub fn step_rows(self) -> i64 {
        self.fan_out_rows.min(STEP_ROWS_MAX)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::keeping(FEED_KEPT_DEFAULT)
    }
}
